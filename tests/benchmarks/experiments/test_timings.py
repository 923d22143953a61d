import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("thop")

from irvis.benchmarks.experiments.timings import read_timings
from irvis.runtime.errors import FileError


def peers_report(**changes):
    backend = "ONNX Runtime 1.32.0, CPUExecutionProvider"
    forms = {"ONNX Runtime": {"backend": backend, "max_difference": None, "latencies_ms": [10.0, 12.0, 14.0]}}
    engine = {"TensorRT": {"backend": "TensorRT 8.5.2.2, FP16", "max_difference": None, "latencies_ms": [1.0]}}
    return {
        "schema_version": 1,
        "kind": "peers",
        "machine": {"cpu": "AMD EPYC", "gpu": "NVIDIA H100", "os": "Debian", "backends": [backend]},
        "size": {"height": 480, "width": 640},
        "rounds": 3,
        "methods": [{"name": "student", "forms": {**forms, **engine}}, {"name": "SHIP", "forms": forms}],
        **changes,
    }


def written(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


def test_a_report_of_peers_is_a_column_a_runtime(tmp_path):
    cpu, gpu = read_timings(written(tmp_path / "peers.json", peers_report()))
    assert cpu.title == "AMD EPYC, ONNX Runtime"
    assert cpu.times_ms == {"student": (12.0, 2.0), "SHIP": (12.0, 2.0)}
    assert gpu.title == "NVIDIA H100, TensorRT"
    assert gpu.times_ms == {"student": (1.0, 0.0)}
    assert gpu.remarks == (
        "peers.json: NVIDIA H100, TensorRT 8.5.2.2, FP16, 3 rounds of irvis peers, which watches no clocks"
    )


def test_a_report_of_bench_is_of_the_deploy_form_unless_named(tmp_path, document):
    spec = written(tmp_path / "bench.json", document())
    (column,) = read_timings(spec)
    assert column.title.endswith(", MAXN, TensorRT 8.5.2.2")
    assert column.times_ms == {"student, deploy form": (pytest.approx(30.0), pytest.approx(0.071, abs=1e-3))}
    assert "120 frames of bench.py" in column.remarks
    assert "NOT" not in column.title + column.remarks
    (named,) = read_timings(f"SHIP={spec}")
    assert list(named.times_ms) == ["SHIP"]


def test_what_was_not_verified_is_shown_as_such(tmp_path, document):
    (column,) = read_timings(written(tmp_path / "bench.json", document(verified_mode=None)))
    assert ", NOT VERIFIED, TensorRT" in column.title
    assert "NOT VERIFIED: power mode not verified" in column.remarks
    (column,) = read_timings(written(tmp_path / "bench.json", document([30.0] * 3)))
    assert "NOT TO BE TRUSTED: 3 frames are too few" in column.remarks


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            peers_report(size={"height": 240, "width": 320}),
            "is of frames of 240x320, the paper's tables are of 480x640",
        ),
        (peers_report(schema_version=2), "not a whole report of irvis peers"),
        (peers_report(methods=[{"name": "student"}]), "not a whole report of irvis peers"),
        (peers_report(methods=[{"name": "a", "forms": {"b": {"backend": "c", "latencies_ms": []}}}]), "not a whole"),
        (peers_report(machine=None), "not a whole report of irvis peers"),
        ({"kind": "table"}, "is no report of bench.py"),
        ([], "is no report of bench.py"),
        ({"kind": "complexity", "schema_version": 1}, "measure it again with bench.py"),
    ],
)
def test_what_is_no_report_is_one_line(tmp_path, report, said):
    with pytest.raises(FileError, match=r"report\.json") as raised:
        read_timings(written(tmp_path / "report.json", report))
    assert said in str(raised.value)


def test_a_missing_or_broken_file_is_one_line(tmp_path):
    with pytest.raises(FileError, match=r"report not found: .*none\.json"):
        read_timings(str(tmp_path / "none.json"))
    (tmp_path / "broken.json").write_bytes(b"\xff{")
    with pytest.raises(FileError, match="report is not JSON"):
        read_timings(str(tmp_path / "broken.json"))
