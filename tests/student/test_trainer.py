from dataclasses import replace
from itertools import chain

import pytest

torch = pytest.importorskip("torch")

from irvis.runtime.errors import IrvisError
from irvis.runtime.pairs import pairs_of
from irvis.student.augment import dihedral
from irvis.student.datasets import draw_crops, to_unit
from irvis.student.distributed import Processes
from irvis.student.losses import (
    attention_loss,
    correlation_loss,
    distillation_loss,
    response_loss,
    similarity_loss,
    task_loss,
    total_loss,
)
from irvis.student.recipes import TrainConfig
from irvis.student.teacher_cache import TeacherMaps, teacher_maps
from irvis.student.trainer import Trainer

SMALL = TrainConfig(crops=8, crop_side=16, batch=2, steps=10, learning_rate=1e-3, warmup=0.0)
CROPS = torch.randint(0, 256, (8, 2, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


class Toy:
    """A teacher of five channels, as large as the student's feature."""

    name, digest = "Toy", "0" * 64

    def __call__(self, infrared, visible):
        feature = torch.cat([infrared, visible, infrared - visible, visible.square(), infrared * visible], dim=1)
        return feature, (infrared + visible) / 2


def toy_maps():
    return teacher_maps(Toy(), *to_unit(CROPS))


def test_the_defaults_are_the_papers():
    config = TrainConfig()
    assert (config.crops, config.crop_side, config.batch, config.steps) == (1600, 128, 4, 200 * 1600 // 4)
    assert (config.beta_grad, config.lambda_grad) == (10, 10)
    assert {config.alpha_kd, config.lambda_att, config.lambda_sim, config.lambda_out} == {1}
    assert (config.weighting, config.correlation, config.augment, config.ema) == ("fixed", 0, False, 0)


def test_the_schedule_is_that_of_the_paper():
    trainer = Trainer(replace(TrainConfig(), steps=100), CROPS)
    rates = []
    for _ in range(100):
        rates.append(trainer.schedule.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.schedule.step()
    assert rates[0] == pytest.approx(1e-5)
    assert max(rates) == pytest.approx(1e-4)
    assert rates[-1] == pytest.approx(1e-6)
    peak = rates.index(max(rates))
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)


def test_training_lowers_the_loss(samples):
    crops = draw_crops(pairs_of(samples), 8, 16, seed=0)
    trainer = Trainer(replace(SMALL, batch=8, steps=30, learning_rate=3e-3), crops)
    losses = [trainer.train_step()["loss"].item() for _ in range(30)]
    assert losses[-1] < 0.85 * losses[0]


def test_the_gradient_loss_gains_its_weight_during_the_warmup():
    objective = Trainer(replace(SMALL, warmup=0.2), CROPS).objective
    assert [objective.beta_grad(progress) for progress in (0, 0.05, 0.1, 0.2, 0.99)] == [0, 2.5, 5, 10, 10]
    assert Trainer(SMALL, CROPS).objective.beta_grad(0) == 10


def test_a_step_minimises_the_papers_sum():
    """Eq. 16 from the whole features and images, where the trainer has the teacher's maps alone."""
    config = replace(
        SMALL, alpha_kd=0.5, lambda_att=2.0, lambda_sim=3.0, lambda_out=4.0, lambda_grad=5.0, beta_grad=6.0
    )
    trainer = Trainer(replace(config, correlation=0.7), CROPS, {"Toy": toy_maps()})
    infrared, visible = to_unit(CROPS[trainer.batch_of(0)])
    feature, image = Toy()(infrared, visible)
    with torch.no_grad():
        fused, own = trainer.student(infrared, visible, return_feature=True)
        wanted = 0.7 * correlation_loss(fused, infrared, visible) + total_loss(
            task_loss(fused, infrared, visible, 6.0),
            distillation_loss(
                attention_loss(feature, own), similarity_loss(feature, own), response_loss(image, fused, 5.0), 2, 3, 4
            ),
            0.5,
        )
    assert trainer.train_step()["loss"].item() == pytest.approx(wanted.item(), rel=1e-4)


def test_the_same_teacher_twice_teaches_what_it_teaches_once():
    once = Trainer(SMALL, CROPS, {"Toy": toy_maps()})
    twice = Trainer(SMALL, CROPS, {"Toy": toy_maps(), "Toy again": toy_maps()})
    confident = Trainer(replace(SMALL, teacher_weighting="confidence"), CROPS, {"a": toy_maps(), "b": toy_maps()})
    for _ in range(3):
        wanted = once.train_step()["loss"].item()
        assert twice.train_step()["loss"].item() == pytest.approx(wanted, rel=1e-5)
        assert confident.train_step()["loss"].item() == pytest.approx(wanted, rel=1e-5)


def test_an_epoch_uses_every_crop_once():
    trainer = Trainer(SMALL, CROPS)
    first, second = (list(chain(*(trainer.batch_of(step) for step in steps))) for steps in (range(4), range(4, 8)))
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second


def test_augmentation_turns_the_crops_and_the_teachers_maps_alike(monkeypatch):
    """With every crop turned, a teacher that runs in each step gives what its turned outputs from the cache give."""
    trainer = Trainer(replace(SMALL, augment=True), CROPS, {"Toy": toy_maps()})
    seen = []
    original = trainer.objective.forward
    monkeypatch.setattr(trainer.objective, "forward", lambda *given: seen.append(given) or original(*given))
    for _ in range(3):
        trainer.train_step()
    turned = 0
    for step, (infrared, visible, (maps,), _) in enumerate(seen):
        wanted = teacher_maps(Toy(), infrared, visible)
        for found, right in zip(maps, wanted):
            torch.testing.assert_close(found, right, rtol=0, atol=1e-3)
        for row, plane in zip(trainer.batch_of(step), infrared):
            crop = to_unit(CROPS[row : row + 1])[0][0]
            codes = [code for code in range(8) if torch.equal(dihedral(crop, code), plane)]
            assert len(codes) == 1
            turned += codes != [0]
    assert turned > 0


def test_averaged_weights_are_the_running_mean_of_the_weights():
    trainer = Trainer(replace(SMALL, ema=0.5), CROPS)
    trainer.train_step()
    wanted = trainer.student.decoder.conv2.weight.clone()
    for _ in range(3):
        trainer.train_step()
        wanted = 0.5 * wanted + 0.5 * trainer.student.decoder.conv2.weight
    torch.testing.assert_close(trainer.best.decoder.conv2.weight, wanted)
    assert trainer.best is not trainer.student


def test_a_loss_of_nan_is_told_with_its_step_and_crops():
    trainer = Trainer(SMALL, CROPS)
    trainer.train_step()
    with torch.no_grad():
        trainer.student.decoder.conv2.bias.fill_(float("nan"))
    crops = ", ".join(str(one) for one in trainer.batch_of(1))
    with pytest.raises(IrvisError, match=f"the loss is nan at step 2, on crops {crops}; lower --learning-rate"):
        trainer.read(trainer.train_step())


def test_bfloat16_stays_near_float32():
    full, half = Trainer(SMALL, CROPS, {"Toy": toy_maps()}), Trainer(SMALL, CROPS, {"Toy": toy_maps()}, amp=True)
    for _ in range(3):
        wanted, found = full.train_step(), half.train_step()
        assert found["loss"].dtype == torch.float32
        assert found["loss"].item() == pytest.approx(wanted["loss"].item(), rel=2e-2)


def test_a_batch_that_cannot_be_shared_out_is_refused():
    with pytest.raises(IrvisError, match="--batch 2 does not divide among 3 processes"):
        Trainer(SMALL, CROPS, among=Processes(0, 3, torch.device("cpu")))


def test_each_process_takes_its_share_of_the_batch(monkeypatch):
    rows = []
    for rank in range(2):
        trainer = Trainer(replace(SMALL, batch=4), CROPS)
        trainer.among = Processes(rank, 2, torch.device("cpu"))
        monkeypatch.setattr(Processes, "mean", lambda self, values: values)
        original = trainer.objective.forward
        monkeypatch.setattr(
            trainer.objective, "forward", lambda *given, call=original: rows.append(given[0]) or call(*given)
        )
        trainer.train_step()
    together = torch.stack([rows[0], rows[1]], dim=1).flatten(0, 1)
    assert torch.equal(together, to_unit(CROPS[trainer.batch_of(0)])[0])


def test_maps_keep_their_order_through_the_trainer():
    maps = toy_maps()
    trainer = Trainer(SMALL, CROPS, {"Toy": maps})
    assert isinstance(trainer.teachers[0], TeacherMaps)
    assert all(torch.equal(one, other) for one, other in zip(trainer.teachers[0], maps))


@pytest.mark.parametrize("weighting", ["fixed", "anneal", "uncertainty"])
def test_a_step_on_another_device_leaves_nothing_behind_on_the_cpu(weighting):
    """The meta device computes no numbers, but refuses to mix with the CPU's tensors as a GPU does."""
    options = {"weighting": weighting, "teacher_weighting": "confidence", "augment": True, "ema": 0.9}
    config = replace(SMALL, correlation=1.0, fidelity=1.0, **options)
    elsewhere = Processes(0, 1, torch.device("meta"))
    trainer = Trainer(config, CROPS, {"a": toy_maps(), "b": toy_maps()}, among=elsewhere)
    for _ in range(2):
        row = trainer.train_step()
    assert {row[name].device.type for name in ("loss", "task", "attention", "fidelity")} == {"meta"}
