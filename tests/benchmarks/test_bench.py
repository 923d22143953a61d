import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from irvis.benchmarks import bench, measurement
from irvis.benchmarks.accuracy import measure_accuracy
from irvis.benchmarks.bench import main
from irvis.benchmarks.machine.board import Board, read_board
from irvis.benchmarks.machine.clocks import GpuClock
from irvis.benchmarks.report.file import find_fault, load_schema, read_report, write_report
from irvis.benchmarks.report.report import heading
from irvis.benchmarks.report.text import to_text
from irvis.runtime import Fuser, IrvisError
from irvis.runtime.files import sha256
from irvis.runtime.samples import write_samples
from irvis.runtime.shipped import SHIPPED_MODEL

PAPER = "paper: 250.31 ± 7.17 ms a frame (Jetson AGX Xavier, MAXN, PyTorch, 640x480)"
SCRIPT = Path(bench.__file__).resolve()
XAVIER = Board(
    host="rover",
    cpu="ARMv8 Processor rev 0 (v8l)",
    architecture="aarch64",
    os="Ubuntu 20.04.6 LTS",
    python="3.8.10",
    is_jetson=True,
    module="Jetson-AGX",
    l4t="35.4.1",
    mode_name="MAXN",
    mode_id=0,
    gpu_clock=GpuClock(1377000000, 1377000000, 1377000000),
    clocks_locked=True,
)
# What pip makes of the command begins like this.
INSTALLED = "import sys; sys.argv[0] = '/usr/bin/bench.py'; from irvis.benchmarks.bench import main"
WORKSTATION = Board("bench-01", "Intel Xeon", "x86_64", "Debian 12", "3.11.7", is_jetson=False)


@pytest.fixture(scope="module")
def size():
    """A small size, or the shipped model's where it takes no other."""
    with Fuser() as fuser:
        return fuser.size or (64, 96)


def arguments(size, *more):
    return ["--size", f"{size[0]}x{size[1]}", "--iterations", "5", "--warmup", "1", *map(str, more)]


def refusal(capsys, argv):
    """Run a command that must fail; give its one line on stderr."""
    assert main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("bench.py")
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_shipped_student_is_measured_and_reported(size, capsys, tmp_path):
    file = tmp_path / "new" / "report.json"
    assert main(arguments(size, "--json", file, "--threads", 1)) == 0
    lines = capsys.readouterr().out.splitlines()
    here = read_board()
    assert lines[0].startswith(f"{here.host}: {here.cpu}")
    assert "Xavier" not in lines[0]
    assert any(SHIPPED_MODEL.name in line for line in lines)
    assert any("ONNX Runtime" in line for line in lines)
    assert PAPER in lines
    assert lines[-1].startswith("no ratio to it: this machine is not known to be a Jetson AGX Xavier")
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["ms"] == ["mean", "std", "p50", "p90", "p95", "p99", "p99.9", "max"]
    for stage in ("pre", "compute", "post", "total"):
        assert len(rows[stage]) == 8
        assert all(float(cell) >= 0 for cell in rows[stage])
    assert rows["h2d"] == rows["d2h"] == ["not", "measured"]

    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["schema_version"] == 2
    assert find_fault(document, load_schema()) is None
    assert document["model"]["file"] == SHIPPED_MODEL.name
    assert document["model"]["sha256"] == sha256(SHIPPED_MODEL)
    assert document["model"]["precision"] is None  # ONNX Runtime takes the ONNX's own
    assert ("energy" in document["not_measured"]) == (document["energy"] is None)
    assert "clocks unknown" in document["watermark"] or here.clocks_locked is not None
    assert any("5 frames are too few" in reason for reason in document["stability"]["reasons"])
    assert document["cold_start"]["load_ms"] > 1  # milliseconds, not seconds
    assert document["cold_start"]["first_frame_ms"] > 0
    assert document["latencies_ms"] == document["totals_ms"]
    assert document["size"] == {"height": size[0], "width": size[1]}
    assert (document["iterations"], document["warmup"], document["threads"]) == (5, 1, 1)
    assert document["board"]["host"] == here.host
    assert document["verified_mode"] is None
    assert document["stages"]["h2d"] is None
    assert document["stages"]["d2h"] is None
    assert len(document["totals_ms"]) == 5
    total = document["stages"]["total"]
    assert total["count"] == 5
    assert total["mean_ms"] == pytest.approx(sum(document["totals_ms"]) / 5)
    assert total["max_ms"] == max(document["totals_ms"])
    assert document["fps"] == pytest.approx(1000 / total["mean_ms"])
    parts = sum(document["stages"][stage]["mean_ms"] for stage in ("pre", "compute", "post"))
    assert parts <= total["mean_ms"] * (1 + 1e-9)
    assert document["paper"]["ratio"] is None
    assert (document["paper"]["mean_ms"], document["paper"]["std_ms"]) == (250.31, 7.17)
    assert [path.name for path in file.parent.iterdir()] == ["report.json"]


def test_on_a_verified_xavier_the_report_bears_its_name_and_the_ratio(make_report):
    report = make_report([20.0, 25.0, 45.0], board=XAVIER)
    text = to_text(report)
    first = text.splitlines()[0]
    assert "Jetson AGX Xavier (Jetson-AGX)" in first
    assert "L4T 35.4.1" in first
    assert "power mode MAXN (id 0)" in first
    assert "GPU clock locked at 1377 MHz" in first
    assert PAPER in text
    assert "ratio: 8.34 = 250.31 / 30.00 ms" in text
    assert report.to_json()["paper"] == {
        "mean_ms": 250.31,
        "std_ms": 7.17,
        "ratio": pytest.approx(250.31 / 30),
        "differences": [],
    }


def replace(board, **changes):
    return Board(**{**board.__dict__, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"board": WORKSTATION, "verified_mode": None}, "not known to be a Jetson AGX Xavier"),
        (
            {"board": replace(XAVIER, module="NVIDIA Jetson AGX Orin Developer Kit")},
            "not known to be a Jetson AGX Xavier",
        ),
        ({"verified_mode": None}, "the power mode was not verified (--mode MAXN)"),
        ({"verified_mode": "MODE_15W"}, "the power mode is MODE_15W, not MAXN"),
        ({"size": (640, 480)}, "the frames are 640x480, not 480x640 (HEIGHTxWIDTH)"),
    ],
)
def test_a_run_unlike_the_papers_gets_no_ratio_and_says_why(changes, said, make_report):
    unlike = make_report(**changes)
    last = to_text(unlike).splitlines()[-1]
    assert last.startswith("no ratio to it: ")
    assert said in last
    assert unlike.paper_ratio is None
    assert unlike.to_json()["paper"]["ratio"] is None


def test_a_xavier_without_a_verified_mode_is_headed_by_its_host_alone():
    first = heading(XAVIER, None)
    assert first.startswith("rover: ARMv8 Processor")
    assert "power mode not verified" in first
    assert "Xavier" not in first
    assert "AGX" not in first
    assert "MAXN" not in first


def test_another_jetson_is_not_headed_by_the_name_of_the_papers():
    orin = replace(XAVIER, module="NVIDIA Jetson AGX Orin Developer Kit")
    assert heading(orin, "MAXN").startswith(
        "NVIDIA Jetson AGX Orin Developer Kit, L4T 35.4.1, power mode MAXN (id 0), "
    )


def test_clocks_free_to_move_are_said_with_the_command_that_locks_them():
    free = replace(XAVIER, gpu_clock=GpuClock(318750000, 114750000, 1377000000), clocks_locked=False)
    assert "GPU clock not locked (`sudo jetson_clocks` locks it)" in heading(free, "MAXN")
    assert "GPU clock unknown" in heading(replace(XAVIER, gpu_clock=None, clocks_locked=None), "MAXN")


def test_mode_is_verified_before_anything_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(bench, "read_board", lambda: replace(XAVIER, mode_name="MODE_15W_DESKTOP", mode_id=7))
    monkeypatch.setattr(bench, "Fuser", None)
    message = refusal(capsys, ["--mode", "maxn"])
    assert "MODE_15W_DESKTOP (id 7), not MAXN" in message
    assert "sudo nvpmodel -m 0" in message


def test_mode_verified_on_a_xavier_heads_the_report(size, monkeypatch, capsys):
    monkeypatch.setattr(bench, "read_board", lambda: XAVIER)
    assert main(arguments(size, "--mode", "MAXN")) == 0
    assert capsys.readouterr().out.startswith("Jetson AGX Xavier (Jetson-AGX), L4T 35.4.1, power mode MAXN (id 0)")


@pytest.mark.skipif(read_board().is_jetson, reason="asks a machine that is no Jetson")
def test_mode_is_refused_on_this_machine(capsys):
    message = refusal(capsys, ["--mode", "MAXN"])
    assert "needs a Jetson" in message
    assert "drop --mode" in message


@pytest.mark.parametrize(
    "argv",
    [
        ["--size", "64"],
        ["--size", "8x96"],
        ["--size", "64x96x3"],
        ["--iterations", "0"],
        ["--iterations", "many"],
        ["--warmup", "-1"],
        ["--threads", "0"],
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--mode", "MAXN", "--set-mode", "MAXN"],
        ["compare", "a.json"],
        ["--engine", "a.engine", "--onnx", "a.onnx"],
        ["--unknown"],
        ["stray"],
    ],
)
def test_bad_usage_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: bench.py" in capsys.readouterr().err


def test_a_rate_that_is_refused_is_told_both_limits(capsys):
    with pytest.raises(SystemExit):
        main(["--rate", "20000"])
    assert "must be frames a second, over 0 and up to 10000. Got '20000'" in capsys.readouterr().err


def test_a_size_that_a_fixed_model_cannot_take_is_refused():
    fixed = SimpleNamespace(size=(64, 96), model=Path("small.onnx"))
    with pytest.raises(IrvisError, match=r"--size 480x640 does not fit small.onnx, which takes only 64x96;"):
        bench._choose_size((480, 640), False, fixed)
    assert bench._choose_size(None, False, fixed) == bench._choose_size((64, 96), False, fixed) == (64, 96)
    assert bench._choose_size(None, True, fixed) == (480, 640)
    assert bench._choose_size((96, 128), True, fixed) == (96, 128)


def test_a_model_of_any_size_is_measured_at_480x640_unless_asked_otherwise():
    dynamic = SimpleNamespace(size=None, model=Path("student.onnx"))
    assert bench._choose_size(None, False, dynamic) == (480, 640)
    assert bench._choose_size((64, 96), False, dynamic) == (64, 96)
    assert bench._choose_size(None, True, dynamic) == (480, 640)  # as for irvis fuse, there is nothing to resize
    assert bench._choose_size((64, 96), True, dynamic) == (64, 96)


def test_frames_may_be_fused_at_the_models_size(samples, capsys, tmp_path):
    onnx = pytest.importorskip("onnx")
    from irvis.export.fixed_shapes import fix_shapes, load_planes_onnx

    fixed, file = tmp_path / "small.onnx", tmp_path / "report.json"
    onnx.save(fix_shapes(load_planes_onnx(SHIPPED_MODEL), (48, 64))[0], fixed)
    options = ["--resize", "--size", "96x128", "--iterations", 3, "--warmup", 0, "--json", file, "--pairs", samples]
    assert main([str(value) for value in ("--onnx", fixed, *options)]) == 0
    report = json.loads(file.read_text())
    assert (report["size"], report["model_size"]) == ({"height": 96, "width": 128}, {"height": 48, "width": 64})
    assert "the network works on 48x64, to which the frames are resized" in report["paper"]["differences"]
    assert "frames   96x128 (HEIGHTxWIDTH), fused at 48x64, 3 timed" in capsys.readouterr().out
    with Fuser(fixed, resize=True) as fuser:
        assert report["accuracy"]["quality"] == measure_accuracy(fuser, samples, None, resize=True).quality
    assert report["accuracy"]["error"] is None
    assert report["not_measured"]["error"] == "no --reference, and the model is not an ONNX that runs on a GPU"
    assert main(["table", str(file)]) == 0
    assert "| 3 of 96x128 by 48x64 |" in capsys.readouterr().out
    assert main(["--onnx", str(fixed), "--iterations", "1", "--warmup", "0", "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert (report["size"], report["model_size"]) == ({"height": 48, "width": 64}, None)


@pytest.mark.parametrize("option", ["--onnx", "--engine"])
def test_a_missing_model_is_one_line(option, capsys, tmp_path):
    assert "missing" in refusal(capsys, [option, str(tmp_path / "missing.onnx")])


def test_a_corrupt_model_is_one_line(capsys, tmp_path):
    (tmp_path / "corrupt.onnx").write_bytes(b"no model")
    assert "corrupt.onnx" in refusal(capsys, ["--onnx", str(tmp_path / "corrupt.onnx")])


def test_a_report_that_cannot_be_written_is_told_before_anything_is_measured(size, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(arguments(size, "--json", tmp_path / "file" / "report.json")) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("bench.py: cannot write ")
    assert captured.err.count("\n") == 1


def test_ctrl_c_ends_with_130_and_no_traceback(size, monkeypatch, capsys, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(measurement, "run_frames", interrupted)
    assert main(arguments(size, "--json", tmp_path / "report.json")) == 130
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("command", [[str(SCRIPT)], ["-m", "irvis.benchmarks.bench"]])
def test_it_runs_as_a_script_and_as_a_module_without_torch_or_onnx(size, command, tmp_path):
    # Modules of these names that fail on import stand before any real ones.
    for name in ("torch", "onnx"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, *command, *arguments(size)],
        cwd=str(tmp_path),
        env={**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert PAPER in done.stdout.decode("utf-8")
    assert done.stderr == b""


def test_a_clone_that_is_not_installed_gets_one_line_saying_what_to_run():
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(SCRIPT)],  # -S: no site-packages, so nothing is installed
        capture_output=True,
        timeout=60,
        check=False,
    )
    message = done.stderr.decode()
    assert done.returncode == 1
    assert message.startswith("bench.py: ")
    assert message.count("\n") == 1
    assert "pip install -e ." in message


def test_ctrl_c_while_packages_are_imported_is_one_line(tmp_path):
    (tmp_path / "cv2.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (130, "bench.py: interrupted\n")


@pytest.mark.parametrize("how", [[SCRIPT], ["-m", "irvis.benchmarks.bench"], ["-c", INSTALLED]])
def test_a_package_that_cannot_be_imported_is_one_line(how, tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, *how], capture_output=True, text=True, env=environment)
    wanted = "bench.py: a package cannot be imported (libGL.so.1: cannot open); `irvis doctor` says which\n"
    assert (done.returncode, done.stderr) == (1, wanted)


def test_a_camera_s_rate_error_and_quality_table_and_picture(size, samples, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    files = [tmp_path / name for name in ("a.json", "a.md", "a.png")]
    outputs = [word for option, file in zip(("--json", "--markdown", "--plot"), files) for word in (option, file)]
    assert main(arguments(size, "--rate", "200", "--pairs", samples, "--reference", SHIPPED_MODEL, *outputs)) == 0
    out = capsys.readouterr().out
    assert "error    200.0 dB at the worst, 0.0000 of 1 at most from student.onnx in FP32" in out
    assert "at 200 Hz" in out
    report = read_report(files[0])
    assert report["rate_hz"] == 200
    assert all(late >= call for late, call in zip(report["latencies_ms"], report["totals_ms"]))
    assert report["accuracy"]["error"]["worst_psnr_db"] == 200
    assert files[1].read_text().count("\n") == 3
    assert files[2].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "two\nlines"], ids=["not UTF-8", "a line break"])
def test_a_report_of_odd_names_can_be_read_again(name, size, samples, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    model, pairs = tmp_path / f"{name}.onnx", tmp_path / name
    shutil.copy(SHIPPED_MODEL, model)
    shutil.copytree(samples, pairs)
    report, table = tmp_path / "a.json", tmp_path / "a.md"
    given = ["--onnx", model, "--pairs", pairs, "--reference", model, "--json", report, "--markdown", table]
    assert main(arguments(size, *given, "--plot", tmp_path / "a.png")) == 0
    capsys.readouterr()
    assert main(["table", str(report)]) == 0
    printed = capsys.readouterr().out
    assert printed == table.read_text(encoding="utf-8")
    assert f"| {name.encode('unicode_escape').decode()}.onnx; " in printed
    assert main(["plot", str(report), "-o", str(tmp_path / "b.png")]) == 0


def test_a_bad_pair_costs_the_accuracy_but_not_the_latencies(size, capsys, tmp_path):
    write_samples(tmp_path / "mix", *size)
    (tmp_path / "mix/vi/street.png").write_bytes(b"no image")
    file = tmp_path / "report.json"
    assert main(arguments(size, "--pairs", tmp_path / "mix", "--json", file)) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "visible image is not an image" in captured.err
    assert PAPER in captured.out
    assert "visible image is not an image" in captured.out
    document = read_report(file)
    assert document["accuracy"] is None
    assert len(document["latencies_ms"]) == 5
    assert all("street.png" in document["not_measured"][what] for what in ("error", "quality"))


def test_a_reference_without_pairs_is_told_before_anything_is_measured(capsys):
    assert "give --pairs" in refusal(capsys, ["--reference", "student.onnx"])


def test_the_reference_may_be_a_shipped_student(tmp_path, samples):
    report = tmp_path / "report.json"
    options = ("--pairs", samples, "--reference", "student", "--iterations", "1", "--warmup", "0", "--json", report)
    assert main(arguments((64, 64), "--onnx", "student", *options)) == 0
    accuracy = read_report(report)["accuracy"]
    assert (accuracy["reference"], accuracy["error"]["max_abs"]) == ("student.onnx", 0.0)


def test_a_data_set_or_a_reference_that_is_not_there_is_told_before_anything_is_measured(capsys, samples, tmp_path):
    assert "no pairs" in refusal(capsys, ["--pairs", str(tmp_path)])
    missing = str(tmp_path / "missing.onnx")
    assert "reference not found" in refusal(capsys, ["--pairs", str(samples), "--reference", missing])
    (tmp_path / "no.onnx").write_bytes(b"no ONNX")
    assert "is not an ONNX" in refusal(capsys, ["--pairs", str(samples), "--reference", str(tmp_path / "no.onnx")])


def test_the_mode_is_set_then_read_back(size, monkeypatch, capsys, tmp_path):
    boards = [replace(XAVIER, mode_name="MODE_15W", mode_id=2), XAVIER, replace(XAVIER, clocks_locked=False)]
    asked, report = [], tmp_path / "report.json"
    # jtop, which would still show the mode from before, is answered for.
    monkeypatch.setattr(bench, "read_board", lambda ask_jtop: ask_jtop() or boards.pop(0))
    monkeypatch.setattr(bench, "set_mode", lambda board, mode, confirm: asked.append((board.mode_name, mode)))
    assert main(arguments(size, "--set-mode", "0", "--require-locked-clocks", "--json", report)) == 0
    assert asked == [("MODE_15W", "0")]
    assert "NOT VERIFIED" not in capsys.readouterr().out
    document = read_report(report)
    assert document["verified_mode"] == "MAXN"
    assert "the clocks were locked or unlocked meanwhile" in document["stability"]["reasons"]


def test_a_warm_up_that_took_longer_is_reported_as_it_was(size, monkeypatch, tmp_path):
    """As with a meter that shows an average."""
    report = tmp_path / "report.json"
    monkeypatch.setattr(bench, "measure_model", lambda *given: measurement.measure_model(*given)._replace(warmup=70))
    assert main(arguments(size, "--json", report)) == 0
    assert read_report(report)["warmup"] == 70


def test_the_mode_is_not_changed_before_everything_else_was_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "read_board", lambda **_: XAVIER)
    monkeypatch.setattr(bench, "set_mode", lambda *_: pytest.fail("the mode was changed"))
    missing = str(tmp_path / "missing")
    for options in (["--pairs", missing], ["--reference", missing], ["--json", str(tmp_path)], ["--engine", missing]):
        refusal(capsys, ["--set-mode", "0", *options])


def test_a_mode_that_was_not_taken_is_not_verified(monkeypatch, capsys):
    monkeypatch.setattr(bench, "read_board", lambda **_: replace(XAVIER, mode_name="MODE_15W", mode_id=2))
    monkeypatch.setattr(bench, "set_mode", lambda board, mode, confirm: None)
    assert "MODE_15W (id 2), not MAXN" in refusal(capsys, ["--set-mode", "maxn"])


def test_clocks_that_may_move_are_refused_where_they_must_not(monkeypatch, capsys):
    free = replace(XAVIER, gpu_clock=GpuClock(1, 1, 2), clocks_locked=False)
    monkeypatch.setattr(bench, "read_board", lambda: free)
    assert "free to move: GPU" in refusal(capsys, ["--mode", "MAXN", "--require-locked-clocks"])


def test_a_question_that_nobody_can_answer_is_answered_with_no(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # a pipe, no terminal
    assert bench._confirm("Go on?") is False


def test_two_reports_are_compared(document, tmp_path, capsys):
    for name, report in (("a", document()), ("b", document([20.0] * 120)), ("c", document(size=(240, 320)))):
        write_report(tmp_path / f"{name}.json", report)
    a, b, c = (str(tmp_path / f"{name}.json") for name in "abc")
    assert main(["compare", a, b]) == 0
    assert "faster" in capsys.readouterr().out
    assert "may not be compared: size: 480x640 and 240x320; --force" in refusal(capsys, ["compare", a, c])
    assert main(["compare", a, c, "--force"]) == 0
    assert "MAY NOT BE COMPARED, size: 480x640 and 240x320" in capsys.readouterr().out
    assert main(["table", a, b, c]) == 0
    assert capsys.readouterr().out.count("\n") == 5


def test_a_report_of_the_first_schema_is_one_line(tmp_path, capsys):
    (tmp_path / "old.json").write_text('{"schema_version": 1}')
    assert "schema 1" in refusal(capsys, ["table", str(tmp_path / "old.json")])
