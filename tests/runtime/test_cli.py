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


def test_sigterm_ends_like_ctrl_c_and_leaves_nothing_half_written(tmp_path):
    def body():
        with replacing(tmp_path / "x.png") as temporary:
            temporary.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    assert cli.guarded("irvis x", body) == 130
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


def test_output_that_nobody_reads_any_more_is_no_traceback():
    code = "import sys; from irvis.runtime import cli; "
    code += "sys.exit(cli.guarded('x', lambda: [print('y' * 99) for _ in range(9999)]))"
    script = f'"{sys.executable}" -c "{code}" | head -1; exit "${{PIPESTATUS[0]}}"'
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert result.stdout == "y" * 99 + "\n"
    assert result.stderr == ""
    assert result.returncode == 1


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.guarded("irvis x", lambda: 1 // 0)


def test_a_missing_package_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "irvis.runtime.fuse", raising=False)
    monkeypatch.delitem(sys.modules, "irvis.runtime.images", raising=False)
    assert cli.main(["fuse", "a", "b", "-o", "c"]) == 1
    assert capsys.readouterr().err == "irvis fuse: cv2 is not installed: pip install 'irvis[cpu]'\n"


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
