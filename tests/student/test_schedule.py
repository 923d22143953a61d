from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from irvis.student.recipes import TrainConfig
from irvis.student.schedule import one_cycle, schedule_of

SMALL = TrainConfig(crops=8, batch=2, steps=10)


def test_the_schedule_is_that_of_the_paper():
    rates = one_cycle(replace(TrainConfig(), steps=100)).tolist()
    assert rates[0] == pytest.approx(1e-5)
    assert max(rates) == pytest.approx(1e-4)
    assert rates[-1] == pytest.approx(1e-6)
    peak = rates.index(max(rates))
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)


@pytest.mark.parametrize("steps", [3, 37, 300])
@pytest.mark.parametrize("rise", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_each_rate_is_that_of_torchs_scheduler(steps, rise):
    config = replace(TrainConfig(), steps=steps, rise=rise)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        config.learning_rate,
        steps,
        pct_start=rise,
        div_factor=config.learning_rate / config.learning_rate_start,
        final_div_factor=config.learning_rate_start / config.learning_rate_end,
        cycle_momentum=False,
    )
    wanted = scheduler.get_last_lr()
    while len(wanted) < steps:
        scheduler.step()
        wanted += scheduler.get_last_lr()
    assert one_cycle(config).tolist() == pytest.approx(wanted, rel=1e-12)


def test_a_rise_of_a_single_step_starts_low():
    """Torch's scheduler divides by zero there."""
    rates = one_cycle(replace(SMALL, rise=0.1)).tolist()
    assert rates[0] == pytest.approx(SMALL.learning_rate_start)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] == pytest.approx(SMALL.learning_rate_end)


def test_an_epoch_uses_every_crop_once():
    crops = schedule_of(SMALL, 8).crops
    first, second = crops[:4].flatten().tolist(), crops[4:8].flatten().tolist()
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second
    assert crops.shape == (10, 2)


def test_what_fills_no_batch_waits_for_another_epoch():
    crops = schedule_of(replace(SMALL, crops=7), 7).crops
    for epoch in crops.split(3):
        assert len(set(epoch.flatten().tolist())) == epoch.numel()
    assert len(set(crops.flatten().tolist())) == 7


def test_the_order_and_the_turns_are_those_of_the_first_release():
    schedule = schedule_of(replace(SMALL, crops=5, steps=4, seed=7), 5)
    assert schedule.crops.tolist() == [[2, 0], [4, 1], [3, 0], [2, 1]]
    assert schedule.codes.tolist() == [[5, 6], [6, 3], [6, 5], [6, 7]]


def test_a_row_does_not_depend_on_how_many_steps_there_are():
    short, long = schedule_of(SMALL, 8), schedule_of(replace(SMALL, steps=23), 8)
    assert torch.equal(short.crops, long.crops[:10])
    assert torch.equal(short.codes, long.codes[:10])
