"""What is fuzzed: each target gives a function that takes bytes, and passes on what a caller is not told to expect.

A target is made rather than being a function itself, so that what it imports can be instrumented at that moment.
"""

import argparse
import logging
import os
import socket
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

from irvis.runtime.errors import IrvisError

Run = Callable[[bytes], Any]
LONGEST = 5000  # characters of a line that a person reads
SMALL = 1 << 16  # pixels: a fuzzer learns nothing from work of seconds
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where there is one, files never reach a disk


def one_line(function: Run, *usage: type) -> Run:
    """Take an error that is meant, IrvisError or of usage, and check that it is a line; let others pass."""

    def run(data: bytes) -> Any:
        try:
            return function(data)
        except (IrvisError, *usage) as error:
            line = str(error)
            assert line, "an empty line"
            assert len(line) <= LONGEST, f"a line of {len(line)} characters"
            assert line.isprintable() or usage, f"a line that no terminal should see: {line!r}"
        return None

    return run


def of_file(name: str, read: Callable[[Path], Any]) -> Run:
    """Return the function of bytes for one of a file, that they are the content of."""
    folder = tempfile.TemporaryDirectory(prefix="irvis-fuzz-", dir=MEMORY)
    path = Path(folder.name) / name

    def run(data: bytes, _: Any = folder) -> Any:
        path.write_bytes(data)
        return read(path)

    return one_line(run)


def sidecar() -> Run:
    from irvis.runtime.sidecar import check_machine, read_sidecar

    def read(path: Path) -> None:
        found = read_sidecar(path.with_suffix(""))
        found.takes_frames, found.warning, found.rebuild_command((480, 640))
        check_machine(found, "8.5.2.2", "Xavier", "7.2")

    return of_file("x.engine.json", read)


def registration() -> Run:
    from irvis.runtime.registration.homography import Registration
    from irvis.runtime.registration.warp import Warp

    def read(path: Path) -> None:
        found = Registration.load(path)
        height, width = found.visible_size
        if height * width <= SMALL:
            Warp(found, crop=True)

    return of_file("registration.json", read)


def points() -> Run:
    from irvis.runtime.registration.points import fit, read_points

    def read(path: Path) -> None:
        found = read_points(path)
        if len(found) <= 24:
            fit(found)

    read_json, read_csv = of_file("points.json", read), of_file("points.csv", read)
    return lambda data: (read_json if data[:1] == b"[" else read_csv)(data)


def uri() -> Run:
    from irvis.runtime.cameras.capture import pipeline_of
    from irvis.runtime.cameras.uri import parse_uri, positive_number, whole_number, yes_or_no

    kinds: Dict[str, Callable[[str], Any]] = {"loop": yes_or_no, "fps": positive_number}

    def read(data: bytes) -> None:
        found = parse_uri(data.decode("utf-8", "surrogateescape"))
        for name in found.options:
            found.option(name, kinds.get(name, whole_number), None)
        if found.scheme in ("csi", "rtsp"):
            # What stands in an address must not become an element of the pipeline.
            assert pipeline_of(found, "visible").count("!") == {"csi": 6, "rtsp": 4}[found.scheme]

    return one_line(read)


def usage() -> Run:
    from irvis.benchmarks.roofline.command import _precisions
    from irvis.export.build_engine import parse_mebibytes, parse_tactic_sources
    from irvis.runtime.ros.settings import Settings
    from irvis.runtime.sizes import parse_size
    from irvis.runtime.web.server import parse_address

    kinds = (
        parse_size,
        parse_address,
        parse_tactic_sources,
        parse_mebibytes,
        _precisions,
        lambda text: Settings(infrared_topic=text),
    )
    return one_line(
        lambda data: kinds[data[0] % len(kinds)](data[1:].decode("utf-8", "replace")) if data else None,
        argparse.ArgumentTypeError,
        ValueError,
    )


def report() -> Run:
    from irvis.benchmarks.report import compare
    from irvis.benchmarks.report.file import read_report
    from irvis.benchmarks.report.text import to_markdown

    def read(path: Path) -> None:
        found = read_report(path)
        to_markdown([found])
        compare.find_obstacles(found, found)
        if len(found["latencies_ms"]) < 100:
            compare.to_text(("a", "b"), found, found)

    return of_file("report.json", read)


def profile() -> Run:
    from irvis.export.layer_profile import parse_inspector, read_profile

    def read(path: Path) -> None:
        found = read_profile(path)
        timed = [layer["median_ms"] for layer in found["layers"] if layer["median_ms"] is not None]
        sum(sorted(timed)), "x".join(map(str, found["size"])), f"{found['median_ms']:.2f}"
        [layer["name"].split() for layer in found["layers"]]

    def inspect(data: bytes) -> None:
        parse_inspector(data.decode("utf-8", "replace"))

    read_document, read_inspector = of_file("x.profile.json", read), one_line(inspect)
    return lambda data: (read_inspector if b'"Layers"' in data else read_document)(data)


def efficiencies() -> Run:
    from irvis.benchmarks.roofline.efficiency import as_json, read_efficiencies

    return of_file("efficiency.json", lambda path: as_json(read_efficiencies(path, "tensorrt")))


def pairs() -> Run:
    from irvis.runtime.pairs import pairs_of

    def read(data: bytes) -> None:
        names = [name for name in data.replace(b"\0", b"").split(b"\n") if 0 < len(name) <= 60][:12]
        with tempfile.TemporaryDirectory(prefix="irvis-fuzz-", dir=MEMORY) as folder:
            for name in names:
                parts = [part for part in name.split(b"/")[-3:] if part not in (b"", b".", b"..")]
                path = os.path.join(os.fsencode(folder), *parts)
                try:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    with open(path, "wb"):
                        pass
                except OSError:
                    continue  # a name that is a folder already
            for pair in pairs_of(folder):
                assert pair.infrared.is_file() and pair.visible.is_file()  # noqa: PT018

    return one_line(read)


def image() -> Run:
    from irvis.runtime.images import read_infrared, read_visible

    read_one, read_other = of_file("x.png", read_infrared), of_file("x.png", read_visible)
    return lambda data: (read_one(data), read_other(data))


def onnx_wire() -> Run:
    from irvis.export.onnx_wire import fix_shape, input_shape, is_onnx, node_label

    def read(data: bytes) -> None:
        if is_onnx(data):
            for index in (-1, 0, 1):
                assert isinstance(node_label(data, index), str)
            input_shape(data, "infrared")
            fix_shape(data, "infrared", (1, 1, 48, 64))

    # Of what ``is_onnx`` takes, a message within may still be none, which ValueError says.
    return one_line(read, ValueError)


def onnx_planes() -> Run:
    from irvis.benchmarks.roofline.work import group_works
    from irvis.export.check_onnx import find_obstacles
    from irvis.export.fixed_shapes import fix_shapes, load_planes_onnx
    from irvis.export.fused_groups import fused_groups, fused_kernels

    def read(path: Path) -> None:
        model = load_planes_onnx(path)
        find_obstacles(model)
        fixed, shapes = fix_shapes(model, (16, 16))
        fused_groups(fused_kernels(fixed, shapes), shapes)
        group_works(fixed, shapes, "int8")

    return of_file("x.onnx", read)


def onnx_half() -> Run:
    import numpy as np

    from irvis.export.half_precision import HalfPrecision

    plane = np.full((16, 16), 0.5, np.float32)
    return of_file("x.onnx", lambda path: HalfPrecision(path)(plane, plane))


def onnx_teacher() -> Run:
    from irvis.student.teachers.any_onnx import OnnxTeacher

    return of_file("x.onnx", lambda path: OnnxTeacher(path, "fused", "feature"))


def onnx_session() -> Run:
    from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend

    return of_file("x.onnx", lambda path: OnnxRuntimeBackend(path, ("CPUExecutionProvider",), threads=1))


def checkpoint() -> Run:
    from irvis.student.checkpoint import load_student

    safetensors, pickled = of_file("x.safetensors", load_student), of_file("x.pth", load_student)
    return lambda data: (pickled if data[:2] in (b"PK", b"\x80\x02") else safetensors)(data)


def crop_pack() -> Run:
    from irvis.student.crop_pack import read_pack

    return of_file("crops.npz", read_pack)


def teacher() -> Run:
    from irvis.student.teachers import load

    def read(data: bytes) -> None:
        spec = data.decode("utf-8", "surrogateescape")
        published, onnx = load.PUBLISHED_FORM.fullmatch(spec), load.ONNX_FORM.fullmatch(spec)
        if published or onnx or not load.MODULE_FORM.fullmatch(spec):  # else a person asks for code to run
            load.open_teacher(spec)

    return one_line(read)


def web() -> Run:
    import numpy as np
    from aiohttp import web as aiohttp

    from irvis.runtime.web import click, live_view
    from irvis.runtime.web.server import Server

    faults = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            faults.append(record)

    keep = Keep(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("aiohttp.server", Server.__module__)]
    for logger in loggers:
        logger.addHandler(keep)
    sizes = ((48, 64), (48, 64))

    async def describe(request: aiohttp.Request) -> aiohttp.Response:
        return aiohttp.json_response(click._describe_fit(await click._read_pairs(request, sizes)))

    routes = [click._picture("/visible.png", np.zeros((48, 64), np.uint8)), aiohttp.post("/fit", describe)]
    clicked = Server(routes, 0, token="fuzzing-it")
    wait_s, live_view.WAIT_S = live_view.WAIT_S, 0.01
    watched = live_view.LiveView(0, token="fuzzing-it")

    def read(data: bytes) -> None:
        server = watched._server if b"/watch" in data or b"/snapshot" in data else clicked
        with socket.create_connection(("127.0.0.1", server.port), 5) as client:
            client.settimeout(5)
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: client.recv(65536), b""))
            except ConnectionError:
                answer = b""
        while faults:
            record = faults.pop()
            if record.exc_info and "BadHttpMessage" not in repr(record.exc_info[0].__mro__):
                raise record.exc_info[1]
        assert not answer.startswith(b"HTTP/1.1 500"), answer[:300]  # 503 is an answer where all is taken

    def close() -> None:
        for logger in loggers:
            logger.removeHandler(keep)
        live_view.WAIT_S = wait_s
        clicked.close()
        watched.close()

    read.close = close  # type: ignore[attr-defined]
    return read


TARGETS: Dict[str, Callable[[], Run]] = {
    make.__name__: make
    for make in (
        sidecar,
        registration,
        points,
        uri,
        usage,
        report,
        profile,
        efficiencies,
        pairs,
        image,
        onnx_wire,
        onnx_planes,
        onnx_half,
        onnx_teacher,
        onnx_session,
        checkpoint,
        crop_pack,
        teacher,
        web,
    )
}
JSON: Tuple[str, ...] = ("sidecar", "registration", "points", "report", "profile", "efficiencies")
