import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("thop")

from irvis.benchmarks.experiments.timings import read_timings
from irvis.benchmarks.latency import Run
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
    assert gpu.times_ms == {"student": (1.0, None)}
    assert gpu.remarks == (
        "peers.json: NVIDIA H100, TensorRT 8.5.2.2, FP16, 3 rounds of irvis peers, which checks no clocks"
    )


def latency_of_a_gpu_check(**forms):
    def times(mean, **more):
        return {
            "total_ms": {"median": mean - 0.5, "mean": mean, "std": 0.25, "p99": mean, "max": mean, "n": 300},
            **more,
        }

    found = {
        "machine": {"date": "2026-11-26", "tensorrt": "8.5.2.2", "nvidia_smi": "NVIDIA H200, 580.159.04, 1980 MHz"},
        "480x640": {
            "deploy planes FP16": times(5.0),
            "SeAFusion planes FP16": times(6.0),
            "deploy planes INT8": {"failed": "no"},
            "PyTorch student eager FP32": times(23.0, torch="2.11.0"),
            "PyTorch deploy form eager FP32": times(10.0, torch="2.11.0"),
            "PyTorch SeAFusion eager FP32": times(7.0, torch="2.11.0"),
            "fast planes FP16": times(2.5),
            "probe attention folded": times(0.1),
            "PyTorch fast eager FP32": times(7.5, torch="2.11.0"),
            **forms,
        },
    }
    return {"schema_version": 1, "found": found}


def test_a_gpu_check_is_a_column_a_way_of_running(tmp_path):
    engines, eager = read_timings(written(tmp_path / "latency.json", latency_of_a_gpu_check()))
    assert engines.title == "NVIDIA H200, TensorRT 8.5.2.2, planes FP16"
    assert engines.times_ms == {
        "student, deploy form": (5.0, 0.25),
        "SeAFusion": (6.0, 0.25),
        "fast, deploy form": (2.5, 0.25),
    }
    assert eager.title == "NVIDIA H200, PyTorch 2.11.0, eager FP32"
    assert eager.times_ms == {
        "student": (23.0, 0.25),
        "student, deploy form": (10.0, 0.25),
        "SeAFusion": (7.0, 0.25),
        "fast": (7.5, 0.25),
    }
    assert "300 runs of gpu_check, 2026-11-26" in eager.remarks


def test_a_report_of_bench_is_of_the_deploy_form_unless_named(tmp_path, document):
    spec = written(tmp_path / "bench.json", document())
    (column,) = read_timings(spec)
    assert column.title.endswith(", MAXN, TensorRT 8.5.2.2")
    assert column.times_ms == {"student, deploy form": (pytest.approx(30.0), pytest.approx(0.071, abs=1e-3))}
    assert "120 frames of bench.py" in column.remarks
    assert "NOT" not in column.title + column.remarks
    (named,) = read_timings(f"SHIP={spec}")
    assert list(named.times_ms) == ["SHIP"]
    with pytest.raises(FileError, match="is for frames of 240x320, the paper's tables are for 480x640"):
        read_timings(written(tmp_path / "small.json", document(size=(240, 320))))


def test_a_time_of_bench_is_the_mean_and_at_a_rate_from_the_arrival(tmp_path, document, make_report):
    run = make_report([25.0] * 90 + [45.0] * 30).run
    paced = Run(run.latencies, run.starts_s, run.ends_s, 30.0, [start_s - 0.005 for start_s in run.starts_s])
    for found, mean_ms in ((document(run=run), 30.0), (document(run=paced), 35.0)):
        (column,) = read_timings(written(tmp_path / "bench.json", found))
        assert column.times_ms["student, deploy form"][0] == pytest.approx(mean_ms)


def test_what_was_not_verified_is_shown_as_such(tmp_path, document):
    (column,) = read_timings(written(tmp_path / "bench.json", document(verified_mode=None)))
    assert ", NOT VERIFIED, TensorRT" in column.title
    assert "NOT VERIFIED: power mode not verified" in column.remarks
    (column,) = read_timings(written(tmp_path / "bench.json", document([30.0] * 3)))
    assert "NOT TO BE TRUSTED: 3 frames are too few" in column.remarks


def test_a_deviation_of_one_sample_is_none(tmp_path):
    once = {"total_ms": {"median": 5.0, "mean": 5.0, "std": 0.0, "p99": 5.0, "max": 5.0, "n": 1}}
    report = latency_of_a_gpu_check(**{"deploy planes FP16": once})
    engines, _ = read_timings(written(tmp_path / "latency.json", report))
    assert engines.times_ms["student, deploy form"] == (5.0, None)
    assert engines.times_ms["SeAFusion"] == (6.0, 0.25)


@pytest.mark.parametrize("report", [peers_report(), latency_of_a_gpu_check()], ids=["peers", "gpu_check"])
def test_a_name_for_a_report_that_has_its_own_is_refused(tmp_path, report):
    path = written(tmp_path / "one.json", report)
    said = f"{path} names what it timed, but SHIP= is for a report of bench.py; give --report {path}"
    with pytest.raises(FileError) as raised:
        read_timings(f"SHIP={path}")
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            peers_report(size={"height": 240, "width": 320}),
            "is for frames of 240x320, the paper's tables are for 480x640",
        ),
        (peers_report(schema_version=2), "not a complete report of irvis peers"),
        (peers_report(methods=[{"name": "student"}]), "not a complete report of irvis peers"),
        (peers_report(methods=[{"name": "a", "forms": {"b": {"backend": "c", "latencies_ms": []}}}]), "not a compl"),
        (peers_report(machine=None), "not a complete report of irvis peers"),
        ({"schema_version": 1, "found": {"480x640": {}}}, "not a complete report of gpu_check's latency at 480x640"),
        (latency_of_a_gpu_check(**{"deploy planes FP16": {"total_ms": {"median": 1}}}), "not a complete report of gpu"),
        ({"kind": "table"}, "is not a report of bench.py"),
        ([], "is not a report of bench.py"),
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
