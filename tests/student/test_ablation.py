import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from irvis.export.to_onnx import export
from irvis.runtime.fuser import Fuser
from irvis.runtime.images import read_infrared, read_visible
from irvis.runtime.pairs import pairs_of
from irvis.student.ablation import FULL, PARTS, VARIANTS
from irvis.student.checkpoint import load_student
from irvis.student.network import Student, StudentConfig
from irvis.student.objective import Objective
from irvis.student.recipes import TrainConfig
from irvis.student.teacher_cache import teacher_maps
from irvis.student.train import RunOptions, train

EACH = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.slug)

# The ticks of the paper's Table 3: RD, AFD, SFD, GMB, LPB.
TICKS = {
    "w/o MLKD+DB": "-----",
    "w/o MLKD": "---xx",
    "w/o RD": "-xxxx",
    "w/o AFD": "x-xxx",
    "w/o SFD": "xx-xx",
    "w/o DB": "xxx--",
    "w/o GMB": "xxx-x",
    "w/o LPB": "xxxx-",
    "full": "xxxxx",
}


class Toy:
    """A teacher of three channels at half size."""

    name, digest, parameters = "Toy", "0" * 64, 0

    def __call__(self, infrared, visible):
        feature = torch.cat([infrared, visible, infrared - visible], dim=1)[..., ::2, ::2]
        return feature, torch.maximum(infrared, visible)


def test_the_variants_are_those_of_the_paper_in_its_order():
    ticks = {variant.name: "".join("-" if part in variant.lacks else "x" for part in PARTS) for variant in VARIANTS}
    assert list(ticks.items()) == list(TICKS.items())
    assert len({variant.slug for variant in VARIANTS}) == 9
    assert all(character.isalnum() or character == "-" for variant in VARIANTS for character in variant.slug)


@EACH
def test_a_variant_is_the_method_but_for_what_it_lacks(variant):
    base = TrainConfig(steps=7, seed=3)
    config, network = variant.config(base), variant.network
    ticks = dict(zip(PARTS, TICKS[variant.name]))
    found = {
        "RD": config.lambda_out,
        "AFD": config.lambda_att,
        "SFD": config.lambda_sim,
        "GMB": network.global_blocks,
        "LPB": network.local_blocks,
    }
    assert {part: bool(value) for part, value in found.items()} == {part: tick == "x" for part, tick in ticks.items()}
    assert (config.steps, config.seed, config.lambda_grad, network.channels) == (7, 3, 10.0, 32)
    assert variant.distils == ("x" in TICKS[variant.name][:3])


def test_the_full_method_is_the_default_student_and_recipe():
    assert FULL.network == StudentConfig()
    assert FULL.config(TrainConfig()) == TrainConfig()


@pytest.mark.parametrize(
    ("name", "count"),
    [("full", 77_713), ("w/o RD", 77_713), ("w/o GMB", 39_525), ("w/o LPB", 60_081), ("w/o DB", 22_917)],
)
def test_parameters_of_the_variants(name, count):
    network = next(variant for variant in VARIANTS if variant.name == name).network
    assert sum(parameter.numel() for parameter in Student(network).parameters()) == count


@EACH
def test_the_loss_has_the_terms_that_are_ticked(variant):
    torch.manual_seed(0)
    planes = torch.rand(2, 2, 1, 16, 16)
    objective = Objective(Student(variant.network), variant.config(TrainConfig(warmup=0.0)))
    parts = objective(*planes, [teacher_maps(Toy(), *planes)], 0.0)
    terms = dict(zip(("RD", "AFD", "SFD"), (parts[name] for name in ("response", "attention", "similarity"))))
    assert all(term > 0 for term in terms.values())
    wanted = parts["task"] + sum(term for part, term in terms.items() if part not in variant.lacks)
    assert parts["loss"].item() == pytest.approx(wanted.item(), rel=1e-6)
    parts["loss"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in objective.student.parameters() if parameter.ndim > 1)


@EACH
def test_a_variant_trains_exports_and_runs(variant, samples, tmp_path):
    pairs = pairs_of(samples)
    checkpoint = tmp_path / "student.safetensors"
    config = variant.config(TrainConfig(crops=4, crop_side=16, batch=2, steps=3, warmup=0.0))
    options = RunOptions(cache=tmp_path / "cache", tensorboard=False)
    teachers = [Toy()] if variant.distils else ()
    assert train(pairs, checkpoint, config, teachers=teachers, options=options, network=variant.network)
    student = load_student(checkpoint)
    assert student.config == variant.network
    torch.manual_seed(config.seed)
    assert any(not torch.equal(*both) for both in zip(student.parameters(), Student(variant.network).parameters()))
    infrared = read_infrared(pairs[0].infrared)[:24, :32].copy()
    visible = read_visible(pairs[0].visible)[:24, :32].copy()
    fused = []
    for plain in (True, False):
        model = tmp_path / f"{plain}.onnx"
        assert export(student, model, (24, 32), plain=plain) <= 1e-5
        with Fuser(model, infrared_smoothing=0, providers=["CPUExecutionProvider"]) as fuser:
            fused.append(fuser(infrared, visible).astype(int))
    assert fused[0].shape == visible.shape
    assert abs(fused[0] - fused[1]).max() <= 1
