"""The command, on a random student's plain and deploy ONNX."""

import argparse
import json
import os
import re

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


from irvis.benchmarks.roofline import command as roofline
from irvis.benchmarks.roofline.devices import device
from irvis.export.passes import count_traffic
from irvis.runtime.cli import guarded


def run(capsys, *arguments):
    """Return the exit code, stdout and stderr of ``irvis roofline``."""
    parser = argparse.ArgumentParser()
    roofline.add_arguments(parser)
    parsed = parser.parse_args([*map(str, arguments)])
    code = guarded("irvis roofline", lambda: roofline.main(parsed))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_xavier_is_estimated_in_each_precision(graphs, capsys, tmp_path):
    report = tmp_path / "a.json"
    code, out, err = run(capsys, *graphs, "--size", "480x640", "--json", report)
    assert (code, err) == (0, "")
    found = json.loads(report.read_text())["rooflines"]
    assert [(each["model"], each["precision"]) for each in found] == [
        (name, precision) for name in ("plain.onnx", "deploy.onnx") for precision in ("fp32", "fp16", "int8")
    ]
    assert out.count("an estimate, not a measurement") == 6
    assert (out.count(" TFLOP/s in matrices"), out.count(" TOP/s in matrices")) == (4, 2)
    for each in found:
        low, middle, high = each["estimate_ms"]
        bound_ms = sum(group["bound_ms"] for group in each["groups"])
        assert bound_ms < low < middle < high < 2.5 * bound_ms
        assert each["measured_ms"] is None
        converts = "conversion" in [group["kind"] for group in each["groups"]]
        assert converts == (each["precision"] != "fp32")
    fp32, fp16, int8 = (each["estimate_ms"][1] for each in found[3:])
    assert int8 < fp16 < fp32


def test_a_name_that_a_terminal_would_obey_is_shown_escaped(graphs, capsys, tmp_path):
    model = onnx.load(graphs[1])
    for node in model.graph.node:
        node.name = f"{node.name}\x1b]0;yours\x07"
    onnx.save(model, tmp_path / "named.onnx")
    code, out, err = run(capsys, tmp_path / "named.onnx", "--size", "48x64", "--precision", "fp16")
    assert (code, err) == (0, "")
    assert "\\x1b]0;yours" in out
    assert "\x1b" not in out


def test_a_name_that_is_not_utf_8_is_written(graphs, capsys, tmp_path):
    model, table = tmp_path / os.fsdecode(b"caf\xe9.onnx"), tmp_path / "a.md"
    model.write_bytes(graphs[1].read_bytes())
    assert run(capsys, model, "--size", "48x64", "--precision", "fp16", "--markdown", table)[::2] == (0, "")
    assert r"caf\udce9.onnx, 48x64" in table.read_text(encoding="utf-8")


def test_the_bytes_are_those_of_irvis_passes(graphs, capsys, tmp_path):
    report = tmp_path / "a.json"
    run(capsys, graphs[1], "--size", "480x640", "--precision", "fp16", "--json", report)
    (found,) = json.loads(report.read_text())["rooflines"]
    counted = count_traffic(graphs[1], (480, 640))
    assert sum(each["read_bytes"] + each["written_bytes"] for each in found["groups"]) == counted.bytes
    assert len(found["groups"]) == len(counted.groups)


def test_slower_clocks_take_longer(graphs, capsys):
    totals = []
    for key in ("xavier-maxn", "xavier-30w", "xavier-15w", "xavier-10w"):
        _, out, _ = run(capsys, graphs[1], "--device", key, "--precision", "fp16", "--size", "480x640")
        assert device(key).name in out
        totals.append(float(re.search(r"total .*memory +(\S+) \(", out)[1]))
    assert totals == sorted(totals)
    assert totals[-1] > 2 * totals[0]


def test_pictures_and_tables(graphs, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture, tables = tmp_path / "a.png", tmp_path / "a.md"
    code, out, _ = run(capsys, *graphs, "--size", "480x640", "--plot", picture, "--markdown", tables)
    assert code == 0
    assert f"wrote {tables}" in out
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    text = tables.read_text()
    assert text.count("| kind | groups | MB | GFLOP |") == 6
    assert "an estimate, not a measurement" in text


def test_fitted_here_on_one_graph_and_tested_on_the_other(graphs, capsys, tmp_path):
    """How near the estimate comes is not asserted: other programs run beside this one."""
    pytest.importorskip("matplotlib")
    fitted, picture = tmp_path / "cpu.json", tmp_path / "a.png"
    common = ["--size", "48x64", "--threads", "1", "--rounds", "2"]
    code, _, err = run(capsys, graphs[0], "--validate", *common, "--fit", fitted)
    assert (code, err) == (0, "")
    assert json.loads(fitted.read_text())["onnxruntime"]["source"].startswith("plain.onnx 48x64 on ")
    code, out, err = run(
        capsys, graphs[1], "--validate", *common, "--efficiency", fitted, "--plot", picture, "--top", "10"
    )
    assert (code, err) == (0, "")
    assert "of the 10 costliest groups are within 30 %" in out
    assert "the estimate beside the measurement" in out
    assert re.search(r"^whole run: \d+\.\d+ ms$", out, re.MULTILINE)


def test_an_estimate_of_this_cpu_alone_shows_no_time(graphs, capsys):
    code, out, _ = run(capsys, graphs[1], "--device", "cpu", "--size", "48x64", "--threads", "1", "--rounds", "2")
    assert code == 0
    assert "an estimate, not a measurement" in out
    assert "measured_ms" not in out


def profile_of(graph, path, scale=2.0):
    """Write the profile of an engine, each of whose layers takes ``scale`` times its bound on an H100."""
    from irvis.benchmarks.roofline.estimate import load_graph
    from irvis.benchmarks.roofline.work import group_works
    from irvis.export.fused_groups import fused_kernels

    loaded, on = load_graph(graph, (480, 640)), device("h100")
    works = group_works(loaded.model, loaded.shapes, "fp16")
    layers = [
        {
            "name": " + ".join(node.name for node in kernel.nodes),
            "type": "CaskConvolution",
            "precision": "fp16",
            "median_ms": scale * on.bound_ms(work),
        }
        for work, kernel in zip(works, fused_kernels(loaded.model, loaded.shapes))
    ]
    others = [("Reformatting CopyNode for x", "Reformat", 0.125), ("(Unnamed Layer* 3) [Shuffle]", "Shuffle", 0.25)]
    layers += [{"name": name, "type": kind, "precision": "fp16", "median_ms": ms} for name, kind, ms in others]
    document = {
        "engine": "student.engine",
        "tensorrt_version": "8.5.2.2",
        "gpu_name": "NVIDIA H100",
        "precision": "fp16",
        "size": [480, 640],
        "median_ms": 12.5,
        "layers": layers,
    }
    path.write_text(json.dumps(document))


def test_an_engines_profile_is_matched_and_fitted(graphs, capsys, tmp_path):
    profile, fitted = tmp_path / "student.profile.json", tmp_path / "h100.json"
    profile_of(graphs[1], profile)
    common = ["--size", "480x640", "--device", "h100", "--measured", profile]
    code, out, err = run(capsys, graphs[1], *common, "--fit", fitted)
    assert (code, err) == (0, "")
    row = next(line.split() for line in out.splitlines() if line.startswith("  conversion "))
    assert (row[1], row[-1]) == ("1", "0.12")
    assert "layers of no group: 0.25 ms" in out
    assert "0.250 ms: (Unnamed Layer* 3) [Shuffle]" in out
    assert "estimate of groups without a layer: 0.00 ms" in out
    assert "whole engine: 12.50 ms" in out
    kinds = json.loads(fitted.read_text())["tensorrt"]["kinds"]
    assert "conversion" in kinds
    assert 0.5 <= kinds["depthwise convolution"][1] < 0.6  # the overhead is taken off the time, so above a half
    code, out, _ = run(capsys, graphs[1], "--size", "480x640", "--efficiency", fitted, "--precision", "fp16")
    assert code == 0
    assert "deploy.onnx 480x640 on NVIDIA H100" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fit", "a.json"], "--fit needs something measured"),
        (["--validate", "--device", "h100"], "--validate measures this CPU"),
        (["--measured", "a.json", "--device", "cpu"], "--measured takes one ONNX"),
        (["--rounds", "0"], "--threads and --rounds must be 1 or more"),
        (["--device", "cpu", "--precision", "fp16"], "--precision is for an estimate: this CPU computes in FP32"),
        (["--measured", "a.json", "--device", "h100", "--precision", "fp16"], "--precision is for an estimate"),
    ],
)
def test_what_does_not_go_together(graphs, capsys, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, graphs[1], "--size", "48x64", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"irvis roofline: {message}")
    assert err.count("\n") == 1


def test_a_profile_of_another_size_or_precision(graphs, capsys, tmp_path):
    profile = tmp_path / "a.json"
    profile_of(graphs[1], profile)
    common = ["--device", "h100", "--measured", profile]
    code, _, err = run(capsys, graphs[1], "--size", "48x64", *common)
    assert (code, "the profile is for 480x640; give --size 480x640" in err) == (1, True)
    profile.write_text(profile.read_text().replace('"precision": "fp16", "size"', '"precision": "bf16", "size"'))
    code, _, err = run(capsys, graphs[1], "--size", "480x640", *common)
    assert (code, "must be one of fp32, fp16, int8. Got 'bf16'" in err) == (1, True)
