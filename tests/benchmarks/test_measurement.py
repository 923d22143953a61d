import dataclasses
import math
import os
import threading
import time
from types import SimpleNamespace

import pytest

from irvis.benchmarks import measurement
from irvis.benchmarks.bench_cost import Waiting, main
from irvis.benchmarks.machine.board import Board
from irvis.benchmarks.measurement import Plan, changes_of, measure_model, runs_on_gpu
from irvis.runtime import Fuser


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(measurement, "IDLE_S", 0.1)


def test_a_run_on_a_xavier_has_energy_temperatures_and_a_cold_start(tmp_path, machines):
    root = machines.plant(tmp_path, machines.xavier_tree())
    with Fuser(Waiting()) as fuser:
        measured = measure_model(fuser, 123.0, Plan((16, 24), 120, 3), root)
    assert measured.cold.load_ms == 123.0
    assert measured.cold.first_frame_ms >= 5
    assert len(measured.run.calls_ms) == 120
    # Six rails of 1 W each, all the time: nothing is above idle.
    assert measured.energy.mean_w == pytest.approx(6.0)
    assert measured.energy.idle_w == pytest.approx(6.0)
    assert measured.energy.mj_per_frame == pytest.approx(6.0 * measured.run.seconds / 120 * 1e3)
    assert measured.energy.mj_per_frame_above_idle == pytest.approx(0.0, abs=1e-6)
    assert measured.energy.frames == 120
    assert measured.history[0][0] <= measured.run.start_s
    assert measured.history[-1][0] >= measured.run.ends_s[-1]
    assert measured.history[0][1].temperatures_c["GPU-therm"] == 40.0


@pytest.mark.parametrize("rate_hz", [None, 100.0])
def test_a_chip_that_averages_shows_the_run_alone(tmp_path, machines, rate_hz):
    folder = "sys/bus/i2c/devices/1-0040/hwmon/hwmon1"
    tree = {"name": "ina3221", "in1_label": "GPU", "in1_input": 5000, "curr1_input": "1000    ", "update_interval": 200}
    root = machines.plant(tmp_path, {f"{folder}/{name}": text for name, text in tree.items()})

    class Loading(Waiting):
        last_s = 0.0

        def run(self, infrared, visible):
            self.last_s = time.monotonic()
            return super().run(infrared, visible)

    def average():  # 20 W while frames are fused, 5 W otherwise
        shown_w, before_s, file = 5.0, time.monotonic(), os.open(root / folder / "curr1_input", os.O_WRONLY)
        while not ended.wait(0.005):
            now_s = time.monotonic()
            load_w = 20.0 if now_s - backend.last_s < 0.1 else 5.0
            shown_w += (load_w - shown_w) * (1 - math.exp((before_s - now_s) / 0.2))
            before_s = now_s
            os.pwrite(file, b"%8d" % round(shown_w * 200), 0)
        os.close(file)

    backend, ended = Loading(), threading.Event()
    chip = threading.Thread(target=average)
    chip.start()
    try:
        with Fuser(backend) as fuser:
            measured = measure_model(fuser, 1.0, Plan((16, 24), 100, 3, rate_hz), root)
    finally:
        ended.set()
        chip.join()
    assert measured.energy.mean_w > 18  # 16 and less if the warm-up is three frames
    assert measured.energy.idle_w < 7
    assert measured.warmup > 3
    assert len(measured.run.calls_ms) == 100


@pytest.mark.parametrize("warmup", [0, 4])
def test_frames_that_warm_up_come_at_the_runs_rate_and_none_if_the_warm_up_is_left_out(
    tmp_path, machines, monkeypatch, warmup
):
    chip = {"sys/bus/i2c/devices/1-0040/hwmon/hwmon1/update_interval": 30}
    root = machines.plant(tmp_path, machines.xavier_tree(), chip)
    asked, run_frames = [], measurement.run_frames

    def noting(fuser, infrared, visible, frames, rate_hz=None, progress=None):
        asked.append((frames, rate_hz))
        return run_frames(fuser, infrared, visible, frames, rate_hz, progress)

    monkeypatch.setattr(measurement, "run_frames", noting)
    with Fuser(Waiting()) as fuser:
        measured = measure_model(fuser, 1.0, Plan((16, 24), 20, warmup, 100.0), root)
    first, *others = asked
    assert first == (1, None)
    assert {rate_hz for _, rate_hz in others} == {100.0}
    assert sum(frames for frames, _ in others) == measured.warmup + 20
    assert measured.warmup > warmup if warmup else measured.warmup == 0  # the chip averages over 90 ms: 9 frames


class OnGpu(Waiting):
    name = "TensorRT 8.5.2.2, FP16, NVIDIA H100"


def test_what_runs_on_a_discrete_gpu_is_charged_to_it_and_the_gpu_is_watched_and_let_go(tmp_path, monkeypatch):
    closed, begin_s = [], time.monotonic()
    gpu = SimpleNamespace(
        name="NVIDIA H100",
        energy_j=lambda: 100 * (time.monotonic() - begin_s),  # 100 W
        temperature_c=lambda: 61.0,
        throttling=lambda: [],
        clock_hz=lambda: 1_980_000_000,
        close=lambda: closed.append("once"),
    )
    monkeypatch.setattr(measurement, "open_gpu", lambda: gpu)
    with Fuser(OnGpu()) as fuser:
        measured = measure_model(fuser, 1.0, Plan((16, 24), 3, 0), tmp_path)  # a counter needs no readings in between
    assert measured.energy.meter == "NVML (NVIDIA H100 alone)"
    assert measured.energy.rails_w == {"GPU": pytest.approx(100, rel=0.5)}  # read and timed one after the other
    assert {look.temperatures_c["NVIDIA H100"] for _, look in measured.history} == {61.0}
    assert closed == ["once"]


def test_too_few_readings_are_no_energy(tmp_path, machines):
    with Fuser(Waiting()) as fuser:
        root = machines.plant(tmp_path, machines.xavier_tree())
        measured = measure_model(fuser, 1.0, Plan((16, 24), 3, 0), root)
    assert measured.energy is None
    assert measured.why_no_energy.endswith("too few: take more frames")


def test_a_machine_without_a_meter_has_no_energy_and_says_why(tmp_path):
    with Fuser(Waiting()) as fuser:
        measured = measure_model(fuser, 1.0, Plan((16, 24), 5, 0, 50.0), tmp_path)
    assert measured.energy is None
    assert "no INA3221" in measured.why_no_energy
    assert measured.run.rate_hz == 50.0
    assert len(measured.history) >= 2


def test_a_backends_name_tells_whether_it_runs_on_a_gpu():
    assert runs_on_gpu("TensorRT 8.5.2.2, FP16, Xavier")
    assert runs_on_gpu("ONNX Runtime 1.18.0, TensorrtExecutionProvider")
    assert runs_on_gpu("ONNX Runtime 1.18.0, CUDAExecutionProvider")
    assert not runs_on_gpu("ONNX Runtime 1.18.0, CPUExecutionProvider")


def test_settings_that_change_meanwhile_are_told():
    board = Board(
        "rover", "ARMv8", "aarch64", "Ubuntu", "3.8.10", True, mode_name="MAXN", mode_id=0, clocks_locked=True
    )
    assert changes_of(board, board) == ()
    other = dataclasses.replace(board, mode_name="MODE_15W", mode_id=2, clocks_locked=False)
    assert changes_of(board, other) == (
        "the power mode changed from MAXN (id 0) to MODE_15W (id 2)",
        "the clocks were locked or unlocked meanwhile",
    )
    assert changes_of(other, board)[1:] == ("the clocks were locked or unlocked meanwhile",)


def test_what_the_benchmark_costs_is_measured(capsys):
    assert main(["--frames", "10", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "INA3221 (GPU, CPU, SOC, CV, VDDRQ, SYS5V)" in lines[0] or "INA3221" in lines[0]
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "between two frames",
        "processor, more than bare",
        "wall, more than bare",
    ]


@pytest.mark.parametrize("option", ["--frames", "--rounds"])
def test_a_cost_over_no_frames_or_rounds_is_refused(option, capsys):
    with pytest.raises(SystemExit):
        main([option, "0"])
    assert "must be a whole number, 1 or more. Got '0'" in capsys.readouterr().err


def test_a_run_is_watched_while_it_goes_on(tmp_path, machines):
    root = machines.plant(tmp_path, machines.xavier_tree())
    with Fuser(Waiting()) as fuser:
        measured = measure_model(fuser, 1.0, Plan((16, 24), 120, 0), root)  # 0.6 s and more
    start_s, end_s = measured.run.start_s, measured.run.ends_s[-1]
    assert measured.energy.samples >= 4  # 20 a second
    assert sum(start_s < stamp_s < end_s for stamp_s, _ in measured.history) >= 1  # 5 a second


def test_every_frame_of_the_plan_is_run_and_those_that_warm_up_are_not_counted(tmp_path):
    class Counting(Waiting):
        runs = 0

        def run(self, infrared, visible):
            self.runs += 1
            if self.runs == 1:
                time.sleep(0.1)
            return visible

    backend = Counting()
    with Fuser(backend) as fuser:
        measured = measure_model(fuser, 1.0, Plan((16, 24), iterations=7, warmup=4), tmp_path)
    assert backend.runs == 1 + 4 + 7  # the first is a cold start
    assert (measured.warmup, len(measured.run.calls_ms)) == (4, 7)
    assert measured.cold.first_frame_ms >= 100 > min(measured.run.calls_ms)
