import pytest

from irvis.benchmarks.machine.conditions import Conditions
from irvis.benchmarks.report.stability import judge

STEADY = [10.0, 10.1, 9.9, 10.0] * 50
COOL = Conditions({"GPU-therm": 40.0, "AO-therm": 39.0}, {}, {"oc1_event_cnt": 2}, 1377000000, 2265600000)


def looks(*between, after=COOL):
    """Return looks before the run, at each second of it, and after it."""
    return [(-0.1, COOL), *((1.0 + second, look) for second, look in enumerate(between)), (10.1, after)]


def changed(**changes):
    return Conditions(**{**COOL.__dict__, **changes})


def verdict(values=STEADY, history=None, at_rate=False, changes=()):
    return judge(values, looks(COOL) if history is None else history, (0.0, 10.0), at_rate, changes)


def test_a_steady_run_on_a_cool_machine_is_trusted():
    stability = verdict(history=looks(COOL, COOL))
    assert stability.trusted
    assert stability.variation == pytest.approx(0.0071, abs=1e-4)
    assert stability.drift == pytest.approx(0.0)
    assert stability.warming_c == 0.0
    assert stability.gpu_hz == (1377000000, 1377000000)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (STEADY[:99], "99 frames are too few"),
        ([10.0, 13.0] * 100, "varies by 13% (coefficient of variation)"),
        ([*STEADY[:-1], 100.0], "varies by 61%"),  # one outlier is enough: it is not clipped
        ([10 + 0.01 * index for index in range(200)], "drifted by +13% from the first third to the last"),
        ([12 - 0.01 * index for index in range(200)], "drifted by -11%"),
    ],
)
def test_latencies_that_do_not_hold_still(values, said):
    stability = verdict(values)
    assert not stability.trusted
    assert any(said in reason for reason in stability.reasons)


@pytest.mark.parametrize(
    ("history", "said"),
    [
        (
            looks(COOL, after=changed(temperatures_c={"AO-therm": 39.5, "GPU-therm": 46.0})),
            "GPU-therm warmed by 6.0 °C",
        ),
        (looks(changed(throttling={"gpu-balanced": "in state 2 of 7"})), "throttled: gpu-balanced in state 2 of 7"),
        (looks(after=changed(events={"oc1_event_cnt": 5})), "throttled: oc1_event_cnt went up by 3"),
        (looks(COOL, changed(gpu_hz=905250000)), "the GPU's clock moved, 905 to 1377 MHz"),
        (looks(COOL, changed(cpu_hz=1190400000)), "the CPU's clock moved, 1190 to 2266 MHz"),
    ],
)
def test_what_happens_to_the_machine_meanwhile(history, said):
    assert verdict(history=history).reasons == [said] or said in verdict(history=history).reasons[0]


@pytest.mark.parametrize(
    ("values", "after", "during", "trusted"),
    [
        ([10.0] * 100, COOL, COOL, True),
        ([9.01, 10.99] * 100, COOL, COOL, True),  # 9.9 %
        ([8.99, 11.01] * 100, COOL, COOL, False),  # 10.1 %
        ([10.0] * 100 + [10.49] * 100, COOL, COOL, True),
        ([10.0] * 100 + [10.51] * 100, COOL, COOL, False),
        ([10.0] * 100 + [9.51] * 100, COOL, COOL, True),
        (STEADY, changed(temperatures_c={"GPU-therm": 45.0}), COOL, True),
        (STEADY, changed(temperatures_c={"GPU-therm": 45.1}), COOL, False),
        (STEADY, COOL, changed(gpu_hz=1312000000), True),  # 1377 MHz is 4.95 % more
        (STEADY, COOL, changed(gpu_hz=1311000000), False),
    ],
)
def test_the_limits_are_those_of_the_documentation(values, after, during, trusted):
    assert verdict(values, looks(COOL, during, after=after)).trusted is trusted


def test_one_cause_is_said_once():
    hot = [changed(throttling={"GPU-therm": f"at {degrees} °C, its trip point is 86"}) for degrees in (86, 87, 88)]
    assert verdict(history=looks(*hot)).reasons == ["throttled: GPU-therm at 88 °C, its trip point is 86"]


def test_a_clock_that_drops_once_the_run_is_over_is_none_of_its_business():
    assert verdict(history=looks(COOL, after=changed(gpu_hz=114750000))).trusted


def test_with_gaps_between_frames_free_clocks_are_meant_to_drop():
    history = looks(COOL, changed(gpu_hz=318750000))
    assert verdict(history=history, at_rate=True).trusted
    assert verdict(history=history, at_rate=True).gpu_hz == (318750000, 1377000000)


def test_a_setting_that_changed_is_a_reason():
    assert verdict(changes=["the power mode changed"]).reasons == ["the power mode changed"]


def test_a_run_too_short_for_a_look_at_its_clocks_is_not_called_steady():
    stability = verdict(history=looks(after=changed(gpu_hz=900000000)))
    assert stability.reasons == ["the run was over before its clocks could be read: take more frames"]
    assert verdict(history=looks(), at_rate=True).trusted  # where clocks are free to drop


def test_a_machine_that_tells_nothing_is_judged_by_its_latencies():
    stability = verdict(history=[(-0.1, Conditions()), (10.1, Conditions())])
    assert stability.trusted
    assert (stability.warming_c, stability.gpu_hz, stability.cpu_hz) == (None, None, None)
