import copy
import json

import pytest

from irvis.benchmarks.accuracy import Accuracy
from irvis.benchmarks.latency import Run
from irvis.benchmarks.machine.energy import Energy
from irvis.benchmarks.report.file import find_fault, load_schema, read_report, write_report
from irvis.runtime import IrvisError

ENERGY = Energy("INA3221", 20.0, 160, 8.0, 200, {"GPU": 8.0, "CPU": 5.0}, 9.0)
ERROR = {"max_abs": 0.01, "worst_psnr_db": 50.5, "mean_psnr_db": 55.0}
ACCURACY = Accuracy("TNO/test", 25, 25, "student.onnx", ERROR, {"CC": 0.5})


def at_rate(report):
    run = report.run
    return Run(run.latencies, run.starts_s, run.ends_s, 30.0, run.starts_s, 2)


@pytest.fixture
def documents(document, make_report):
    """Reports with and without each thing that may be missing."""
    return [
        document(),
        document(energy=ENERGY, accuracy=ACCURACY, not_measured={}),
        document(run=at_rate(make_report())),
        document(verified_mode=None, history=[]),
    ]


def test_reports_keep_their_schema(documents):
    jsonschema = pytest.importorskip("jsonschema")
    schema = load_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    for document in documents:
        jsonschema.Draft7Validator(schema).validate(document)
        assert find_fault(document, schema) is None


BREAKS = [
    ("schema_version", 3),
    ("trusted", "yes"),
    ("iterations", 0),
    ("iterations", 1.5),
    ("threads", "two"),
    ("board", None),
    ("board.gpu_clock.current_hz", -1),
    ("board.clocks_locked", 1),
    ("model.built_error", {"max_abs": 0.1}),
    ("latency.p99_ms", None),
    ("stages.total", None),
    ("stages.pre.count", "5"),
    ("latencies_ms", []),
    ("latencies_ms", [1.0, "2"]),
    ("watermark", "none"),
    ("energy", {}),
    ("not_measured", {"energy": 1}),
    ("stray", 1),
    ("histogram.stray", 1),
]


@pytest.mark.parametrize(("place", "value"), BREAKS)
def test_the_light_check_refuses_what_the_schema_does(document, place, value):
    broken = document()
    part = broken
    *folders, last = place.split(".")
    for folder in folders:
        part = part[folder]
    part[last] = value
    fault = find_fault(broken, load_schema())
    assert fault is not None
    assert "\n" not in fault
    assert last in fault or folders[-1] in fault
    jsonschema = pytest.importorskip("jsonschema")
    assert not jsonschema.Draft7Validator(load_schema()).is_valid(broken)


def test_each_key_is_needed_but_the_one_that_older_reports_lack(document):
    whole = document()
    for key in whole:
        broken = copy.copy(whole)
        del broken[key]
        assert find_fault(broken, load_schema()) == (None if key == "model_size" else f"it lacks {key}")


def test_a_report_comes_back_as_it_was_written(document, tmp_path):
    written = document()
    write_report(tmp_path / "a.json", written)
    assert read_report(tmp_path / "a.json") == written


@pytest.mark.parametrize("strange", ["\x1b]0;yours\x07", "two\nlines", "\u202ereversed"])
def test_what_a_terminal_would_obey_is_no_text_of_a_report(document, tmp_path, strange):
    written = document()
    written["board"]["host"] = strange
    write_report(tmp_path / "a.json", written)
    with pytest.raises(IrvisError, match=r"not a report of bench\.py") as caught:
        read_report(tmp_path / "a.json")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema_version": 1, "board": {}}', "is of schema 1, .* measure it again"),
        ('{"schema_version": 3}', "is of schema 3, this irvis knows 2; update irvis"),
        ('{"schema_version": 2}', "not a report of bench.py: it lacks irvis"),
        ("[]", "not a report of bench.py: it must be object. Got list"),
        ("not json", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_report_of_today_is_one_line(tmp_path, content, said):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(IrvisError, match=said) as caught:
        read_report(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_no_numbers_are_refused(document, value):
    broken = document()
    broken["fps"] = value
    assert "fps must be number" in find_fault(broken, load_schema())


def test_a_missing_report_is_one_line(tmp_path):
    with pytest.raises(IrvisError, match="report not found"):
        read_report(tmp_path / "a.json")


def test_numbers_that_json_has_not_are_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_report(tmp_path / "a.json", {"fps": float("nan")})
    assert not (tmp_path / "a.json").exists()
    assert json.loads("1") == 1
