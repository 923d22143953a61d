import copy

import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.export.deploy import (
    LIMIT,
    DeployAttention,
    DeployDACB,
    DeployEncoders,
    DeployFeedForward,
    DeployRSTBs,
    DeployStudent,
    Normalise,
    bound_after_norm,
    choose_basis,
    conv,
    rotation,
)
from irvis.export.intervals import symmetric, through_conv, through_leaky_relu
from irvis.student.network import Student, StudentConfig


def perturbed_student(seed, **config):
    """Return a student whose every parameter is off its initial value: norms, temperatures and biases too."""
    torch.manual_seed(seed)
    student = Student(StudentConfig(**config)).eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return student


def difference(student, deployed, planes):
    with torch.inference_mode():
        wanted, found = student(*planes), deployed(*planes)
    assert found.shape == wanted.shape
    assert wanted.std() > 1e-3  # a picture, not a saturated plane that anything equals
    return (found - wanted).abs().max().item()


@settings(max_examples=5)
@given(height=st.integers(16, 40), width=st.integers(16, 40), seed=st.integers(0, 10**6))
def test_the_deploy_form_equals_the_student(height, width, seed):
    student = perturbed_student(seed)
    planes = torch.rand(2, 1, 1, height, width, generator=torch.Generator().manual_seed(seed))
    assert difference(student, DeployStudent(student), planes) <= 1e-5


@settings(max_examples=15)
@given(height=st.integers(16, 40), width=st.integers(16, 40), seed=st.integers(0, 10**6))
def test_the_rewrites_are_exact(height, width, seed):
    """In float64, where rounding hides nothing."""
    student = perturbed_student(seed).double()
    generator = torch.Generator().manual_seed(seed)
    planes = torch.rand(2, 1, 1, height, width, generator=generator, dtype=torch.float64)
    assert difference(student, DeployStudent(student), planes) <= 1e-10


@pytest.mark.parametrize(
    "config",
    [
        {"channels": 8, "heads": 2, "global_blocks": 1, "local_blocks": 2, "expansion": 3, "reduction": 4},
        {"channels": 6, "heads": 1, "global_blocks": 2, "local_blocks": 1, "expansion": 1, "reduction": 1},
        {"global_stride": 2, "fusion_stride": 2},
        {"global_stride": 4, "local_blocks": 0},
        {"global_blocks": 0, "fusion_stride": 8},
    ],
)
def test_another_shape_of_the_student_is_rewritten_too(config):
    student = perturbed_student(1, **config).double()
    assert difference(student, DeployStudent(student), torch.rand(2, 1, 1, 19, 16, dtype=torch.float64)) <= 1e-10


WITHOUT_BRANCHES = [["global_blocks"], ["local_blocks"], ["global_blocks", "local_blocks"]]


@pytest.mark.parametrize("gone", WITHOUT_BRANCHES)
@settings(max_examples=5)
@given(height=st.integers(16, 30), width=st.integers(16, 30), seed=st.integers(0, 10**6))
def test_a_student_without_branches_is_rewritten_exactly(gone, height, width, seed):
    student = perturbed_student(seed, **dict.fromkeys(gone, 0)).double()
    generator = torch.Generator().manual_seed(seed)
    planes = torch.rand(2, 1, 1, height, width, generator=generator, dtype=torch.float64)
    assert difference(student, DeployStudent(student), planes) <= 1e-10
    single = copy.deepcopy(student).float()
    assert difference(single, DeployStudent(single), planes.float()) <= 1e-5


@pytest.mark.parametrize("part", ["norm1", "norm2", "temperature", "excite", "encoder_vis", "fusion.conv"])
def test_each_rewritten_part_counts(part):
    """Off from the student where one part is, so that the equality above has seen each of them."""
    student = perturbed_student(2).double()
    deployed = DeployStudent(student)
    changed = [parameter for name, parameter in student.named_parameters() if part in name]
    assert changed
    with torch.no_grad():
        for parameter in changed:
            parameter.add_(0.3 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(3)))
    planes = torch.rand(2, 1, 1, 17, 18, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert difference(student, deployed, planes) > 1e-4
    assert difference(student, DeployStudent(student), planes) <= 1e-10


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flat_frames_equal_the_student(level):
    student = perturbed_student(5)
    plane = torch.full((1, 1, 16, 21), level)
    with torch.inference_mode():
        found, wanted = DeployStudent(student)(plane, plane), student(plane, plane)
    assert (found - wanted).abs().max() <= 1e-5


def test_the_student_is_left_as_it_was():
    student = perturbed_student(6).train()
    before = copy.deepcopy(student.state_dict())
    deployed = DeployStudent(student)
    with torch.no_grad():
        for tensor in [*deployed.parameters(), *deployed.buffers()]:
            tensor.fill_(7)
    assert student.training
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert list(student.state_dict()) == list(before)
    for name, tensor in student.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


def test_the_deploy_form_is_not_trained_by_mistake():
    assert not any(parameter.requires_grad for parameter in DeployStudent(Student()).parameters())


# Safe in FP16: bounds that hold for any input, and powers of two that follow from them.


@pytest.mark.parametrize("channels", [1, 2, 6, 32])
def test_the_rotation_takes_the_mean_to_the_first_axis(channels):
    matrix = rotation(channels)
    unit = torch.eye(channels, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.T, unit)
    torch.testing.assert_close(matrix, matrix.T)
    torch.testing.assert_close(matrix @ torch.full((channels,), channels**-0.5, dtype=torch.float64), unit[0])


def outputs_of(deployed, kind, planes):
    """Return each module of a kind, its input and its output."""
    seen = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: seen.append((module, inputs[0], output)))
        for module in deployed.modules()
        if isinstance(module, kind)
    ]
    with torch.inference_mode():
        deployed(*planes)
    for hook in hooks:
        hook.remove()
    assert seen
    return seen


HOSTILE = {
    "noise": torch.rand(2, 1, 1, 24, 31, generator=torch.Generator().manual_seed(0)),
    "black and white": torch.stack([torch.zeros(1, 1, 24, 31), torch.ones(1, 1, 24, 31)]),
    "extremes": torch.rand(2, 1, 1, 24, 31, generator=torch.Generator().manual_seed(1)).round(),
}


@pytest.mark.parametrize("planes", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(("seed", "gone"), [(0, []), (1, []), (2, []), *enumerate(WITHOUT_BRANCHES, 3)])
def test_no_tensor_passes_its_bound(seed, gone, planes):
    deployed = DeployStudent(perturbed_student(seed, **dict.fromkeys(gone, 0)).double())
    planes = planes.double()
    for block, entering, leaving in outputs_of(deployed, (DeployAttention, DeployFeedForward), planes):
        added = (leaving - entering).abs().amax((0, 2, 3))
        basis = (deployed.fusion.rstb if block in deployed.fusion.rstb else deployed.global_branch).basis
        assert (added <= block.growth.rotated * basis.scale).all()
    for branch, _, leaving in outputs_of(deployed, DeployRSTBs, planes):
        plain = torch.einsum("cd,bdyx->bcyx", branch.basis.leave, leaving)
        assert (plain.amax((0, 2, 3)) <= branch.leaving.high).all()
        assert (plain.amin((0, 2, 3)) >= branch.leaving.low).all()
        assert leaving[:, 1:].square().mean(1).max() <= LIMIT
    for block, _, leaving in outputs_of(deployed, (DeployEncoders, DeployDACB), planes):
        assert (leaving.amax((0, 2, 3)) <= block.leaving.high).all()
        assert (leaving.amin((0, 2, 3)) >= block.leaving.low).all()


def test_scales_are_powers_of_two():
    deployed = DeployStudent(perturbed_student(3))
    scales = [deployed.decoder.factor, *(block.factor for block in deployed.local_branch)]
    for branch in (deployed.global_branch, deployed.fusion.rstb):
        scales += branch.basis.scale.tolist()
    assert all(torch.frexp(torch.tensor(scale)).mantissa == 0.5 for scale in scales)


@pytest.mark.parametrize("layer", ["qkv", "qkv_depthwise"])
@pytest.mark.parametrize("factor", [8.0, 2.0**-4, 2.0**-14, 2.0**-40])
def test_the_size_of_q_and_k_does_not_matter(layer, factor):
    """Attention normalises them; so does the choice of scales: the result is the same to the bit."""
    student = perturbed_student(4)
    louder = copy.deepcopy(student)
    for block in [*louder.global_branch, louder.fusion.rstb]:
        getattr(block.attention, layer).weight.data[: 2 * student.config.channels] *= factor
    planes = torch.rand(2, 1, 1, 20, 17, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        assert torch.equal(DeployStudent(student)(*planes), DeployStudent(louder)(*planes))


# The scales, by the bounds that they are chosen by: half of FP16's range for every sum, and frames of 2048x2048 pixels.
MOST, ROW = 2.0**15, 2.0**11


def loud_student(seed, local_blocks=3, **factors):
    """Return such a student with the weights of layers of some names multiplied."""
    student = perturbed_student(seed, local_blocks=local_blocks).double()
    for name, factor in factors.items():
        for key, parameter in student.named_parameters():
            if f"{name}.weight" in key:
                parameter.data *= factor
    return student


@pytest.mark.parametrize("loudness", [2.0**5, 2.0**8])
def test_a_loud_feed_forward_is_rewritten_exactly_too(loudness):
    """Where gate and value must be scaled, which no student near its initial weights needs."""
    student = loud_student(7, **{"project_in": loudness, "feed_forward.project_out": loudness**-2})
    planes = torch.rand(2, 1, 1, 20, 17, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    assert difference(student, DeployStudent(student), planes) <= 1e-10


@pytest.mark.parametrize("output", [1.0, 2.0**-16])
@pytest.mark.parametrize("loudness", [1.0, 2.0**8])
def test_the_products_of_a_feed_forward_fit(loudness, output):
    deployed = DeployStudent(loud_student(7, **{"project_in": loudness, "feed_forward.project_out": output}))
    parts = [part for part in deployed.modules() if isinstance(part, DeployFeedForward)]
    assert len(parts) == 4
    for part in parts:
        gate, value = (
            bound_after_norm(part.point_gate, part.deep_gate),
            bound_after_norm(part.point_value, part.deep_value),
        )
        assert float((gate * value).max()) <= MOST


@pytest.mark.parametrize("factors", [{}, {"qkv": 2.0**-9}, {"qkv": 2.0**9}, {"qkv_depthwise": 2.0**-14}], ids=str)
def test_q_and_k_fill_what_their_sums_over_a_frame_leave_them(factors):
    deployed = DeployStudent(loud_student(7, **factors))
    for part in deployed.modules():
        for point, deep in zip(part.point_qk, part.deep_qk) if isinstance(part, DeployAttention) else ():
            bound = bound_after_norm(point, deep)
            assert float((bound * ROW).square().max()) <= MOST < float((2 * bound * ROW).square().min())
            rows = point.weight.data.flatten(1).norm(dim=1) * 32**0.5 + point.bias.data.abs()
            assert float(rows.min()) > 2 * (1 - 1e-9)  # far above where FP16 loses digits
            assert float(rows.max()) <= 4 or factors.get("qkv", 1.0) >= 1


@pytest.mark.parametrize("loudness", [2.0**-10, 1.0, 2.0**6])
def test_the_sums_of_a_detail_over_a_row_fit_and_are_no_smaller_than_they_must(loudness):
    deployed = DeployStudent(loud_student(7, pointwise2=loudness))
    entering = deployed.encoders.leaving
    for block in deployed.local_branch:
        hidden = through_leaky_relu(through_conv(block.pointwise1, through_conv(block.depthwise, entering)), 0.0)
        largest = float(through_conv(block.pointwise2, hidden).magnitude.max())
        assert largest * ROW <= MOST or block.factor == 2.0**11
        assert block.factor == 1 or 2 * largest * ROW > MOST
        entering = block.leaving


@pytest.mark.parametrize("loudness", [2.0**-8, 1.0, 2.0**8])
def test_both_layers_of_the_decoder_fit(loudness):
    student = loud_student(7, **{"decoder.conv2": loudness})
    deployed = DeployStudent(student)
    first = through_conv(student.decoder.conv1, deployed.fusion.rstb.leaving)
    last = through_conv(student.decoder.conv2, through_leaky_relu(first))
    largest = max(float(layer.magnitude.max()) for layer in (first, last)) / deployed.decoder.factor
    assert largest > MOST / 2
    assert largest <= MOST or deployed.decoder.factor == 2.0**11


def test_bounds_that_grow_with_the_depth_end_in_factors_that_fp16_has():
    """Eight DACBs bound their details by 2^26 and more; nothing that is computed comes near."""
    deployed = DeployStudent(loud_student(7, pointwise2=2.0**2, local_blocks=8))
    factors = [block.factor for block in deployed.local_branch]
    assert factors[0] < factors[-1] == 2.0**11 == deployed.decoder.factor
    for tensor in deployed.state_dict().values():
        assert torch.isfinite(tensor.half()).all()


LOUD_STREAMS = [
    *({"project_out": factor} for factor in (2.0**-6, 1.0, 2.0**5)),
    {"project_out": 2.0**-6, "encoder_ir.conv2": 2.0**6},
]


@pytest.mark.parametrize("factors", LOUD_STREAMS, ids=str)
def test_the_stream_is_scaled_as_far_as_its_squares_need_and_the_epsilon_bears(factors):
    deployed = DeployStudent(loud_student(7, **factors))
    branch = deployed.global_branch
    bound = through_conv(conv(rotation(32)), deployed.encoders.leaving).magnitude
    for part in branch:
        bound = bound + part.growth.rotated
    scale = branch.basis.scale
    largest = float((bound * scale)[1:].square().max())
    assert largest <= MOST or scale[1] == 2.0**-4
    assert 4 * largest > MOST or scale[1] == 1
    # LayerNorm's factor, 1 / sqrt(eps) of the stream as it was, multiplies the mean's coordinate too.
    mean = float(bound[0] * scale[0] / scale[1]) * 1e-5**-0.5
    assert mean <= MOST or scale[0] == scale[1] * 2.0**-11
    assert 2 * mean > MOST or scale[0] == scale[1]


@pytest.mark.parametrize(("loudness", "bias"), [(2.0**24, 0.0), (1.0, -(2.0**8))])
def test_what_a_first_block_adds_or_the_fusion_enters_with_is_bounded_to_the_end(loudness, bias):
    factors = {"project_out": 2.0**-10, "global_branch.0.feed_forward.project_out": loudness}
    student = loud_student(7, local_blocks=0, **factors)
    student.fusion.conv.bias.data.fill_(bias)  # all of it along the mean's axis
    deployed = DeployStudent(student)
    for branch, _, leaving in outputs_of(deployed, DeployRSTBs, HOSTILE["noise"].double()):
        basis = branch.basis
        plain = torch.einsum("cd,bdyx->bcyx", basis.leave, leaving)
        assert (plain.amax((0, 2, 3)) <= branch.leaving.high).all()
        assert (plain.amin((0, 2, 3)) >= branch.leaving.low).all()
        mean = float(leaving[:, 0].abs().max() / basis.scale[1]) * 1e-5**-0.5
        assert mean <= MOST or basis.scale[0] == basis.scale[1] * 2.0**-11


def test_a_single_large_coordinate_of_the_stream_must_fit_as_well():
    bound = torch.tensor([1.0, 100.0, 200.0, 100.0], dtype=torch.float64)  # 200^2 passes 2^15, their mean does not
    assert choose_basis(bound, 1e-5).scale.tolist() == [0.5] * 4


def test_what_keeps_from_a_division_by_zero_is_not_zero_in_fp16():
    deployed = DeployStudent(loud_student(7, project_out=2.0**8))
    epsilons = [module.eps for module in deployed.modules() if isinstance(module, Normalise)]
    for value in (*epsilons, DeployAttention.LEAST_NORM):
        assert torch.tensor(value).half() > 0
    assert torch.tensor(DeployAttention.OTHER_HEADS).half().isfinite()


def test_a_detail_that_is_never_negative_may_still_be_scaled_down_to_nothing():
    """Squeeze-excite's factor lies in (0, 1), so that 0 is among what a block adds, whatever its detail."""
    student = perturbed_student(8).double()
    block = student.local_branch[0]
    block.pointwise2.weight.data.abs_()
    block.pointwise2.bias.data.fill_(1)
    entering = symmetric(torch.ones(32, dtype=torch.float64))
    leaving = DeployDACB(block, entering).leaving
    assert (leaving.low <= entering.low).all()
    assert (leaving.high >= entering.high + 1).all()


def test_the_bound_behind_a_normalisation_is_reached():
    """By the pixel that follows a row of the weights."""
    part = DeployStudent(perturbed_student(9).double()).global_branch[0]
    nothing_beside = torch.zeros(32, 1, 3, 3, dtype=torch.float64)
    nothing_beside[:, 0, 1, 1] = 1
    bound = bound_after_norm(part.point_v, conv(nothing_beside, groups=32))
    for row, (weight, bias) in enumerate(zip(part.point_v.weight.flatten(1), part.point_v.bias)):
        pixel = (1e6 * bias.sign() * weight).view(1, 32, 1, 1)
        assert part.point_v(part.normalise(pixel))[0, row].abs().item() == pytest.approx(bound[row].item(), rel=1e-6)


def test_what_a_loud_feed_forward_adds_is_bounded_by_both_its_factors():
    deployed = DeployStudent(loud_student(7, project_in=2.0**6))
    for block, entering, leaving in outputs_of(deployed, DeployFeedForward, HOSTILE["noise"].double()):
        basis = (deployed.fusion.rstb if block in deployed.fusion.rstb else deployed.global_branch).basis
        assert ((leaving - entering).abs().amax((0, 2, 3)) <= block.growth.rotated * basis.scale).all()


def test_one_loud_value_bounds_all_that_attention_makes_of_its_head():
    student = perturbed_student(9).double()
    for block in (*student.global_branch, student.fusion.rstb):
        block.attention.qkv.weight.data[64::8] *= 2.0**8  # the first value of each of four heads
    deployed = DeployStudent(student)
    for block, entering, leaving in outputs_of(deployed, DeployAttention, HOSTILE["noise"].double()):
        basis = (deployed.fusion.rstb if block in deployed.fusion.rstb else deployed.global_branch).basis
        assert ((leaving - entering).abs().amax((0, 2, 3)) <= block.growth.rotated * basis.scale).all()
