import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from irvis.benchmarks.roofline.devices import device
from irvis.benchmarks.roofline.efficiency import ANY, Efficiencies, total_ms
from irvis.benchmarks.roofline.estimate import _row
from irvis.benchmarks.roofline.work import Work


def test_kernels_that_run_as_one_add_up_under_the_name_of_the_longest():
    on, efficiencies = device("xavier-maxn"), Efficiencies("tensorrt", "", {ANY: (0.6, 0.75, 0.9)})
    works = [
        Work(name, "copy", (size,), (2 * size,), float(size), "vector", "fp16")
        for name, size in (("a", 10**6), ("b", 10**8))
    ]
    row = _row(works, on, efficiencies, 3.0)
    assert (row.work.name, row.work.operations, row.measured_ms) == ("b", 101e6, 3.0)
    assert (sum(row.work.read_bytes), sum(row.work.written_bytes)) == (101 * 10**6, 202 * 10**6)
    assert row.bound_ms == pytest.approx(sum(map(on.bound_ms, works)))
    assert row.estimate_ms == total_ms([efficiencies.estimate_ms(work, on) for work in works])
