import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvis.benchmarks.machine.energy import Energy, count_inside, mean_power_w
from irvis.benchmarks.machine.meters import Ina3221, Rapl, find_meter
from irvis.benchmarks.machine.sampler import Sampler

POWER = Ina3221({})


class Clock:
    """A clock that stands still until it is set."""

    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.mark.parametrize("jetpack", ["5.1.2", "4.6.1"])
def test_a_recorded_run_has_the_integral_that_was_put_into_it(tmp_path, machines, jetpack):
    """The GPU climbs from 2 to 10 W in four seconds and stays for four; each other rail takes 1 W."""
    clock, rails = Clock(), [rail for rails in machines.RAILS.values() for rail in rails]
    machines.plant(tmp_path, machines.power_tree(dict.fromkeys(rails, 1.0), jetpack))
    meter, _ = find_meter(tmp_path)
    sampler = Sampler(meter.read, 5.0, clock)
    for tick in range(41):
        clock.now_s = 50 + tick / 5
        watts = {**dict.fromkeys(rails, 1.0), "GPU": min(2 + 2 * tick / 5, 10)}
        changed = {name: text for name, text in machines.power_tree(watts, jetpack).items() if text not in (200, 1000)}
        machines.plant(tmp_path, {name: text for name, text in changed.items() if "curr1" in name or "power0" in name})
        sampler.sample()
    means_w = mean_power_w(sampler.samples, meter, 50, 58)
    assert means_w["GPU"] * 8 == pytest.approx((2 + 10) / 2 * 4 + 10 * 4, rel=1e-3)  # 64 J; files hold whole mA
    assert sum(means_w.values()) * 8 == pytest.approx(64 + 5 * 8, rel=1e-3)
    # A region whose ends lie between two samples: from 4.01 W after 1.005 s to 8.01 W after 3.005.
    assert mean_power_w(sampler.samples, meter, 51.005, 53.005)["GPU"] == pytest.approx((4.01 + 8.01) / 2, rel=1e-3)
    assert count_inside(sampler.samples, 51.005, 53.005) == 10


def test_a_frame_costs_the_energy_over_the_frames_with_and_without_idle():
    energy = Energy("INA3221", 20.0, 160, 8.0, 200, {"GPU": 8.0, "CPU": 5.0}, idle_w=9.0)
    assert energy.mean_w == 13.0
    assert energy.mj_per_frame == pytest.approx(13 * 8 / 200 * 1e3)
    assert energy.mj_per_frame_above_idle == pytest.approx(4 * 8 / 200 * 1e3)
    assert energy.fps_per_watt == pytest.approx(25 / 13)
    assert energy.fps_per_watt_above_idle == pytest.approx(25 / 4)


def test_idle_that_was_not_measured_is_none_and_never_zero():
    energy = Energy("RAPL", 20.0, 160, 8.0, 200, {"package-0": 8.0}, idle_w=None)
    assert energy.mj_per_frame_above_idle is None
    assert energy.fps_per_watt_above_idle is None


def test_a_counter_that_begins_again_is_unwound():
    meter = Rapl({}, {"package-0": 100.0})
    samples = [
        (0.0, {"package-0": 90.0}),
        (1.0, {"package-0": 98.0}),
        (2.0, {"package-0": 6.0}),
        (3.0, {"package-0": 14}),
    ]
    assert mean_power_w(samples, meter, 0.0, 3.0) == {"package-0": pytest.approx(8.0)}
    assert mean_power_w(samples, meter, 0.5, 1.5) == {"package-0": pytest.approx(8.0)}


def test_a_counter_that_stands_still_between_two_samples_has_not_begun_again():
    samples = [(0.0, {"package-0": 90.0}), (1.0, {"package-0": 90.0}), (2.0, {"package-0": 96.0})]
    assert mean_power_w(samples, Rapl({}, {"package-0": 100.0}), 0.0, 2.0) == {"package-0": pytest.approx(3.0)}


@pytest.mark.parametrize("region_s", [(-1.0, 1.0), (1.0, 3.5), (1.0, 1.0)])
def test_a_region_that_the_samples_do_not_span_has_no_energy(region_s):
    assert mean_power_w([(0.0, {"GPU": 1.0}), (3.0, {"GPU": 1.0})], POWER, *region_s) is None
    assert mean_power_w([], POWER, 0.0, 1.0) is None


@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 50)), min_size=2, max_size=30),
    st.floats(0.01, 0.99),
)
def test_two_regions_side_by_side_take_what_they_take_as_one(steps, share):
    samples, now_s = [], 0.0
    for step_s, watts in steps:
        samples.append((now_s, {"GPU": watts}))
        now_s += step_s
    end_s = samples[-1][0]
    middle_s = share * end_s
    parts = [(0.0, middle_s), (middle_s, end_s)]
    joules = [mean_power_w(samples, POWER, *region)["GPU"] * (region[1] - region[0]) for region in parts]
    assert sum(joules) == pytest.approx(mean_power_w(samples, POWER, 0.0, end_s)["GPU"] * end_s, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("idle_w", [8.0, 9.0])
def test_power_that_is_not_above_idle_gives_no_frames_a_watt(idle_w):
    energy = Energy("INA3221", 20.0, 160, 8.0, 200, {"GPU": 8.0}, idle_w)
    assert energy.mj_per_frame_above_idle == pytest.approx((8 - idle_w) * 8 / 200 * 1e3)
    assert energy.fps_per_watt_above_idle is None
    assert Energy("INA3221", 20.0, 160, 8.0, 200, {"GPU": 0.0}, None).fps_per_watt is None


def test_samples_at_the_ends_of_the_region_lie_in_it():
    assert count_inside([(stamp_s, {}) for stamp_s in (0.9, 1.0, 1.5, 2.0, 2.1)], 1.0, 2.0) == 3
