import math

import pytest

torch = pytest.importorskip("torch")

from irvis.student.losses import task_loss
from irvis.student.weighting import WEIGHTINGS, DynamicAverage, confidence_shares, equal_shares

LAMBDAS = (1.0, 2.0, 3.0)
TERMS = torch.tensor([0.2, 0.03, 0.5])
TASK = torch.tensor(0.4)
HALF = torch.tensor(0.5)  # of the run
SUM = 0.2 + 2 * 0.03 + 3 * 0.5


def made(name, window=2):
    return WEIGHTINGS[name](LAMBDAS, window)


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_the_first_step_is_the_fixed_sum_or_a_share_of_it(name, progress):
    share = 0.5 if (name, progress) == ("anneal", 0.5) else 1.0
    assert made(name)(TERMS, TASK, torch.tensor(progress)).item() == pytest.approx(share * SUM, rel=1e-6)


def test_annealing_falls_from_one_to_zero():
    factors = [made("anneal").factors(torch.tensor(step / 100))[0].item() for step in range(101)]
    assert factors == sorted(factors, reverse=True)
    assert (factors[0], factors[-1]) == (1, pytest.approx(0, abs=1e-6))


def test_learned_uncertainty_settles_where_each_term_weighs_its_inverse():
    weighting = made("uncertainty")
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(500):
        loss = weighting(TERMS, TASK, HALF)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # d/ds (exp(-s) L + s) = 0 at exp(-s) = 1 / L.
    assert weighting.factors(HALF).tolist() == pytest.approx((1 / TERMS).tolist(), rel=1e-2)


def test_dwa_is_the_papers_softmax_of_two_epochs():
    weighting = DynamicAverage(LAMBDAS, window=2)
    epochs = [[(1.0, 1.0, 1.0), (3.0, 1.0, 0.0)], [(1.0, 1.0, 0.1), (1.0, 1.0, 0.3)]]
    for epoch in epochs:
        assert weighting.factors(HALF).tolist() == [1, 1, 1]
        for terms in epoch:
            weighting.update(torch.tensor(terms), TASK)
    for ratios in ((1.0 / 2.0, 1.0, 0.2 / 0.5), (4.0, 0.5, 3.0)):
        raised = [math.exp(ratio / 2) for ratio in ratios]
        assert weighting.factors(HALF).tolist() == pytest.approx([3 * one / sum(raised) for one in raised], rel=1e-6)
        for _ in range(2):
            weighting.update(torch.tensor([4.0, 0.5, 0.6]), TASK)


def test_balance_brings_every_term_to_the_size_of_the_task():
    weighting = made("balance")
    for _ in range(3):
        weighting.update(TERMS, TASK)
    assert (TERMS * weighting.factors(HALF)).tolist() == pytest.approx([0.4] * 3, rel=1e-5)


def test_balance_takes_no_size_from_terms_that_are_but_rounding():
    """As of a student that starts from its own teacher: they say nothing of those that come."""
    weighting = made("balance")
    weighting.update(torch.tensor([6e-8, 2e-10, 3e-6]), TASK)
    assert weighting.factors(HALF).tolist() == [1, 1, 1]
    weighting.update(torch.tensor([4e-4, 2e-10, 0.07]), TASK)
    assert weighting.factors(HALF).tolist() == pytest.approx([1000, 1, 0.4 / 0.07], rel=1e-5)
    weighting.update(torch.tensor([4e-4, 2e-3, 0.07]), TASK)
    assert weighting.factors(HALF).tolist() == pytest.approx([1000, 200, 0.4 / 0.07], rel=1e-5)


def test_balance_of_terms_above_rounding_is_the_ratio_of_running_means_to_the_bit():
    weighting, means = made("balance"), torch.zeros(4)
    for values in torch.rand(50, 4, generator=torch.Generator().manual_seed(0)) + 1e-4:
        assert torch.equal(weighting.factors(HALF), means[3] / means[:3] if means.any() else torch.ones(3))
        weighting.update(values[:3], values[3])
        means = torch.where(means > 0, 0.99 * means + (1 - 0.99) * values, values)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_what_a_weighting_remembers_is_in_its_state(name):
    one, other = made(name), made(name)
    for step in range(5):
        one.update(TERMS * (step + 1), TASK)
    other.load_state_dict(one.state_dict())
    one.update(TERMS, TASK)
    other.update(TERMS, TASK)
    assert torch.equal(one(TERMS, TASK, HALF), other(TERMS, TASK, HALF))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_terms_of_zero_give_no_nan(name):
    weighting = made(name)
    for _ in range(5):
        weighting.update(torch.zeros(3), torch.zeros(()))
    assert weighting(torch.zeros(3), torch.zeros(()), HALF).isfinite()


def test_shares_of_several_teachers_add_up_to_one_in_each_image():
    generator = torch.Generator().manual_seed(0)
    infrared, visible = torch.rand(2, 3, 1, 16, 16, generator=generator)
    fused = torch.rand(4, 3, 1, 16, 16, generator=generator)
    for shares in (equal_shares, confidence_shares):
        given = shares(fused, infrared, visible)
        assert given.shape == (4, 3)
        assert given.sum(dim=0).tolist() == pytest.approx([1] * 3)
    assert equal_shares(fused, infrared, visible).unique().tolist() == [0.25]


def test_the_teacher_that_meets_the_task_better_in_an_image_has_the_larger_share_there():
    infrared, visible = torch.rand(2, 2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    best, dull = torch.maximum(infrared, visible), torch.full_like(infrared, 0.5)
    first = torch.stack([best[0], dull[1]])
    second = torch.stack([dull[0], best[1]])
    shares = confidence_shares(torch.stack([first, second]), infrared, visible)
    assert shares[0, 0] > 0.6
    assert shares[1, 1] > 0.6


def test_confidence_is_the_softmax_of_the_task_losses_over_their_mean():
    infrared, visible = torch.rand(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    fused = torch.rand(4, 3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    fused[1:] = fused[1:] * 0.2 + 0.8 * torch.maximum(infrared, visible)
    shares = confidence_shares(fused, infrared, visible)
    for image in range(3):
        sides = infrared[image : image + 1], visible[image : image + 1]
        losses = [task_loss(one[image : image + 1], *sides).item() for one in fused]
        raised = [math.exp(-4 * loss / (sum(losses) / len(losses))) for loss in losses]
        assert shares[:, image].tolist() == pytest.approx([one / sum(raised) for one in raised], rel=1e-4)


def test_teachers_without_any_loss_share_alike():
    flat = torch.full((2, 3, 1, 16, 16), 0.5)
    assert confidence_shares(flat, flat[0], flat[0]).tolist() == [[0.5] * 3] * 2
