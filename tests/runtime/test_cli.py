import os
import signal
import subprocess
import sys

import pytest

from irvis.runtime import cli
from irvis.runtime.errors import IrvisError
from irvis.runtime.files import replacing


def test_version_and_help_list_every_subcommand(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert text.startswith("irvis 0.")
    assert all(name in text for name in cli.SUBCOMMANDS)


@pytest.mark.parametrize("argv", [[], ["paint"], ["fuse"], ["fuse", "a", "b"], ["fuse", "a", "b", "-o", "c", "--zoom"]])
def test_wrong_usage_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(argv)
    assert "usage: irvis" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (IrvisError("it broke; mend it"), 1, "irvis x: it broke; mend it\n"),
        (KeyboardInterrupt(), 130, "irvis x: interrupted\n"),
        (MemoryError(), 1, "irvis x: out of memory\n"),
    ],
)
def test_what_goes_wrong_is_one_line(error, code, line, capsys):
    def body():
        raise error

    assert cli.guarded("irvis x", body) == code
    assert capsys.readouterr().err == line


@pytest.mark.usefixtures("heeds_hang_ups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_end_like_ctrl_c_and_leave_nothing_half_written(tmp_path, number, capsys):
    def body():
        with replacing(tmp_path / "x.png") as temporary:
            temporary.write_bytes(b"half")
            os.kill(os.getpid(), number)
        return 0

    before = signal.getsignal(number)
    assert cli.guarded("irvis x", body) == 130
    assert capsys.readouterr().err == "irvis x: interrupted\n"
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(number) == before


def test_under_nohup_a_terminal_that_goes_ends_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli.guarded("irvis x", lambda: os.kill(os.getpid(), signal.SIGHUP) or 0) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_output_that_nobody_reads_any_more_is_no_traceback():
    code = "import sys; from irvis.runtime import cli; "
    code += "sys.exit(cli.guarded('x', lambda: [print('y' * 99) for _ in range(9999)]))"
    script = f'"{sys.executable}" -c "{code}" | head -1; exit "${{PIPESTATUS[0]}}"'
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert result.stdout == "y" * 99 + "\n"
    assert result.stderr == ""
    assert result.returncode == 1


BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
PROGRAMS = {
    "a command": "from irvis.runtime import cli; sys.exit(cli.guarded('x', lambda: print('done') or 0))",
    "a failure": "from irvis.runtime import cli; sys.exit(cli.guarded('x', lambda: print('half') or 1))",
    "its help": "from irvis.runtime import cli; sys.exit(cli.main(['--help']))",
    "a subcommand's help": "from irvis.runtime import cli; sys.exit(cli.main(['fuse', '--help']))",
    "bench.py's help": "from irvis.benchmarks import bench; sys.exit(bench.main(['--help']))",
    "build_engine.py's help": "from irvis.export import build_engine; sys.exit(build_engine.main(['--help']))",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_flushed_at_the_end_into_a_closed_pipe_or_a_full_disk_is_no_traceback(name):
    """Python itself would exit with 120, and say that an exception was ignored."""
    program = [sys.executable, "-c", f"import sys; {PROGRAMS[name]}"]
    code = 0 if "help" in name else 1
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, text=True, env=BUFFERED)
    os.close(writing)
    assert (result.returncode, result.stderr) == (code, "")
    with open("/dev/full", "w", encoding="utf-8") as full:
        result = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, env=BUFFERED)
    assert (result.returncode, result.stderr) == (
        code,
        "" if code == 0 else "x: cannot write to stdout: [Errno 28] No space left on device\n",
    )


def test_without_a_stdout_a_command_works():
    program = f'"{sys.executable}" -c "import sys; {PROGRAMS["a command"]}" >&-'
    result = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env=BUFFERED)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_without_streams_a_command_works(closed, samples, tmp_path):
    program = f"""'{sys.executable}' -m irvis.runtime.cli fuse {samples}/ir {samples}/vi -o {tmp_path} {closed}"""
    assert subprocess.run(["bash", "-c", program]).returncode == 0
    assert len(list(tmp_path.glob("*.png"))) == len(list((samples / "ir").iterdir()))


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.guarded("irvis x", lambda: 1 // 0)


def test_a_missing_package_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "irvis.runtime.fuse", raising=False)
    monkeypatch.delitem(sys.modules, "irvis.runtime.images", raising=False)
    assert cli.main(["fuse", "a", "b", "-o", "c"]) == 1
    assert capsys.readouterr().err == "irvis fuse: cv2 is not installed: pip install 'irvis[cpu]'\n"


@pytest.mark.parametrize(("package", "named"), [("cv2", "a package"), ("onnxruntime", "onnxruntime")])
def test_a_package_that_cannot_be_imported_is_one_line(package, named, samples, tmp_path):
    (tmp_path / f"{package}.py").write_text("raise ImportError('lib.so: no such file')")
    command = [sys.executable, "-m", "irvis.runtime.cli", "fuse", samples / "ir", samples / "vi", "-o", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1), result.stderr
    assert result.stderr.startswith(f"irvis fuse: {named} cannot be imported (lib.so: no such file)")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_a_package_is_imported_is_no_failure_of_it(number, tmp_path):
    package = """
import time
print("importing", flush=True)
try:
    time.sleep(2)
except KeyboardInterrupt:
    raise ImportError("multiarray failed to import")
"""
    (tmp_path / "cv2.py").write_text(package)
    command = [sys.executable, "-m", "irvis.runtime.cli", "fuse", "a.png", "b.png"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, **pipes)
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "irvis fuse: interrupted\n")


def test_the_runtime_imports_neither_torch_nor_onnx():
    stages = ("runtime", "runtime.fuse", "benchmarks.bench", "benchmarks.demo", "export.build_engine")
    modules = ", ".join(f"irvis.{stage}" for stage in stages)
    code = f"import sys, {modules}; print(sorted({{'torch', 'onnx', 'skimage', 'safetensors'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "/root/x"), "irvis x: [Errno 13] Permission denied: '/root/x'\n"),
        (
            RuntimeError("[enforce fail at alloc.cpp:1]\nCPUAllocator: can't allocate memory: 9 bytes"),
            "irvis x: out of memory: [enforce fail at alloc.cpp:1] CPUAllocator: can't allocate memory: 9 bytes\n",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line_too(error, line, capsys):
    def body():
        raise error

    assert cli.guarded("irvis x", body) == 1
    assert capsys.readouterr().err == line


def test_a_name_that_is_no_utf_8_is_printed(capsys):
    assert cli.guarded("irvis x", lambda: print(os.fsdecode(b"caf\xe9.png")) or 0) == 0
    assert capsys.readouterr().out == "caf\\udce9.png\n"
