import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from irvis.benchmarks.roofline.devices import device
from irvis.benchmarks.roofline.efficiency import ANY, Efficiencies
from irvis.benchmarks.roofline.estimate import Roofline, Row
from irvis.benchmarks.roofline.report import to_text
from irvis.benchmarks.roofline.work import MATRIX, VECTOR, Work

ROWS = [
    Row(Work("/a", "1x1 convolution", (3_000_000,), (1_000_000,), 2e9, MATRIX, "fp16"), 1.0, "memory", (1, 2, 3), 4.0),
    Row(Work("/b", "softmax", (1_000_000,), (), 1e9, VECTOR, "fp16"), 3.0, "vector", (2, 2.4, 5), 2.0),
]


def test_rows_add_up_by_kind_and_the_errors_are_of_the_measured_times():
    efficiencies = Efficiencies("tensorrt", "assumed", {ANY: (0.6, 0.75, 0.9)})
    found = Roofline("own.onnx", (480, 640), device("h100"), "fp16", efficiencies, ROWS, [], {})
    lines = [" ".join(line.split()) for line in to_text(found, 1).splitlines()]
    assert lines[0].endswith(": the estimate beside the measurement")
    for line in (
        "softmax 1 1.0 1.00 3.00 0 % memory 2.4 (2 to 5) 2.00",
        "1x1 convolution 1 4.0 2.00 1.00 100 % memory 2 (1 to 3) 4.00",
        "total 2 5.0 3.00 4.00 25 % memory 4.4 (3 to 8) 6.00",
        "/a 1x1 convolution 500.00 memory 1.000 2 (1 to 3) 4.000 -50 %",
        "predicted 4.40 ms, measured 6.00: -26.7 %; 1 of the 2 costliest groups are within 30 %, the worst is at -50 %",
    ):
        assert line in lines
    assert not any(line.startswith("/b") for line in lines)
