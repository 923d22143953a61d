import pytest

pytest.importorskip("onnx")

from irvis.benchmarks.roofline.devices import CPU, device, names
from irvis.benchmarks.roofline.work import Work

TENSOR = 32 * 480 * 640 * 2  # bytes, FP16


def work(operations, *read_bytes, unit="vector", precision="fp16"):
    return Work("a", "pointwise", read_bytes, (), operations, unit, precision)


def test_the_xavier_is_bound_by_memory_then_by_arithmetic():
    xavier = device("xavier-maxn")
    streamed = work(1e6, TENSOR)
    assert xavier.bound_ms(streamed) == pytest.approx(TENSOR / 136.5e6)
    assert xavier.bound_by(streamed) == "memory"
    computed = work(11.28e9, TENSOR, unit="matrix")
    assert xavier.bound_ms(computed) == pytest.approx(1.0)
    assert xavier.bound_by(computed) == "arithmetic"


@pytest.mark.parametrize(
    ("key", "gpu", "emc"),
    [
        ("xavier-30w", 900 / 1377, 1600 / 2133),
        ("xavier-15w", 670 / 1377, 1331 / 2133),
        ("xavier-10w", 520 / 1377 / 2, 1066 / 2133),  # half its units are off
    ],
)
def test_the_other_modes_follow_their_clocks(key, gpu, emc):
    full, mode = device("xavier-maxn"), device(key)
    assert mode.dram_gb_per_s == pytest.approx(136.5 * emc, rel=1e-3)
    for precision in ("fp32", "fp16", "int8"):
        for unit in ("matrix", "vector"):
            assert mode.tflops[precision][unit] == pytest.approx(full.tflops[precision][unit] * gpu, rel=1e-3)


def test_a_tensor_that_fits_the_cache_is_moved_at_its_bandwidth():
    h100 = device("h100")
    assert h100.memory_ms(work(0, TENSOR)) == pytest.approx(TENSOR / 5500e6)  # 19.7 of 50 MB
    assert h100.memory_ms(work(0, 2 * TENSOR)) == pytest.approx(2 * TENSOR / 3350e6)
    assert device("h200").memory_ms(work(0, 2 * TENSOR)) == pytest.approx(2 * TENSOR / 4800e6, rel=1e-3)


def test_each_device_is_whole():
    assert CPU in names()
    for key in set(names()) - {CPU}:
        found = device(key)
        assert found.cache_gb_per_s >= found.dram_gb_per_s
        low, middle, high = found.overhead_us
        assert 0 < low < middle < high
        assert set(found.tflops) == {"fp32", "fp16", "int8"}
