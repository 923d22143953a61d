import math
import resource
from contextlib import nullcontext
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.pairs import pairs_of
from irvis.student import objective as objective_module
from irvis.student import trainer as trainer_module
from irvis.student.augment import dihedral
from irvis.student.checkpoint import load_student, save_student
from irvis.student.datasets import draw_crops, to_unit
from irvis.student.distributed import Processes
from irvis.student.downstream import Downstream, DownstreamConfig, open_task
from irvis.student.downstream_targets import turn_targets
from irvis.student.losses import (
    attention_loss,
    correlation,
    correlation_loss,
    distillation_loss,
    fidelity_loss,
    gradient_loss,
    guarded_gradient_loss,
    response_loss,
    response_terms,
    similarity_loss,
    task_loss,
    total_loss,
)
from irvis.student.network import Student, StudentConfig
from irvis.student.objective import Objective
from irvis.student.recipes import TrainConfig
from irvis.student.teacher_cache import TeacherMaps, teacher_maps
from irvis.student.train_options import HELP
from irvis.student.trainer import Trainer
from irvis.student.weighting import WEIGHTINGS

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


def test_the_one_number_that_is_not_the_papers_says_so():
    assert TrainConfig().warmup > 0
    assert "(the paper: none)" in HELP["warmup"]


def losses_of(trainer, count=1):
    """Take steps; give the loss of each."""
    trainer.launch(count)
    return [row["loss"] for row in trainer.read()]


def seen_by(trainer, monkeypatch):
    """Return a list to which each step adds what its objective was given."""
    seen = []
    original = trainer.objective.forward
    monkeypatch.setattr(trainer.objective, "forward", lambda *given: seen.append(given) or original(*given))
    return seen


def test_training_lowers_the_loss(samples):
    crops = draw_crops(pairs_of(samples), 8, 16, seed=0).crops
    trainer = Trainer(replace(SMALL, batch=8, steps=30, learning_rate=3e-3), crops)
    losses = losses_of(trainer, 30)
    assert losses[-1] < 0.85 * losses[0]


def test_the_gradient_loss_gains_its_weight_during_the_warmup():
    objective = Trainer(replace(SMALL, warmup=0.2), CROPS).objective
    weights = [objective.beta_grad(torch.tensor(progress)).item() for progress in (0, 0.05, 0.1, 0.2, 0.99)]
    assert weights == pytest.approx([0, 2.5, 5, 10, 10], rel=1e-6)
    assert Trainer(SMALL, CROPS).objective.beta_grad(torch.tensor(0.0)) == 10


@pytest.mark.parametrize(("warmup", "loss"), [(0.2, guarded_gradient_loss), (0.0, gradient_loss)])
def test_the_gradient_losses_are_guarded_from_negatives_unless_all_is_as_in_the_paper(warmup, loss):
    class Negative(nn.Module):
        def forward(self, infrared, visible, return_feature=False):
            return 1 - torch.maximum(infrared, visible), trainer.student(infrared, visible, True)[1]

    trainer = Trainer(replace(SMALL, warmup=warmup), CROPS, {"Toy": toy_maps()})
    infrared, visible = to_unit(CROPS[:2])
    maps = [TeacherMaps(*(tensor[:2] for tensor in trainer.teachers[0]))]
    objective = Objective(Negative(), trainer.config, channels_last=False)
    parts = objective(infrared, visible, maps, torch.tensor(0.9))
    fused, wanted = 1 - torch.maximum(infrared, visible), Toy()(infrared, visible)[1]
    assert parts["gradient"].item() == pytest.approx(loss(fused, infrared, visible).item(), rel=1e-5)
    intensity, edges = response_terms(wanted, fused, guarded=warmup > 0)
    assert parts["response"].item() == pytest.approx((intensity + 10 * edges).item(), rel=1e-5)
    assert gradient_loss(fused, infrared, visible) < guarded_gradient_loss(fused, infrared, visible)


@pytest.mark.parametrize(("warmup", "turns_out"), [(0.0, -1), (0.3, 1)])
def test_from_an_unlucky_seed_the_guard_keeps_training_from_negatives(samples, warmup, turns_out):
    """At this seed the first images are negatives. The paper's losses leave them so; these 60 steps are its first."""
    crops = draw_crops(pairs_of(samples), 32, 24, seed=0).crops
    infrared, visible = to_unit(crops)
    rates = {"learning_rate": 5e-4, "learning_rate_start": 2e-4, "learning_rate_end": 5e-5}
    config = TrainConfig(crops=32, crop_side=24, steps=60, warmup=warmup, seed=0, **rates)
    trainer = Trainer(config, crops, {"Toy": teacher_maps(Toy(), infrared, visible)})
    trainer.launch(60)
    trainer.read()
    with torch.no_grad():
        assert turns_out * correlation(trainer.student(infrared, visible), torch.maximum(infrared, visible)) > 0.2


def test_a_step_minimises_the_papers_sum():
    """Eq. 16 from the whole features and images, where the trainer has the teacher's maps alone."""
    config = replace(
        SMALL, alpha_kd=0.5, lambda_att=2.0, lambda_sim=3.0, lambda_out=4.0, lambda_grad=5.0, beta_grad=6.0
    )
    trainer = Trainer(replace(config, correlation=0.7, fidelity=0.9), CROPS, {"Toy": toy_maps()})
    infrared, visible = to_unit(CROPS[trainer.schedule.crops[0]])
    feature, image = Toy()(infrared, visible)
    fused, own = trainer.student(infrared, visible, return_feature=True)
    wanted = 0.7 * correlation_loss(fused, infrared, visible) + 0.9 * fidelity_loss(fused, infrared, visible)
    wanted = wanted + total_loss(
        task_loss(fused, infrared, visible, 6.0),
        distillation_loss(
            attention_loss(feature, own), similarity_loss(feature, own), response_loss(image, fused, 5.0), 2, 3, 4
        ),
        0.5,
    )
    gradients = torch.autograd.grad(wanted, list(trainer.student.parameters()))
    assert losses_of(trainer) == [pytest.approx(wanted.item(), rel=1e-4)]
    for (name, parameter), gradient in zip(trainer.student.named_parameters(), gradients):
        assert (parameter.grad - gradient).norm() <= 0.01 * gradient.norm(), name


def test_what_a_weighting_learns_is_trained_along_with_a_downstream_task_too():
    for task in (None, joint("boxes=2")):
        trainer = Trainer(replace(SMALL, weighting="uncertainty"), CROPS, {"Toy": toy_maps()}, downstream=task)
        trainer.launch(2)
        assert trainer.objective.weighting.log_variances.all()


def test_dwa_compares_past_windows_in_a_run_of_few_epochs_too():
    trainer = Trainer(replace(SMALL, weighting="dwa"), CROPS, {"Toy": toy_maps()})  # 2.5 epochs of 4 steps
    trainer.launch(3)
    factors = trainer.objective.weighting.factors(torch.tensor(0.3))
    assert factors.sum().item() == pytest.approx(3)
    assert factors.max() > 1


def test_the_same_teacher_twice_teaches_what_it_teaches_once():
    once = Trainer(SMALL, CROPS, {"Toy": toy_maps()})
    twice = Trainer(SMALL, CROPS, {"Toy": toy_maps(), "Toy again": toy_maps()})
    confident = Trainer(replace(SMALL, teacher_weighting="confidence"), CROPS, {"a": toy_maps(), "b": toy_maps()})
    wanted = losses_of(once, 3)
    assert losses_of(twice, 3) == pytest.approx(wanted, rel=1e-5)
    assert losses_of(confident, 3) == pytest.approx(wanted, rel=1e-5)


def test_augmentation_turns_the_crops_and_the_teachers_maps_alike(monkeypatch):
    """With every crop turned, a teacher that runs in each step gives what its turned outputs from the cache give."""
    trainer = Trainer(replace(SMALL, augment=True), CROPS, {"Toy": toy_maps()})
    seen = seen_by(trainer, monkeypatch)
    trainer.launch(3)
    turned = 0
    for step, (infrared, visible, (maps,), _) in enumerate(seen):
        wanted = teacher_maps(Toy(), infrared, visible)
        for found, right in zip(maps, wanted):
            torch.testing.assert_close(found, right, rtol=0, atol=1e-3)
        for row, plane in zip(trainer.schedule.crops[step], infrared):
            crop = to_unit(CROPS[row][None])[0][0]
            codes = [code for code in range(8) if torch.equal(dihedral(crop, code), plane)]
            assert len(codes) == 1
            turned += codes != [0]
    assert turned > 0


def test_averaged_weights_are_the_running_mean_of_the_weights():
    trainer = Trainer(replace(SMALL, ema=0.5), CROPS)
    trainer.launch()
    wanted = trainer.student.decoder.conv2.weight.clone()
    assert torch.equal(trainer.best.decoder.conv2.weight, wanted)
    for _ in range(3):
        trainer.launch()
        wanted = 0.5 * wanted + 0.5 * trainer.student.decoder.conv2.weight
    torch.testing.assert_close(trainer.best.decoder.conv2.weight, wanted)
    assert trainer.best is not trainer.student


def test_a_loss_of_nan_is_told_with_its_step_and_crops():
    trainer = Trainer(SMALL, CROPS)
    trainer.launch()
    with torch.no_grad():
        trainer.student.decoder.conv2.bias.fill_(float("nan"))
    trainer.launch(2)
    crops = ", ".join(str(one) for one in trainer.schedule.crops[1].tolist())
    with pytest.raises(IrvisError, match=f"the loss is nan at step 2, on crops {crops}; lower --learning-rate"):
        trainer.read()


def test_a_task_whose_weights_became_nan_is_told():
    trainer = Trainer(SMALL, CROPS, downstream=joint("boxes=2"))
    trainer.launch()
    torch.nn.init.constant_(trainer.downstream.task.heat.bias, float("nan"))
    with pytest.raises(IrvisError, match=r"step 1 made weights NaN or infinite; .* gradient of the downstream task"):
        trainer.read()


def test_bfloat16_stays_near_float32():
    full, half = Trainer(SMALL, CROPS, {"Toy": toy_maps()}), Trainer(SMALL, CROPS, {"Toy": toy_maps()}, amp=True)
    infrared, visible = to_unit(CROPS[half.schedule.crops[0]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        own = half.student(infrared, visible, return_feature=True)[1].float()
    half.launch(3), full.launch(3)
    rows, wanted = half.read(), full.read()
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in wanted], rel=2e-2)
    attention = attention_loss(Toy()(infrared, visible)[0], own).item()
    assert rows[0]["attention"] == pytest.approx(attention, rel=1e-6)  # the losses are in float32


def test_a_batch_that_cannot_be_shared_out_is_refused():
    with pytest.raises(IrvisError, match="--batch 2 is not divisible by 3 processes"):
        Trainer(SMALL, CROPS, among=Processes(0, 3, torch.device("cpu")))


def test_each_process_takes_its_share_of_the_batch(monkeypatch):
    monkeypatch.setattr(Processes, "mean", lambda self, values: values)
    monkeypatch.setattr(Processes, "together", lambda self: nullcontext())
    monkeypatch.setattr(Processes, "first", lambda self, call: call())
    monkeypatch.setattr(trainer_module, "DistributedDataParallel", lambda module: module)
    rows = []
    for rank in range(2):
        trainer = Trainer(replace(SMALL, batch=4), CROPS, among=Processes(rank, 2, torch.device("cpu")))
        seen = seen_by(trainer, monkeypatch)
        trainer.launch()
        rows.append(seen[0][0])
    together = torch.stack([rows[0], rows[1]], dim=1).flatten(0, 1)
    assert torch.equal(together, to_unit(CROPS[trainer.schedule.crops[0]])[0])


def test_maps_keep_their_order_through_the_trainer():
    maps = toy_maps()
    trainer = Trainer(SMALL, CROPS, {"Toy": maps})
    assert isinstance(trainer.teachers[0], TeacherMaps)
    assert all(torch.equal(one, other) for one, other in zip(trainer.teachers[0], maps))


class Ops(TorchDispatchMode):
    """Keeps the name of each operation, and the devices of the tensors that it takes and gives."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        given = operation(*args, **(kwargs or {}))
        tensors = [one for one in tree_leaves((args, kwargs, given)) if isinstance(one, torch.Tensor)]
        self.seen.append((str(operation), {one.device.type for one in tensors}))
        return given


def joint(spec):
    """A downstream task with two boxes, or a mask, a crop."""
    boxes = torch.tensor([[0, 5.0, 5, 6, 6], [-1, 0, 0, 0, 0]]).expand(8, -1, -1)
    targets = {"boxes": boxes, "masks": (CROPS[:, 0] > 99).to(torch.uint8)}
    return Downstream(DownstreamConfig(spec, 0.5, 2.0), open_task(spec, 0), targets[spec.split("=")[0]])


@pytest.mark.parametrize(
    ("weighting", "channels_last", "downstream"),
    [
        *((name, False, None) for name in WEIGHTINGS),
        ("balance", True, None),
        ("fixed", False, "boxes=2"),
        ("fixed", False, "masks=2"),
    ],
)
def test_a_step_on_another_device_neither_reads_from_it_nor_copies_to_it(
    monkeypatch, weighting, channels_last, downstream
):
    """The meta device computes no numbers, but refuses to mix with the CPU's tensors as a GPU does."""
    options = {"weighting": weighting, "teacher_weighting": "confidence", "augment": True, "ema": 0.9, "warmup": 0.5}
    config = replace(SMALL, correlation=1.0, fidelity=1.0, **options)
    elsewhere = Processes(0, 1, torch.device("meta"))
    task = joint(downstream) if downstream else None
    trainer = Trainer(config, CROPS, {"a": toy_maps(), "b": toy_maps()}, among=elsewhere, downstream=task)
    trainer.objective.channels_last = channels_last
    monkeypatch.setattr(trainer.optimizer, "step", lambda: None)  # on a GPU it promises the same: `capturable`
    trainer.launch()  # which makes what is kept for all steps
    with Ops() as ops:
        trainer.launch()
    assert len(ops.seen) > 500
    assert {(name, device) for name, devices in ops.seen for device in devices - {"meta"}} == set()
    assert not [name for name, _ in ops.seen if "local_scalar" in name or "lift_fresh" in name or "nonzero" in name]


@pytest.mark.parametrize(("amp", "channels_last", "used"), [(0, None, 1), (1, None, 0), (0, False, 0), (1, True, 1)])
def test_channels_last_is_the_default_where_it_is_faster(monkeypatch, amp, channels_last, used):
    seen = []
    original = objective_module.forward_channels_last
    monkeypatch.setattr(objective_module, "forward_channels_last", lambda *given: seen.append(1) or original(*given))
    Trainer(SMALL, CROPS, amp=bool(amp), channels_last=channels_last).launch()
    assert len(seen) == used


def test_a_network_of_another_shape_is_trained_and_no_other_state_taken_for_its(tmp_path):
    narrow = StudentConfig(channels=16, global_blocks=1)
    trainer = Trainer(SMALL, CROPS, network=narrow)
    losses_of(trainer)
    assert trainer.best.config == narrow
    trainer.save(tmp_path / "run.state")
    Trainer(SMALL, CROPS, network=narrow).restore(tmp_path / "run.state")
    with pytest.raises(FileError, match="was made with other network; give the same"):
        Trainer(SMALL, CROPS).restore(tmp_path / "run.state")


def test_a_checkpoint_is_trained_on_at_other_strides(tmp_path):
    save_student(tmp_path / "init.safetensors", Student())
    strided = StudentConfig(global_stride=2, fusion_stride=2)
    trainer = Trainer(SMALL, CROPS, init=tmp_path / "init.safetensors", network=strided)
    assert trainer.student.config == strided
    known = load_student(tmp_path / "init.safetensors")
    for name, tensor in known.state_dict().items():
        assert torch.equal(trainer.student.state_dict()[name], tensor), name
    assert all(math.isfinite(loss) for loss in losses_of(trainer))
    assert Trainer(SMALL, CROPS, init=tmp_path / "init.safetensors").student.config == known.config
    with pytest.raises(IrvisError, match=r"init\.safetensors has other parameters than the student to train: "):
        Trainer(SMALL, CROPS, init=tmp_path / "init.safetensors", network=StudentConfig(channels=16))


def test_a_state_is_not_resumed_from_another_content_of_the_initial_checkpoint(tmp_path):
    init = tmp_path / "init.safetensors"
    save_student(init, Student())
    Trainer(SMALL, CROPS, init=init).save(tmp_path / "run.state")
    Trainer(SMALL, CROPS, init=init.rename(tmp_path / "moved.safetensors")).restore(tmp_path / "run.state")
    other = Student()
    torch.nn.init.ones_(other.decoder.conv2.bias)
    save_student(init, other)
    with pytest.raises(FileError, match="was made with other initial weights; give the same"):
        Trainer(SMALL, CROPS, init=init).restore(tmp_path / "run.state")


def test_a_state_of_before_there_were_strides_is_resumed(tmp_path):
    trainer = Trainer(SMALL, CROPS)
    trainer.launch(2)
    trainer.save(tmp_path / "run.state")
    state = torch.load(tmp_path / "run.state", weights_only=True)
    for name in ("global_stride", "fusion_stride"):
        del state["network"][name]
    torch.save(state, tmp_path / "run.state")
    resumed = Trainer(SMALL, CROPS)
    resumed.restore(tmp_path / "run.state")
    assert resumed.step == 2


def test_a_disk_that_fills_up_while_a_state_is_saved_is_one_line(tmp_path):
    path, trainer = tmp_path / "a.state", Trainer(SMALL, CROPS)
    trainer.save(path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # no root needed, as for a small disk
    try:
        with pytest.raises(FileError, match=r"cannot write .*a\.state: File too large"):
            trainer.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["a.state"]
    assert path.read_bytes() == before


def test_steps_beyond_the_last_are_refused():
    trainer = Trainer(SMALL, CROPS)
    trainer.launch(9)
    with pytest.raises(ValueError, match=r"1 steps are left\. Got 2"):
        trainer.launch(2)


def test_what_was_read_is_not_given_again():
    trainer = Trainer(SMALL, CROPS)
    assert trainer.read() == []
    trainer.launch(2)
    assert [row["step"] for row in trainer.read()] == [1, 2]
    trainer.launch()
    (row,) = trainer.read()
    assert (row["step"], row["learning_rate"]) == (3, pytest.approx(trainer.schedule.rates[2].item()))
    assert trainer.read() == []


@pytest.mark.parametrize("spec", ["boxes=2", "masks=2"])
def test_a_downstream_task_adds_its_weighted_loss_of_the_turned_targets(monkeypatch, spec):
    config, task = replace(SMALL, augment=True, correlation=0.5), joint(spec)
    trainer = Trainer(config, CROPS, {"Toy": toy_maps()}, downstream=task)
    seen = seen_by(trainer, monkeypatch)
    plain = Trainer(config, CROPS, {"Toy": toy_maps()})
    trainer.launch(3)
    plain.launch(1)
    (row, *_), (wanted, *_) = trainer.read(), plain.read()
    assert {name: row[name] for name in wanted if name != "loss"} == {n: v for n, v in wanted.items() if n != "loss"}
    assert row["loss"] == pytest.approx(wanted["loss"] + 0.5 * row["downstream"], rel=1e-6)
    codes, crops = trainer.schedule.codes, trainer.schedule.crops
    for step, (*_, progress, targets) in enumerate(seen):
        assert progress.item() == pytest.approx(step / 10)
        assert torch.equal(targets, turn_targets(task.targets[crops[step]], codes[step], 16))


def test_the_task_learns_at_its_own_rate_and_is_no_part_of_the_average():
    trainer = Trainer(replace(SMALL, ema=0.5), CROPS, downstream=joint("boxes=2"))
    before = [parameter.clone() for parameter in trainer.downstream.task.parameters()]
    trainer.launch(2)
    assert [group["lr"].item() for group in trainer.optimizer.param_groups] == pytest.approx(
        [trainer.schedule.rates[1].item(), 2 * trainer.schedule.rates[1].item()]
    )
    assert all((one != other).any() for one, other in zip(before, trainer.downstream.task.parameters()))
    assert not [name for name, _ in trainer.best.named_parameters() if "downstream" in name]


def test_a_frozen_task_stays_as_it_is_and_still_moves_the_student():
    task = joint("boxes=2")
    task.task.requires_grad_(False)
    before = [parameter.clone() for parameter in task.task.parameters()]
    trainer, plain = Trainer(SMALL, CROPS, downstream=task), Trainer(SMALL, CROPS)
    losses_of(trainer, 2), losses_of(plain, 2)
    assert all(torch.equal(one, other) for one, other in zip(before, task.task.parameters()))
    weights = (run.student.decoder.conv2.weight for run in (trainer, plain))
    assert not torch.equal(*weights)


def test_a_state_is_taken_up_with_the_task_it_was_made_with(tmp_path):
    path = tmp_path / "run.state"
    stopped, straight = (Trainer(SMALL, CROPS, downstream=joint("boxes=2")) for _ in range(2))
    wanted = losses_of(straight, 10)
    losses_of(stopped, 4)
    stopped.save(path)
    resumed = Trainer(SMALL, CROPS, downstream=joint("boxes=2"))
    resumed.restore(path)
    assert losses_of(resumed, 6) == wanted[4:]
    relabelled = joint("boxes=2")
    relabelled = relabelled._replace(targets=relabelled.targets + 1)
    for other in (None, joint("masks=2"), relabelled):
        with pytest.raises(FileError, match="was made with other downstream task or labels; give the same"):
            Trainer(SMALL, CROPS, downstream=other).restore(path)


class Random(nn.Module):
    """A task that draws random numbers at each step, as one with dropout does."""

    labels, classes = "masks", 2

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(1, 1, 3), nn.Dropout2d(0.3))

    def forward(self, fused, targets):
        return self.net(fused).square().mean()


def random_joint():
    torch.manual_seed(1)
    return Downstream(DownstreamConfig("own:Random", 5.0), Random(), CROPS[:, 0])


def resumed_from(path):
    """Return a run that took up a state, in a process that drew other random numbers before."""
    resumed = Trainer(SMALL, CROPS, downstream=random_joint())
    torch.manual_seed(12345)
    resumed.restore(path)
    return resumed


def test_a_run_with_a_random_task_resumes_to_the_same_losses(tmp_path):
    wanted = losses_of(Trainer(SMALL, CROPS, downstream=random_joint()), 10)
    stopped = Trainer(SMALL, CROPS, downstream=random_joint())
    losses_of(stopped, 4)
    stopped.save(tmp_path / "run.state")
    assert losses_of(resumed_from(tmp_path / "run.state"), 6) == wanted[4:]
    state = torch.load(tmp_path / "run.state", weights_only=True)
    state["random"]["cuda"] = torch.zeros(16, dtype=torch.uint8)  # as a run on a GPU leaves it
    torch.save(state, tmp_path / "gpu.state")
    assert losses_of(resumed_from(tmp_path / "gpu.state"), 6) == wanted[4:]
    del state["random"]  # as it was before it was kept
    torch.save(state, tmp_path / "old.state")
    assert losses_of(resumed_from(tmp_path / "old.state"), 6) != wanted[4:]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_run_with_a_random_task_resumes_to_the_same_losses_on_a_gpu(tmp_path):
    on_gpu = Processes(0, 1, torch.device("cuda"))
    straight, stopped, resumed = (Trainer(SMALL, CROPS, among=on_gpu, downstream=random_joint()) for _ in range(3))
    torch.manual_seed(0)
    wanted = losses_of(straight, 10)
    torch.manual_seed(0)
    losses_of(stopped, 2)
    stopped.save(tmp_path / "run.state")
    torch.manual_seed(12345)
    resumed.restore(tmp_path / "run.state")
    assert losses_of(resumed, 8) == pytest.approx(wanted[2:], rel=1e-5)
    resumed_from(tmp_path / "run.state").launch()  # on a CPU


def test_a_state_from_before_there_were_downstream_tasks_is_taken_up(tmp_path):
    path = tmp_path / "run.state"
    trainer, resumed = Trainer(SMALL, CROPS), Trainer(SMALL, CROPS)
    losses_of(trainer, 2)
    trainer.save(path)
    state = torch.load(path, weights_only=True)
    del state["downstream"]
    torch.save(state, path)
    resumed.restore(path)
    assert losses_of(resumed, 2) == losses_of(trainer, 2)


def test_a_downstream_loss_of_nan_is_told_by_its_name():
    trainer = Trainer(SMALL, CROPS, downstream=joint("boxes=2"))
    with torch.no_grad():
        trainer.downstream.task.heat.bias.fill_(float("nan"))
    trainer.launch()
    with pytest.raises(IrvisError, match=r"the downstream loss is nan at step 1, on crops \d, \d; lower"):
        trainer.read()
