import json

import pytest

pytest.importorskip("onnx")

from hypothesis import given
from hypothesis import strategies as st

from irvis.benchmarks.roofline.devices import device
from irvis.benchmarks.roofline.efficiency import (
    ANY,
    SHIPPED,
    Efficiencies,
    fit,
    read_efficiencies,
    total_ms,
    write_efficiencies,
)
from irvis.benchmarks.roofline.work import Work
from irvis.runtime.errors import FileError

XAVIER = device("xavier-maxn")


def work(kind, megabytes):
    return Work("a", kind, (megabytes * 1_000_000,), (), 0.0, "vector", "fp16")


def test_an_estimate_is_bound_by_efficiency_and_overhead():
    found = Efficiencies("tensorrt", "", {ANY: (0.6, 0.75, 0.9)})
    bound_ms = 1000 / 136.5
    expected = [bound_ms / 0.9 + 0.003, bound_ms / 0.75 + 0.006, bound_ms / 0.6 + 0.010]
    assert found.estimate_ms(work("copy", 1000), XAVIER) == pytest.approx(expected)
    assert total_ms([(1.0, 2.0, 3.0), (0.5, 0.5, 1.0)]) == (1.5, 2.5, 4.0)
    assert total_ms([]) == (0.0, 0.0, 0.0)


@given(st.floats(0.05, 1.2), st.lists(st.integers(50, 500), min_size=1, max_size=8))
def test_the_fit_finds_the_efficiency_that_made_the_times(efficiency, sizes):
    made = Efficiencies("tensorrt", "", {ANY: (efficiency,) * 3})
    works = [work("copy", size) for size in sizes]
    found = fit([(each, made.estimate_ms(each, XAVIER)[1]) for each in works], XAVIER, "made")
    assert found.kinds["copy"] == pytest.approx((efficiency,) * 3)
    assert found.kinds[ANY] == pytest.approx((efficiency,) * 3)


def test_one_bad_kernel_does_not_shift_a_kind():
    bound_ms = 100 / 136.5
    timed = [(work("copy", 100), bound_ms / 0.8 + 0.006)] * 9 + [(work("copy", 100), bound_ms / 0.4 + 0.006)]
    low, middle, high = fit(timed, XAVIER, "").kinds["copy"]
    assert (middle, high) == pytest.approx((0.8, 0.8))
    assert 0.4 <= low < 0.8


def test_the_quantiles_are_weighted_by_time_and_kernels_of_mostly_overhead_are_left_out():
    timed = []
    for fraction, measured_ms in ((0.2, 10), (0.5, 80), (0.9, 10), (0.01, 0.029)):
        bound_ms = fraction * (measured_ms - 0.006)
        timed.append((work("copy", 136.5 * bound_ms), measured_ms))
    # The middles of the three lie at 5, 50 and 95 % of the time.
    expected = (0.2 + 0.3 * 5 / 45, 0.5, 0.5 + 0.4 * 40 / 45)
    assert fit(timed, XAVIER, "").kinds["copy"] == pytest.approx(expected)


def test_what_is_all_overhead_tells_nothing():
    with pytest.raises(FileError, match="nothing to fit efficiencies to"):
        fit([(work("copy", 0), 0.02)], XAVIER, "")


def test_written_and_read(tmp_path):
    written = Efficiencies("tensorrt", "a on b", {ANY: (0.5, 0.6, 0.7), "copy": (0.1, 0.2, 0.3)})
    path = tmp_path / "a.json"
    write_efficiencies(written, path)
    assert read_efficiencies(path, "tensorrt") == written
    with pytest.raises(FileError, match="has efficiencies for tensorrt, but none for onnxruntime"):
        read_efficiencies(path, "onnxruntime")
    write_efficiencies(written._replace(runtime="onnxruntime"), path)
    assert read_efficiencies(path, "tensorrt") == written


@pytest.mark.parametrize("smallest", [2e-7, 0.0004, 0.3])
def test_however_small_a_fraction_it_can_be_read_again(smallest, tmp_path):
    """A kernel that waited for another program seems to reach next to nothing of its bound."""
    write_efficiencies(Efficiencies("tensorrt", "", {ANY: (smallest, 0.5, 1.2345)}), tmp_path / "a.json")
    found = read_efficiencies(tmp_path / "a.json", "tensorrt").kinds[ANY]
    assert found == pytest.approx((smallest, 0.5, 1.2345), rel=0.005)


def test_a_file_of_something_else_is_not_written_over(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[]")
    with pytest.raises(FileError, match="not efficiencies of layers"):
        write_efficiencies(Efficiencies("tensorrt", "", {ANY: (0.6, 0.75, 0.9)}), path)
    assert path.read_text() == "[]"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "3",
        '{"tensorrt": 3}',
        '{"tensorrt": {"source": "", "kinds": {}}}',
        '{"tensorrt": {"source": "", "kinds": {"any": [1, 2]}}}',
        '{"tensorrt": {"source": "", "kinds": {"any": [0, 1, 2]}}}',
        '{"tensorrt": {"source": "", "kinds": {"any": [2, 1, 3]}}}',
        '{"tensorrt": {"source": "", "kinds": {"any": [1, 2, 1' + "0" * 400 + "]}}}",
        '{"tensorrt": {"source": "", "kinds": {"any": [1, 2, Infinity]}}}',
    ],
)
def test_a_file_of_something_else(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(FileError, match=r"not efficiencies of layers|but none for tensorrt"):
        read_efficiencies(path, "tensorrt")


def test_the_shipped_ones_cover_both_runtimes():
    for runtime in json.loads(SHIPPED.read_text()):
        found = read_efficiencies(SHIPPED, runtime)
        assert found.source
        assert all(0 < low <= middle <= high < 3 for low, middle, high in found.kinds.values())
