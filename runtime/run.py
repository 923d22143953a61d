"""Fuse two cameras live: ``irvis run --infrared URI --visible URI``."""

import argparse
import contextlib
import logging
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from tqdm import tqdm

from irvis.runtime import engine_cache
from irvis.runtime.cameras.pairing import SLOP_S
from irvis.runtime.cameras.uri import GRAMMAR, files_of_sources
from irvis.runtime.cli import INTERRUPTED
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import check_outputs, write_json
from irvis.runtime.loop import DEADLINE_MS, FusionLoop
from irvis.runtime.outputs import Bar, Journal, Output, Recording, Web, Window, fused_lines, stderr_takes_a_line
from irvis.runtime.sizes import parse_count
from irvis.runtime.video import FOURCC, is_video, video_writer

IDLE_S = 0.25
SAVING_S = 10.0  # in which no further Ctrl-C costs the files that are being completed
FPS = 30.0  # of a recording, if the cameras do not report theirs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis run``."""
    parser.add_argument("--infrared", required=True, metavar="URI", help=f"the infrared camera: {GRAMMAR}")
    parser.add_argument("--visible", required=True, metavar="URI", help="the visible camera")
    parser.add_argument("--model", type=Path, help=".onnx, .engine, or irvis's own: student (default) or fast")
    parser.add_argument("--registration", type=Path, metavar="FILE", help="registration written by irvis calibrate")
    parser.add_argument("--crop", action="store_true", help="fuse only what both cameras see")
    parser.add_argument("--resize", action="store_true", help="fit frames of another size to the model's and back")
    parser.add_argument(
        "--slop-ms", type=_milliseconds, default=SLOP_S * 1e3, metavar="MS",
        help="the largest difference between the captures of a pair (default: %(default)g)",
    )  # fmt: skip
    for role in ("infrared", "visible"):
        parser.add_argument(
            f"--{role}-delay-ms", type=_milliseconds, default=0.0, metavar="MS",
            help=f"latency of the {role} camera's frames before they arrive, e.g. over a network (default: 0)",
        )  # fmt: skip
    parser.add_argument(
        "--deadline-ms", type=_milliseconds, default=DEADLINE_MS, metavar="MS",
        help="from the older capture to the fused frame; slower frames are counted as missed (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--smoothing", type=float, default=0.9, help="how slowly the 16-bit range follows the scene (%(default)s)"
    )
    parser.add_argument(
        "--every-frame", action="store_true", help="of recordings: fuse every pair, however long it takes"
    )
    parser.add_argument("--display", action="store_true", help="show the fused frames in a window; q ends")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=f"video to write ({' '.join(FOURCC)})")
    parser.add_argument(
        "--web",
        type=_address,
        nargs="?",
        const="8080",
        metavar="[HOST:]PORT",
        help="show the live view in a browser (default: 127.0.0.1:8080)",
    )
    parser.add_argument("--token", help="require this token from browsers, as ?token=...")
    parser.add_argument("--frames", type=parse_count, metavar="N", help="end after N fused frames")
    parser.add_argument("--duration", type=_seconds, metavar="S", help="end after S seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the final figures to this file")
    engine_cache.add_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis run``; return 0, or 130 after Ctrl-C. A recording is kept up to that point."""
    _check(arguments)
    ended_by: Optional[BaseException] = None
    with _Interrupts() as interrupts:
        with contextlib.ExitStack() as stack:
            for handler in logging.getLogger().handlers:  # a warning must not hold up a camera's thread, or the loop
                handler.addFilter(stderr_takes_a_line)
                stack.callback(handler.removeFilter, stderr_takes_a_line)
            loop = stack.enter_context(_open_loop(arguments))
            _tell(f"model: {arguments.model or 'the student that irvis ships'} ({loop.backend_name})")
            outputs = _open_outputs(arguments, loop, stack)
            started_s = time.monotonic()
            interrupts.only_noted = True
            try:
                _run(loop, outputs, arguments, started_s, interrupts)
            except (KeyboardInterrupt, IrvisError) as error:  # a recording is worth keeping up to this point
                ended_by = error
            interrupted = interrupts.came or isinstance(ended_by, KeyboardInterrupt)
            interrupts.hold()
            status, seconds = loop.status(), time.monotonic() - started_s
            try:
                stack.close()
            except IrvisError as error:  # a recording that cannot be completed costs no figures
                ended_by = error
        if arguments.json is not None:  # first: Ctrl-C may have ended whatever stdout is piped into
            try:
                write_json(arguments.json, {"seconds": seconds, **status})
            except IrvisError as error:  # a full disk, which costs no figures on stdout
                ended_by = error
        print(report(status, seconds), flush=True)
    if isinstance(ended_by, IrvisError):
        raise ended_by
    if not (interrupted or status["fused"]):
        raise IrvisError("no pair was fused; the figures above show what each camera delivered and what was bad")
    return INTERRUPTED if interrupted else 0


def report(status: Dict[str, Any], seconds: float) -> str:
    """Return the figures of a run, ``FusionLoop.status()``, as text."""
    lines = fused_lines(status, seconds)
    lines.append(f"pairs     {status['paired']} paired, of which {status['skipped']} were replaced by a newer one")
    for role in ("infrared", "visible"):
        source = status[role]
        lines.append(
            f"{role:<9} {source['frames']} frames, {source['fps']:.1f} a second, {source['dropped']} dropped, "
            f"{source['late']} late, {source['bad']} bad, {source['reconnects']} times reopened; {source['state']}"
        )
    return "\n".join(lines)


class _Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP: the first raises KeyboardInterrupt, the others only SAVING_S after it.

    Once ``only_noted`` is set, the first sets ``came`` and raises nothing: Python loses an exception that comes in the
    callback of a weak reference, and one that comes while a lock is taken may leave it locked.
    """

    def __init__(self) -> None:
        self.came = self.only_noted = False
        self._held_until_s = 0.0
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        in_main_thread = threading.current_thread() is threading.main_thread()  # only there may handlers be set
        found = {number: signal.getsignal(number) for number in signals if in_main_thread}
        self._before = {number: handler for number, handler in found.items() if callable(handler)}

    def hold(self) -> None:
        """Count as the first, for a run that ends by itself."""
        self._held_until_s = self._held_until_s or time.monotonic() + SAVING_S

    def __enter__(self) -> "_Interrupts":
        for number in self._before:
            signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        first, held = not self._held_until_s, time.monotonic() < self._held_until_s
        self.came = True
        self.hold()
        try:
            self._before[signal.Signals(number)](number, frame)
        except KeyboardInterrupt:
            if not (held or (first and self.only_noted)):
                raise


def _check(arguments: argparse.Namespace) -> None:
    if arguments.output is not None and not is_video(arguments.output):
        raise FileError(f"cannot write a video as {arguments.output}: its suffix must be one of {' '.join(FOURCC)}")
    recordings = files_of_sources((arguments.infrared, arguments.visible))
    check_outputs([arguments.output, arguments.json], [*recordings, arguments.model, arguments.registration])
    if arguments.token is not None and arguments.web is None:
        raise IrvisError("--token is for the live view: add --web")
    engine_cache.check_arguments(arguments)


def _tell(line: str) -> None:
    """Print a line; a log that takes none, on a full disk or without a reader, does not end the fusing."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def _open_loop(arguments: argparse.Namespace) -> FusionLoop:
    return FusionLoop(
        arguments.infrared,
        arguments.visible,
        arguments.model,
        slop_s=arguments.slop_ms / 1e3,
        delays_s=(arguments.infrared_delay_ms / 1e3, arguments.visible_delay_ms / 1e3),
        realtime=not arguments.every_frame,
        deadline_ms=arguments.deadline_ms,
        registration=arguments.registration,
        crop=arguments.crop,
        resize=arguments.resize,
        infrared_smoothing=arguments.smoothing,
        engine_cache=arguments.engine_cache,
        engine_size=arguments.engine_size,
    )


def _open_outputs(arguments: argparse.Namespace, loop: FusionLoop, stack: contextlib.ExitStack) -> List[Output]:
    outputs: List[Output] = []
    if arguments.output is not None:
        fps = loop.fps or FPS
        outputs.append(Recording(stack.enter_context(video_writer(arguments.output, fps)), fps, arguments.every_frame))
    if arguments.web is not None:
        from irvis.runtime.web.live_view import LiveView

        host, port = arguments.web
        view = stack.enter_context(LiveView(port, host, arguments.token))
        _tell(f"live view: {view.url}")
        outputs.append(Web(view))
    if arguments.display:
        outputs.append(Window())
    if sys.stderr.isatty():
        bar = stack.enter_context(tqdm(total=arguments.frames, desc="fusing", unit="frame"))
        outputs.append(Bar(bar))
    else:
        outputs.append(Journal(loop.latencies.deadline_ms))
    return outputs


def _run(
    loop: FusionLoop, outputs: List[Output], arguments: argparse.Namespace, started_s: float, interrupts: _Interrupts
) -> None:
    """Pass each fused frame to the outputs, until the loop or an output ends, the limit is reached or Ctrl-C comes."""
    while not interrupts.came and (arguments.duration is None or time.monotonic() - started_s < arguments.duration):
        ended = loop.ended  # before the wait: a pair, or a failure, may come while the outputs are idle
        frame = loop.read(IDLE_S)
        if frame is None:
            going = [output.idle(loop.status) for output in outputs]
            if ended or not all(going):
                return
            continue
        going = [output.show(frame, loop.status) for output in outputs]
        if not all(going) or frame.number + 1 == arguments.frames:
            return


def _address(text: str) -> Tuple[str, int]:
    try:
        from irvis.runtime.web.server import parse_address
    except ModuleNotFoundError as error:
        raise argparse.ArgumentTypeError(f"{error.name} is not installed: pip install 'irvis[web]'") from error
    return parse_address(text)


def _milliseconds(text: str) -> float:
    return _number(text, 60_000, "milliseconds")


def _seconds(text: str) -> float:
    return _number(text, 1e7, "seconds")


def _number(text: str, most: float, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise argparse.ArgumentTypeError(f"must be 0 to {most:.0f} {unit}. Got {text!r}")
    return value
