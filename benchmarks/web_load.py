"""What does the live view cost the fusing loop, and does the loop keep its rate while the view is under attack?

    python -m irvis.benchmarks.web_load --rounds 5 --seconds 5

First without viewers and then with one, it times what the view takes per frame in the loop's own thread. Then quiet and
attacked intervals take turns.

The loop runs at 30 Hz on a model that does nothing, with one honest viewer throughout. A second process attacks over
loopback with all of ATTACKS at once. It takes processor time from the loop, which a remote attacker would not.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import socket
import struct
import sys
import time
from typing import Any, Dict, List, NamedTuple, Optional
from urllib.parse import urlsplit

import numpy as np

from irvis.benchmarks.loop_cost import memory_mb, open_loop
from irvis.benchmarks.soak import Spectator
from irvis.runtime.cli import guarded
from irvis.runtime.outputs import Web
from irvis.runtime.sizes import parse_count, parse_size
from irvis.runtime.web.live_view import LiveView

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
WATCH = (
    b"GET /watch HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
MASK = bytes(4)


class Attack(NamedTuple):
    """What a client sends: ``start`` once, then ``again`` over and over, without reading, until it is disconnected."""

    start: bytes
    again: bytes = b""
    pause_s: float = 0.0  # between two of ``again``


ATTACKS: Dict[str, Attack] = {
    "connects and vanishes": Attack(b""),
    "vanishes amid a request": Attack(GET[:20]),
    "vanishes amid a frame": Attack(WATCH + b"\x81\xa0" + MASK),
    "a header by the byte": Attack(GET + b"X-Slow: ", b"x", 1.0),
    "a body by the byte": Attack(POST + b"Content-Length: 60000\r\n\r\n", b"x", 1.0),
    "requests without end": Attack(b"", (GET + b"\r\n") * 100),
    "snapshots without end": Attack(b"", GET.replace(b"/ ", b"/snapshot.png ") + b"\r\n", 0.01),
    "a body without end": Attack(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + bytes(0x10000) + b"\r\n"),
    "a compressed bomb": Attack(
        POST + b"Content-Encoding: gzip\r\nContent-Length: 60000\r\n\r\n" + b"\x1f\x8b\x08" * 99
    ),
    "a header too long": Attack(GET + b"X: " + b"x" * 60_000),
    "headers too many": Attack(GET + b"X: y\r\n" * 5000),
    "a token too long": Attack(GET.replace(b"/ ", b"/?token=" + b"x" * 8000 + b" ") + b"\r\n"),
    "HTTP/0.9": Attack(b"GET /\r\n"),
    "TLS": Attack(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256))),
    "two lengths": Attack(
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /watch HTTP/1.1\r\n\r\n"
    ),
    "a length that is none": Attack(POST + b"Content-Length: +5\r\n\r\nhello"),
    "a method that is none": Attack(b"\x00\xff\r\n\r\n"),
    "protocols without end": Attack(WATCH[:-2] + b"Sec-WebSocket-Protocol: a, b\r\n\r\n"),
    "reads no picture but asks": Attack(WATCH, (b"\x81\x81" + MASK + b"x") * 10, 0.01),
    "messages without end": Attack(WATCH, (b"\x81\x81" + MASK + b"x") * 1000),
    "pings without end": Attack(WATCH, (b"\x89\x80" + MASK) * 1000),
    "a message of nothings": Attack(WATCH + b"\x01\x80" + MASK, (b"\x00\x80" + MASK) * 1000),
    "a message too long": Attack(WATCH + b"\x82\xff" + struct.pack(">Q", 1 << 62) + MASK, bytes(1000)),
    "an unmasked frame": Attack(WATCH + b"\x81\x01x"),
    "a compressed frame": Attack(WATCH + b"\xc1\x81" + MASK + b"x"),
    "a frame of no kind": Attack(WATCH + b"\x8b\x80" + MASK),
    "a close of one byte": Attack(WATCH + b"\x88\x81" + MASK + b"x"),
}


async def strike(attack: Attack, port: int, seconds: float) -> None:
    """Attack once, for at most ``seconds``, and disconnect with a reset instead of a close."""
    end_s = time.monotonic() + seconds
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), seconds)
        try:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.write(attack.start)
            while attack.again and time.monotonic() < end_s:
                writer.write(attack.again)
                await asyncio.wait_for(writer.drain(), max(end_s - time.monotonic(), 0.01))
                await asyncio.sleep(attack.pause_s)
            await asyncio.sleep(0.01)
        finally:
            writer.transport.abort()


def besiege(port: int, going: Any, strikes: Any) -> None:
    """Run all attacks at once while the event is set, and count them; for a separate process."""

    async def repeat(attack: Attack) -> None:
        while True:
            if going.is_set():
                await strike(attack, port, 2.0)
                strikes.value += 1
            await asyncio.sleep(0.01)

    async def all_at_once() -> None:
        await asyncio.gather(*(repeat(attack) for attack in ATTACKS.values() for _ in range(4)))

    asyncio.run(all_at_once())


class Interval(NamedTuple):
    """What was measured while the loop ran for some seconds."""

    rate_hz: float
    latencies_ms: List[float]
    show_ms: List[float]  # what the live view took of the loop's thread, frame by frame


def measure(loop: Any, output: Web, seconds: float) -> Interval:
    """Take and show frames for ``seconds``."""
    latencies_ms, show_ms = [], []
    started_s = time.monotonic()
    while time.monotonic() - started_s < seconds:
        frame = loop.read(1.0)
        if frame is not None:
            fused_s = time.perf_counter()
            output.show(frame, loop.status)
            show_ms.append((time.perf_counter() - fused_s) * 1e3)
            latencies_ms.append(frame.latency_ms)
    return Interval(len(latencies_ms) / (time.monotonic() - started_s), latencies_ms, show_ms)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="web_load", description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=(120, 160), metavar="HEIGHTxWIDTH", help="(120x160)")
    parser.add_argument("--rounds", type=parse_count, default=5, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="per interval (default: %(default)g)")
    arguments = parser.parse_args(argv)
    return guarded("web_load", lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> int:
    context = multiprocessing.get_context("spawn")
    going, strikes = context.Event(), context.Value("q", 0)
    figures: Dict[bool, List[Interval]] = {False: [], True: []}
    with open_loop(arguments.size, realtime=True) as loop, LiveView(0) as view:
        output = Web(view)
        _print_cost("no viewer", measure(loop, output, arguments.seconds))
        Spectator(view.url).start()
        while not view.viewers:
            measure(loop, output, 0.1)
        _print_cost("one viewer", measure(loop, output, arguments.seconds))
    print()
    print("| | rate Hz | latency ms p50 | p90 | p99 | max | memory MB | descriptors | attacks |")
    print("|---|---|---|---|---|---|---|---|---|")
    with open_loop(arguments.size, realtime=True) as loop, LiveView(0) as view:
        port = urlsplit(view.url).port
        output = Web(view)
        Spectator(view.url).start()
        attacker = context.Process(target=besiege, args=(port, going, strikes), daemon=True)
        attacker.start()
        measure(loop, output, 3.0)  # until the attacker's imports are done
        try:
            for index in range(2 * arguments.rounds):
                attacked = index % 2 == 1
                (going.set if attacked else going.clear)()
                measure(loop, output, 0.5)  # until it has begun, or ended
                before = strikes.value
                interval = measure(loop, output, arguments.seconds)
                figures[attacked].append(interval)
                held = f"{memory_mb():.1f} | {len(os.listdir('/proc/self/fd'))} | {strikes.value - before}"
                row = _row("attacked" if attacked else "quiet", interval.rate_hz, interval.latencies_ms)
                print(f"| {row} | {held} |", flush=True)
        finally:
            attacker.kill()
            attacker.join()
    for attacked, name in ((False, "all quiet"), (True, "all attacked")):
        rate_hz = float(np.mean([interval.rate_hz for interval in figures[attacked]]))
        latencies_ms = [each for interval in figures[attacked] for each in interval.latencies_ms]
        print(f"| {_row(name, rate_hz, latencies_ms)} | | | |")
    ratios = [under.rate_hz / quiet.rate_hz for quiet, under in zip(figures[False], figures[True])]
    print(f"rate attacked / quiet: median {np.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    return 0


def _print_cost(viewers: str, interval: Interval) -> None:
    p50, p99 = np.percentile(interval.show_ms or [np.nan], (50, 99))
    print(f"the live view's cost per frame, {viewers}: {p50:.4f} ms, p99 {p99:.4f}", flush=True)


def _row(name: str, rate_hz: float, latencies: List[float]) -> str:
    p50, p90, p99, most = np.percentile(latencies or [np.nan], (50, 90, 99, 100))
    return f"{name} | {rate_hz:.2f} | {p50:.1f} | {p90:.1f} | {p99:.1f} | {most:.1f}"


if __name__ == "__main__":
    sys.exit(main())
