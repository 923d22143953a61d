import dataclasses

import pytest

from irvis.benchmarks.latency import Run
from irvis.benchmarks.machine.energy import Energy


def paced(report):
    """Return 120 frames of a camera at 30 Hz: calls of 20 and 22 ms in turn, the latter 5 ms after their arrival."""
    arrivals_s = [100 + index / 30 for index in range(120)]
    starts_s = [arrival_s + 0.005 * (index % 2) for index, arrival_s in enumerate(arrivals_s)]
    calls_ms = [20.0 + 2 * (index % 2) for index in range(120)]
    ends_s = [start_s + call_ms / 1e3 for start_s, call_ms in zip(starts_s, calls_ms)]
    return Run({**report.run.latencies, "total": calls_ms}, starts_s, ends_s, 30.0, arrivals_s, 1)


def test_at_a_rate_the_latency_is_from_the_arrival_and_the_verdict_is_on_the_calls(document, make_report):
    report = make_report()
    run, look = paced(report), report.history[0][1]
    slower = dataclasses.replace(look, gpu_hz=1_000_000_000)
    history = [(99.9, look), (run.starts_s[-1] + 0.001, slower), (run.ends_s[-1] + 0.1, look)]
    found = document(run=run, history=history)
    assert found["latencies_ms"] == pytest.approx([20.0, 27.0] * 60)
    assert found["totals_ms"] == [20.0, 22.0] * 60
    assert (found["latency"]["mean_ms"], found["stages"]["total"]["mean_ms"]) == (pytest.approx(23.5), 21.0)
    assert found["jitter_ms"] == pytest.approx(7.0)
    assert (found["histogram"]["edges_ms"][0], found["histogram"]["edges_ms"][-1]) == pytest.approx((20.0, 27.0))
    assert found["starts_s"][:2] == [0.0, round(1 / 30 + 0.005, 6)]
    assert found["seconds"] == pytest.approx(119 / 30 + 0.027)
    assert found["delivered_fps"] == pytest.approx(120 / (119 / 30 + 0.027))
    assert found["fps"] == pytest.approx(1000 / 21)
    assert (found["late"], found["dropped"]) == (0, 1)
    assert found["stability"]["variation"] == pytest.approx(0.0478, abs=1e-4)  # of the latencies it would be 15 %
    assert found["trusted"] is True
    assert found["stability"]["gpu_hz"] == [1_000_000_000] * 2  # the only look while frames were fused
    assert [look["seconds"] for look in found["history"]] == [-0.1, *(round(at_s - 100, 3) for at_s, _ in history[1:])]


def test_a_setting_that_changed_meanwhile_and_resized_frames_are_in_the_verdict_and_the_differences(document):
    found = document(changes=("the clocks were unlocked",), model_size=(240, 320))
    assert found["stability"]["reasons"] == ["the clocks were unlocked"]
    assert found["trusted"] is False
    assert (found["size"], found["model_size"]) == ({"height": 480, "width": 640}, {"height": 240, "width": 320})
    assert found["paper"]["differences"] == ["the network works on 240x320, to which the frames are resized"]
    assert found["paper"]["ratio"] is None
    assert found["cold_start"] == {"load_ms": 800.0, "first_frame_ms": 45.0}


def test_energy_is_given_whole_and_above_idle(document):
    energy = Energy("INA3221", 20.0, 160, 8.0, 200, {"GPU": 8.0, "CPU": 5.0}, 9.0)
    found = document(energy=energy, not_measured={})["energy"]
    assert found["rails_w"] == {"GPU": 8.0, "CPU": 5.0}
    assert (found["mj_per_frame"], found["mj_per_frame_above_idle"]) == pytest.approx((520.0, 160.0))
    assert (found["fps_per_watt"], found["fps_per_watt_above_idle"]) == pytest.approx((1000 / 520, 1000 / 160))
