import numpy as np
import pytest

from irvis.benchmarks.latency import Run
from irvis.benchmarks.report.compare import (
    Ratio,
    block_length,
    find_differences,
    find_obstacles,
    ratio_of,
    to_text,
)


def correlated(count, seed, mean=10.0, memory=0.9):
    """Return latencies each of which resembles the one before: an autoregression of first order."""
    noise = np.random.default_rng(seed).normal(size=count + 100)
    values = [0.0]
    for value in noise:
        values.append(memory * values[-1] + value)
    return list(mean + 0.1 * np.array(values[-count:]))


def test_the_ratio_is_that_of_the_percentiles():
    a, b = list(np.linspace(10, 12, 200)), list(np.linspace(5, 6, 300))
    assert ratio_of(a, b, 50).ratio == pytest.approx(5.5 / 11)
    assert ratio_of(a, b, 99).ratio == pytest.approx(np.percentile(b, 99) / np.percentile(a, 99))


def test_the_interval_holds_the_ratio_and_the_same_one_every_time():
    ratio = ratio_of(correlated(200, 1), correlated(200, 2, mean=12.0), 50)
    assert ratio.low <= ratio.ratio <= ratio.high
    assert ratio.low > 1
    assert "slower" in str(ratio)
    assert ratio == ratio_of(correlated(200, 1), correlated(200, 2, mean=12.0), 50)
    # Of the median of 1000 independent frames 95 % lie within 1.96 standard errors, of 1.2533 / sqrt(1000) each.
    runs = [list(np.random.default_rng(seed).normal(10, 1, 1000)) for seed in range(4)]
    widths = [high - low for _, low, high in (ratio_of([1.0], run, 50) for run in runs)]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 1.2533 / 1000**0.5, rel=0.05)


def test_a_report_against_itself_shows_no_difference():
    values = correlated(200, 3)
    assert "no difference is shown" in str(ratio_of(values, values, 50))
    for ratio in (Ratio(0.9, 0.8, 1.1), Ratio(1.1, 0.9, 1.2)):
        assert str(ratio).endswith(": no difference is shown")
    with np.errstate(invalid="ignore"):
        assert "no difference is shown" in str(ratio_of([0.0] * 100, [0.0] * 100, 50))


def test_constant_latencies_have_an_interval_of_no_width():
    assert ratio_of([10.0] * 50, [5.0] * 50, 99) == (0.5, 0.5, 0.5)
    assert ratio_of([10.0], [5.0], 50) == (0.5, 0.5, 0.5)


def test_blocks_are_longer_where_frames_resemble_each_other():
    independent = np.random.default_rng(0).normal(10, 1, 1000)
    assert block_length(independent) == 10  # the cube root
    assert 15 < block_length(np.array(correlated(1000, 0))) <= 100


def test_correlated_frames_widen_the_interval():
    values = np.array(correlated(400, 5))
    shuffled = np.random.default_rng(0).permutation(values)
    wide, narrow = (ratio_of(list(frames), list(frames), 50) for frames in (values, shuffled))
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("board", "module"), "NVIDIA Jetson AGX Orin", "board: Jetson-AGX and NVIDIA Jetson AGX Orin"),
        (("verified_mode",), "MODE_15W", "power mode: MAXN and MODE_15W"),
        (("board", "clocks_locked"), False, "clocks locked: True and False"),
        (("board", "gpu_clock"), None, "greatest clocks of GPU and CPU"),
        (("board", "cpu_clock"), None, "greatest clocks of GPU and CPU"),
        (("size", "width"), 320, "size: 480x640 and 480x320"),
        (("model", "precision"), "fp32", "precision: fp16 and fp32"),
        (("model", "precision"), None, "precision: fp16 and the ONNX's"),
        (("rate_hz",), 30.0, "rate: back to back and 30.0"),
    ],
)
def test_runs_that_differ_in_more_than_the_model_may_not_be_compared(document, place, value, said):
    a, b = document(), document()
    part = b
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    assert find_obstacles(a, a) == []
    (obstacle,) = find_obstacles(a, b)
    assert obstacle.startswith(said)


def test_modes_that_were_not_verified_are_still_told_apart(document):
    a, b = document(verified_mode=None), document(verified_mode=None)
    b["board"]["mode_name"] = "MODE_15W"
    assert find_obstacles(a, b) == ["power mode: MAXN and MODE_15W"]


def test_another_model_is_what_is_compared(document):
    a, b = document(), document([20.0] * 120)
    b["model"]["sha256"], b["backend"], b["threads"] = "1" * 64, "TensorRT 8.6", 2
    assert find_obstacles(a, b) == []
    assert [text.split(":")[0] for text in find_differences(a, b)] == ["model", "backend", "threads"]
    text = to_text(("a.json", "b.json"), a, b)
    assert "0.667 (0.66" in text
    assert "faster" in text
    assert "MAY NOT" not in text


def test_at_a_rate_the_latencies_from_the_arrivals_are_compared(document, make_report):
    run = make_report([30.0] * 120).run
    waited = [start_s - 0.005 for start_s in run.starts_s]
    a, b = (document(run=Run(run.latencies, run.starts_s, run.ends_s, 30.0, since)) for since in (run.starts_s, waited))
    lines = to_text(("a.json", "b.json"), a, b).splitlines()
    assert [line.split()[1:4] for line in lines if line.startswith(("p50", "p99"))] == [
        ["30.000", "35.000", "1.167"]
    ] * 2


def test_a_resample_has_as_many_frames_as_the_run():
    ratio = ratio_of([1.0], list(range(1, 12)), 50)  # of an odd number of frames the median is one of them
    assert ratio.low == round(ratio.low) < 6 < round(ratio.high) == ratio.high


def test_what_speaks_against_a_report_is_said(document):
    text = to_text(("a.json", "b.json"), document(verified_mode=None), document([20.0] * 5))
    assert "A is NOT VERIFIED: power mode not verified" in text
    assert "B is NOT TO BE TRUSTED: 5 frames are too few" in text
