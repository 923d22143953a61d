"""The engine cache with real processes and locks; what builds is a stand-in that writes an engine's two files."""

import atexit
import dataclasses
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from irvis.export import engine as engine_module
from irvis.runtime import Fuser, ModelError, engine_cache
from irvis.runtime.engine_cache import WORK, Machine, cached_engine
from irvis.runtime.errors import FileError, FrameError
from irvis.runtime.files import write_bytes
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import SHIPPED_MODEL
from irvis.runtime.sidecar import Sidecar, read_sidecar, sidecar_path, write_sidecar

XAVIER = Machine("8.5.2.2", "Xavier", "7.2")
SIZE = (48, 64)


class Builder:
    """Writes an engine and its sidecar as ``build_engine`` does, first the temporaries, and counts the builds."""

    def __init__(self, machine: Machine = XAVIER) -> None:
        self.machine = machine
        self.built: List[Path] = []
        self.options: Any = None

    def __call__(self, onnx: Path, engine: Path, options: Any, say: Any) -> None:
        self.built.append(engine)
        self.options = options
        content = f"engine of {onnx}, {len(self.built)}".encode() * 100
        write_bytes(options.timing_cache, b"timings")
        write_bytes(engine, content)
        write_sidecar(engine, make_sidecar(onnx, content, options, self.machine))
        say("warning: a stand-in")


def make_sidecar(onnx: Path, engine: bytes, options: Any, machine: Machine) -> Sidecar:
    plane = {"shape": [1, 1, *options.size], "dtype": "float32"}
    return Sidecar(
        engine_sha256=hashlib.sha256(engine).hexdigest(),
        onnx_sha256=hashlib.sha256(onnx.read_bytes()).hexdigest(),
        onnx_name=onnx.name,
        tensorrt_version=machine.tensorrt_version,
        gpu_name=machine.gpu_name,
        compute_capability=machine.compute_capability,
        precision=options.precision,
        inputs={"infrared": plane, "visible": plane},
        outputs={"fused": plane},
        size=options.size,
        build_options={},
        build_seconds=1.0,
        measured_error=None,
        irvis_version="0.1.0",
    )


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    path = tmp_path / "student.onnx"
    path.write_bytes(SHIPPED_MODEL.read_bytes())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "engines"


def files(folder: Path) -> List[str]:
    """Return everything in the folder but the lock and the timings."""
    found = (path.name for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != "lock" and not name.startswith("timing-"))


def assert_whole(folder: Path) -> Path:
    """There is one engine, its sidecar fits, and nothing else."""
    (engine,) = folder.glob("*.engine")
    assert files(folder) == [engine.name, engine.name + ".json"]
    assert read_sidecar(engine).engine_sha256 == hashlib.sha256(engine.read_bytes()).hexdigest()
    return engine


def test_it_is_built_once_and_then_found(onnx: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    build = Builder()
    engine = cached_engine(onnx, folder, SIZE, build, XAVIER)
    assert capsys.readouterr() == ("", "engine cache: warning: a stand-in\n")
    assert cached_engine(onnx, folder, SIZE, build, XAVIER) == engine == assert_whole(folder)
    assert capsys.readouterr() == ("", "")
    assert len(build.built) == 1
    assert engine.name.startswith("student-48x64-fp16-Xavier-8.5.2.2-")
    assert build.options.frames is None  # of frames, where TensorRT can build them
    assert build.options.timing_cache.parent == folder / WORK
    assert build.options.timing_cache.read_bytes() == b"timings"


def test_what_it_depends_on_makes_another_engine(
    onnx: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = [
        cached_engine(onnx, folder, SIZE, Builder(machine), machine)
        for machine in (
            XAVIER,
            XAVIER._replace(tensorrt_version="8.5.2.3"),
            XAVIER._replace(gpu_name="Orin (nvgpu)"),
            XAVIER._replace(compute_capability="7.0"),
        )
    ]
    engines.append(cached_engine(onnx, folder, (64, 48), Builder(), XAVIER))
    onnx.write_bytes(onnx.read_bytes() + b"\x42\x00")  # ModelProto.doc_string, empty: another file of the same model
    engines.append(cached_engine(onnx, folder, SIZE, Builder(), XAVIER))
    monkeypatch.setattr(engine_cache, "_builders_digest", lambda: "the code of another irvis")
    engines.append(cached_engine(onnx, folder, SIZE, Builder(), XAVIER))
    assert len(set(engines)) == len(engines)
    assert "Orin-nvgpu" in engines[2].name
    assert all(engine.is_file() for engine in engines)


def test_every_build_option_is_in_the_name(onnx: Path) -> None:
    from irvis.export.build_options import BuildOptions

    plain = BuildOptions(size=SIZE)
    others = {"precision": "fp32", "size": (64, 48), "tactic_sources": ("+CUBLAS",)}
    names = {engine_cache.engine_name(onnx, "0" * 64, XAVIER, plain)}
    fields = [field for field in dataclasses.fields(BuildOptions) if field.name != "timing_cache"]
    for field in fields:
        now = getattr(plain, field.name)
        other = others.get(field.name, not now if isinstance(now, bool) else 7)
        options = dataclasses.replace(plain, **{field.name: other})
        names.add(engine_cache.engine_name(onnx, "0" * 64, XAVIER, options))
    assert len(names) == len(fields) + 1
    elsewhere = dataclasses.replace(plain, timing_cache=Path("elsewhere"))
    assert engine_cache.engine_name(onnx, "0" * 64, XAVIER, elsewhere) in names


def test_an_onnx_of_a_long_name_has_an_engine_too(onnx: Path, folder: Path) -> None:
    engine = cached_engine(onnx.rename(onnx.with_name("n" * 240 + ".onnx")), folder, SIZE, Builder(), XAVIER)
    assert engine.name.startswith("n" * 60 + "-48x64-")
    assert_whole(folder)


def test_any_change_of_the_code_that_builds_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from irvis.export import engine

    monkeypatch.setattr(engine, "__file__", str(tmp_path / "engine.py"))
    digests = set()
    for name, code in (("engine.py", "a = 1"), ("engine.py", "a = 2"), ("pins.py", ""), ("pins.py", "a = 2")):
        (tmp_path / name).write_text(code)
        digests.add(engine_cache._builders_digest())
    assert len(digests) == 4


def test_the_code_that_builds_is_told_apart() -> None:
    assert engine_cache._builders_digest() == engine_cache._builders_digest()
    assert len(engine_cache._builders_digest()) == 64


def test_a_dynamic_onnx_is_built_for_480x640(onnx: Path, folder: Path) -> None:
    assert "-480x640-" in cached_engine(onnx, folder, None, Builder(), XAVIER).name


def test_an_onnx_of_one_size_is_built_for_it(folder: Path, tmp_path: Path) -> None:
    onnx_package = pytest.importorskip("onnx")
    model = onnx_package.load(str(SHIPPED_MODEL))
    for tensor in model.graph.input:
        height, width = tensor.type.tensor_type.shape.dim[2:]
        height.dim_value, width.dim_value = 96, 128
    onnx_package.save(model, str(tmp_path / "fixed.onnx"))
    assert cached_engine(tmp_path / "fixed.onnx", folder, None, Builder(), XAVIER).name.startswith("fixed-96x128-")
    assert "-48x64-" in cached_engine(tmp_path / "fixed.onnx", folder, SIZE, Builder(), XAVIER).name  # as was asked for


def corrupt(engine: Path) -> None:
    engine.write_bytes(engine.read_bytes()[:-1] + b"?")


def cut_off(engine: Path) -> None:
    engine.write_bytes(engine.read_bytes()[:100])


def foreign(engine: Path) -> None:
    write_sidecar(engine, dataclasses.replace(read_sidecar(engine), gpu_name="Orin"))


def of_another_onnx(engine: Path) -> None:
    write_sidecar(engine, dataclasses.replace(read_sidecar(engine), onnx_sha256="1" * 64))


BROKEN = {
    corrupt: "engine is corrupt or was replaced",
    cut_off: "engine is corrupt or was replaced",
    foreign: "the engine was built with TensorRT 8.5.2.2 on Orin",
    of_another_onnx: "was built from another ONNX",
    lambda engine: engine.unlink(): "engine not found",
    lambda engine: sidecar_path(engine).unlink(): "sidecar not found",
    lambda engine: sidecar_path(engine).write_bytes(b"{"): "sidecar is not JSON",
}


@pytest.mark.parametrize("spoil", BROKEN)
def test_a_broken_engine_is_built_anew_and_said(
    onnx: Path, folder: Path, capsys: pytest.CaptureFixture, spoil: Any
) -> None:
    build = Builder()
    engine = cached_engine(onnx, folder, SIZE, build, XAVIER)
    spoil(engine)
    capsys.readouterr()
    assert cached_engine(onnx, folder, SIZE, build, XAVIER) == engine == assert_whole(folder)
    said = capsys.readouterr().err.splitlines()
    assert BROKEN[spoil] in said[0]
    assert said[0].endswith("; rebuilding it")
    assert len(build.built) == 2


def test_what_a_killed_process_left_is_cleared_and_nothing_else(onnx: Path, folder: Path) -> None:
    write_bytes(folder / WORK / ".student-48x64-abc.engine", b"half")
    write_bytes(folder / "notes.txt", b"mine")
    write_bytes(folder / ".hidden.engine", b"mine")
    engine = cached_engine(onnx, folder, SIZE, Builder(), XAVIER)
    assert files(folder) == sorted([engine.name, engine.name + ".json", ".hidden.engine", "notes.txt"])


def test_the_lock_outlives_a_build_or_two_processes_would_hold_one_each(onnx: Path, folder: Path) -> None:
    lock = folder / WORK / "lock"
    cached_engine(onnx, folder, SIZE, Builder(), XAVIER)
    with lock.open() as held:
        cached_engine(onnx, folder, (64, 48), Builder(), XAVIER)
        assert os.path.samestat(os.fstat(held.fileno()), lock.stat())


def failing(error: BaseException) -> Any:
    def build(onnx: Path, engine: Path, options: Any, say: Any) -> None:
        write_bytes(engine, b"whole, and its sidecar missing")
        (engine.parent / ".half.engine").write_bytes(b"half")
        raise error

    return build


@pytest.mark.parametrize("error", [ModelError("cannot build"), KeyboardInterrupt(), ZeroDivisionError()])
def test_a_failed_build_leaves_nothing(onnx: Path, folder: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        cached_engine(onnx, folder, SIZE, failing(error), XAVIER)
    assert files(folder) == []
    cached_engine(onnx, folder, SIZE, Builder(), XAVIER)
    assert_whole(folder)


def test_a_failed_rebuild_leaves_the_old_one_to_be_built_anew(onnx: Path, folder: Path) -> None:
    engine = cached_engine(onnx, folder, SIZE, Builder(), XAVIER)
    corrupt(engine)
    with pytest.raises(ModelError):
        cached_engine(onnx, folder, SIZE, failing(ModelError("no")), XAVIER)
    cached_engine(onnx, folder, SIZE, Builder(), XAVIER)
    assert_whole(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, which only root can make."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a small file system")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_is_one_line_and_leaves_nothing(onnx: Path, small_disk: Path) -> None:
    def build(onnx: Path, engine: Path, options: Any, say: Any) -> None:
        write_bytes(engine, b"x" * 200_000)

    with pytest.raises(FileError, match="No space left on device") as caught:
        cached_engine(onnx, small_disk / "engines", SIZE, build, XAVIER)
    assert "\n" not in str(caught.value)
    assert files(small_disk) == []
    cached_engine(onnx, small_disk / "engines", SIZE, Builder(), XAVIER)
    assert_whole(small_disk / "engines")


def test_a_read_only_folder_does_where_the_engine_is_in_it(onnx: Path, small_disk: Path) -> None:
    folder = small_disk / "engines"
    engine = cached_engine(onnx, folder, SIZE, Builder(), XAVIER)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    build = Builder()
    assert cached_engine(onnx, folder, SIZE, build, XAVIER) == engine
    with pytest.raises(FileError, match=r"cannot write .*Read-only file system"):
        cached_engine(onnx, folder, (64, 48), build, XAVIER)
    assert build.built == []


def test_a_folder_that_cannot_be_made_is_told_before_the_build(onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    build = Builder()
    for folder in (tmp_path / "file", tmp_path / "file" / "engines"):
        with pytest.raises(FileError, match="cannot write"):
            cached_engine(onnx, folder, SIZE, build, XAVIER)
    assert build.built == []


@pytest.mark.parametrize("content", [b"", b"no ONNX"])
def test_a_corrupt_onnx_is_told_before_anything_is_made(onnx: Path, folder: Path, content: bytes) -> None:
    onnx.write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX"):
        cached_engine(onnx, folder, SIZE, Builder(), XAVIER)
    assert not folder.exists()


# Several processes. The builder says "building", and builds until it reads a line or the end of its stdin.

PROCESS = """
import os, sys
from pathlib import Path
from irvis.runtime.cli import guarded
from irvis.runtime.engine_cache import cached_engine
sys.path.insert(0, {tests!r})
from test_engine_cache import SIZE, XAVIER, Builder

onnx, folder = map(Path, sys.argv[1:])

def build(onnx, engine, options, say):
    half = engine.parent / f".half-{{os.getpid()}}.engine"
    half.write_bytes(b"half")
    print("building", flush=True)
    sys.stdin.readline()
    half.unlink()
    Builder()(onnx, engine, options, say)

def main():
    print("has", cached_engine(onnx, folder, SIZE, build, XAVIER).name, flush=True)
    return 0

sys.exit(guarded("robot", main))
"""
TIMEOUT_S = 120  # far beyond what a loaded machine takes


class Processes:
    """Starts processes that ask for the engine, and kills those that are left."""

    def __init__(self, onnx: Path, folder: Path) -> None:
        code = PROCESS.format(tests=str(Path(__file__).parent))
        self.command = [sys.executable, "-c", code, str(onnx), str(folder)]
        self.started: List[subprocess.Popen[str]] = []

    def start(self) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        self.started.append(subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return self.started[-1]

    def start_builder(self) -> "subprocess.Popen[str]":
        """Return a process that builds."""
        process = self.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        return process

    def start_waiter(self) -> "subprocess.Popen[str]":
        """Return a process that waits for the builder."""
        process = self.start()
        assert process.stderr is not None
        assert process.stderr.readline().startswith("waiting for another process that is building an engine in ")
        return process


@pytest.fixture
def processes(onnx: Path, folder: Path) -> Iterator[Processes]:
    processes = Processes(onnx, folder)
    yield processes
    for process in processes.started:
        process.kill()
        process.communicate()


def test_of_two_processes_one_builds_and_the_other_waits(processes: Processes, folder: Path) -> None:
    builder, waiter = processes.start_builder(), processes.start_waiter()
    built, _ = builder.communicate("go on\n", timeout=TIMEOUT_S)
    found, _ = waiter.communicate(timeout=TIMEOUT_S)
    assert (builder.returncode, waiter.returncode) == (0, 0)
    assert built == found == f"has {assert_whole(folder).name}\n"


def test_ctrl_c_while_it_builds_leaves_nothing_and_the_next_builds(
    processes: Processes, onnx: Path, folder: Path
) -> None:
    builder = processes.start_builder()
    builder.send_signal(signal.SIGINT)
    assert builder.stderr is not None
    assert builder.stderr.read() == "robot: interrupted\n"
    assert builder.wait(TIMEOUT_S) == 130
    assert files(folder) == []
    cached_engine(onnx, folder, SIZE, Builder(), XAVIER)
    assert_whole(folder)


def test_ctrl_c_while_it_waits_ends_the_wait_alone(processes: Processes, folder: Path) -> None:
    builder, waiter = processes.start_builder(), processes.start_waiter()
    waiter.send_signal(signal.SIGINT)
    _, err = waiter.communicate(timeout=TIMEOUT_S)
    assert (waiter.returncode, err) == (130, "robot: interrupted\n")
    builder.communicate("go on\n", timeout=TIMEOUT_S)
    assert builder.returncode == 0
    assert_whole(folder)


def test_where_the_builder_is_killed_the_waiting_process_takes_over(processes: Processes, folder: Path) -> None:
    builder, waiter = processes.start_builder(), processes.start_waiter()
    assert files(folder) == [f".half-{builder.pid}.engine"]
    builder.kill()
    assert waiter.stdout is not None
    assert waiter.stdout.readline() == "building\n"
    assert files(folder) == [f".half-{waiter.pid}.engine"]  # what SIGKILL left is cleared
    waiter.communicate("go on\n", timeout=TIMEOUT_S)
    assert waiter.returncode == 0
    assert_whole(folder)


def test_two_threads_of_one_process_build_once(onnx: Path, folder: Path) -> None:
    builds = itertools.count()

    def build(*arguments: Any) -> None:
        next(builds)
        time.sleep(0.5)
        Builder()(*arguments)

    threads = [threading.Thread(target=cached_engine, args=(onnx, folder, SIZE, build, XAVIER)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert next(builds) == 1
    assert_whole(folder)


@pytest.mark.parametrize(
    "opens",
    [
        "Fuser(sys.argv[1], engine_cache=sys.argv[2])",
        "FusionLoop('test://', 'test://', sys.argv[1], engine_cache=sys.argv[2])",
    ],
)
def test_ctrl_c_while_tensorrt_builds_ends_the_process_with_130(onnx: Path, folder: Path, opens: str) -> None:
    code = f"""
import sys, threading
from irvis.export import engine, spinner
from irvis.runtime import Fuser, FusionLoop, engine_cache
engine.build_engine = lambda *_: spinner.under_clock(threading.Event().wait, "building")
engine_cache.this_machine = lambda: engine_cache.Machine("8.5.2.2", "Xavier", "7.2")
{opens}
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(onnx), str(folder)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "building: 0:00\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert files(folder) == []


def test_once_an_engine_is_built_or_has_failed_the_end_of_the_process_is_as_before(
    onnx: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_exit: List[Any] = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    monkeypatch.setattr(atexit, "unregister", at_exit.remove)
    with pytest.raises(ModelError):
        cached_engine(onnx, folder, SIZE, failing(ModelError("no")), XAVIER)
    cached_engine(onnx, folder, SIZE, Builder(), XAVIER)
    assert at_exit == []


def test_the_runtime_imports_neither_tensorrt_nor_onnxruntime_nor_what_exports() -> None:
    code = (
        "import sys, irvis.runtime, irvis.runtime.engine_cache; "
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorrt', 'onnxruntime', 'onnx', 'torch', "
        "'pycuda') or name.startswith('irvis.export')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_fuser_without_tensorrt_says_what_is_missing(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # Python's own way of saying that an import fails
    with pytest.raises(ModelError, match="TensorRT for Python cannot be imported"):
        Fuser(engine_cache=folder)
    assert not folder.exists()


# The real thing.


@pytest.fixture
def small(gpu: Path, small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ONNX that is built without cuBLAS and cuDNN, which this machine may lack."""

    def build(onnx: Path, path: Path, options: Any, say: Any) -> Any:
        return real(onnx, path, dataclasses.replace(options, tactic_sources=("-CUBLAS", "-CUBLAS_LT", "-CUDNN")), say)

    real = engine_module.build_engine
    monkeypatch.setattr(engine_module, "build_engine", build)
    return small_onnx


@pytest.mark.gpu
def test_a_fuser_builds_its_engine_once_and_then_opens_it(small: Path, folder: Path) -> None:
    infrared, visible = make_scene("street", *SIZE)
    with Fuser(small, engine_cache=folder, engine_size=SIZE) as fuser:
        assert fuser.size == SIZE
        first = fuser(infrared, visible)
    engine = assert_whole(folder)
    built = engine.stat()
    with Fuser(small, engine_cache=folder, engine_size=SIZE) as fuser:
        assert (engine.stat().st_ino, engine.stat().st_mtime_ns) == (built.st_ino, built.st_mtime_ns)
        assert (abs(fuser(infrared, visible).astype(int) - first) <= 1).all()
        with pytest.raises(FrameError, match=r"engine_size=\(60, 80\) \(--engine-size 60x80\)"):
            fuser(*make_scene("street", 60, 80))
    with Fuser(small, providers=["CPUExecutionProvider"]) as exact:
        difference = abs(exact(infrared, visible).astype(int) - first)
    assert difference.mean() < 1
    assert difference.max() <= 8


@pytest.mark.gpu
def test_the_timings_of_the_first_build_serve_the_second(small: Path, folder: Path) -> None:
    engine = cached_engine(small, folder, SIZE)
    (timings,) = (folder / WORK).glob("timing-*")
    size = timings.stat().st_size
    corrupt(engine)
    assert cached_engine(small, folder, SIZE) == engine
    assert timings.stat().st_size == size > 0  # nothing had to be timed
