"""What only an NVIDIA GPU can show; skipped without one."""

import logging
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from irvis.student.datasets import to_unit
from irvis.student.distributed import Processes
from irvis.student.downstream import Downstream, DownstreamConfig, open_task
from irvis.student.recipes import TrainConfig
from irvis.student.step_graph import WARM_UP, StepGraph
from irvis.student.teacher_cache import teacher_maps
from irvis.student.trainer import ALONE, Trainer

STEPS = 20
CONFIG = TrainConfig(
    crops=8, crop_side=64, batch=4, steps=STEPS, learning_rate=1e-3, warmup=0.2, weighting="balance", augment=True,
    teacher_weighting="confidence", ema=0.9, correlation=1.0, fidelity=1.0,
)  # fmt: skip
CROPS = torch.randint(0, 256, (8, 2, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
GPU = Processes(0, 1, torch.device("cuda", 0))


class Toy:
    name, digest = "Toy", "0" * 64

    def __call__(self, infrared, visible):
        return torch.cat([infrared, visible, infrared - visible], dim=1)[..., ::2, ::2], (infrared + visible) / 2


@pytest.fixture(autouse=True)
def exact():
    """Convolutions in float32 proper, so that what differs is the order of sums alone."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def made(config=CONFIG, among=GPU, **options):
    maps = teacher_maps(Toy(), *to_unit(CROPS))
    return Trainer(config, CROPS, {"a": maps, "b": maps}, among=among, **options)


def losses_of(trainer, count=STEPS):
    trainer.launch(count)
    return [row["loss"] for row in trainer.read()]


@pytest.mark.parametrize("weighting", ["balance", "dwa", "anneal", "uncertainty", "fixed"])
def test_the_graph_takes_the_steps_of_the_plain_loop(weighting):
    config = replace(CONFIG, weighting=weighting)
    graph, plain = made(config), made(config, graph=False)
    wanted = losses_of(plain)
    assert losses_of(graph) == pytest.approx(wanted, rel=2e-3)
    assert graph.replays
    assert not plain.replays
    for one, other in zip(graph.best.parameters(), plain.best.parameters()):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)


@pytest.mark.parametrize("options", [{"amp": True}, {"channels_last": True}, {"amp": True, "channels_last": True}])
def test_other_layouts_and_bfloat16_are_graphs_too(options):
    trainer = made(**options)
    assert losses_of(trainer) == pytest.approx(losses_of(made(graph=False)), rel=5e-2)
    assert trainer.replays


@pytest.mark.parametrize("spec", ["boxes=2", "masks=2"])
def test_a_downstream_head_is_part_of_the_graph(spec):
    boxes = torch.tensor([[1, 20.0, 30, 16, 24], [-1, 0, 0, 0, 0]]).expand(8, -1, -1)
    targets = {"boxes": boxes, "masks": (CROPS[:, 0] > 99).to(torch.uint8)}[spec.split("=")[0]]
    graph, plain = (
        made(downstream=Downstream(DownstreamConfig(spec), open_task(spec, 0), targets), graph=recorded)
        for recorded in (True, False)
    )
    assert losses_of(graph) == pytest.approx(losses_of(plain), rel=2e-3)
    assert graph.replays


def test_a_gpu_takes_the_steps_of_a_cpu():
    assert losses_of(made(), 8) == pytest.approx(losses_of(made(among=ALONE), 8), rel=2e-3)


@pytest.mark.parametrize(("among", "graph"), [(GPU, True), (GPU, False), (ALONE, False)], ids=["graph", "loop", "CPU"])
def test_a_state_of_the_graph_goes_on_anywhere(tmp_path, among, graph):
    straight, stopped = made(), made()
    wanted = losses_of(straight)
    losses_of(stopped, 12)
    stopped.save(tmp_path / "run.state")
    resumed = made(among=among, graph=graph)
    resumed.restore(tmp_path / "run.state")
    assert losses_of(resumed, STEPS - 12) == pytest.approx(wanted[12:], rel=2e-3)


def test_several_runs_side_by_side_do_not_disturb_each_other():
    configs = [replace(CONFIG, seed=seed) for seed in range(3)]
    wanted = [losses_of(made(config)) for config in configs]
    trainers = [made(config) for config in configs]
    for _ in range(STEPS):
        for trainer in trainers:
            trainer.launch()
    for trainer, losses in zip(trainers, wanted):
        assert [row["loss"] for row in trainer.read()] == pytest.approx(losses, rel=2e-3)


def test_a_step_that_reads_on_the_host_goes_on_without_a_graph(caplog):
    total = torch.zeros((), device=GPU.device)
    seen = []

    def step():
        total.add_(1)
        seen.append(total.item())

    graph = StepGraph(step, GPU.device)
    with caplog.at_level(logging.WARNING):
        for _ in range(WARM_UP + 3):
            graph()
    graph.wait()
    assert "no CUDA graph of the training step" in caplog.text
    assert not graph.recorded
    assert (seen, total.item()) == ([1, 2, 3, 4, 5, 6], 6)
