import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper

from irvis.export.to_onnx import export
from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.shipped import SHIPPED_MODEL
from irvis.student.checkpoint import load_student
from irvis.student.teachers.any_onnx import OnnxTeacher
from irvis.student.teachers.load import open_teacher

# feature = 3 channels of weights times (first, second) input, inner = relu(feature), fused = their weighted sum: an
# exchange of the inputs shows.
WEIGHTS = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]])
MIX = np.array([0.5, 0.25, 0.125])
ANY = ("batch", 1, "height", "width")


def write(path, names=("infrared", "visible"), shape=ANY, kind=TensorProto.FLOAT, outputs=("fused",), external=False):
    """Write the model above and give its path."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        helper.make_node("Concat", list(names), ["both"], axis=1),
        helper.make_node("Conv", ["both", "weights"], ["encoder/feature:0"]),
        helper.make_node("Relu", ["encoder/feature:0"], ["inner"]),
        helper.make_node("Conv", ["inner", "mix"], ["fused"]),
        helper.make_node("ReduceMean", ["inner"], ["mean"], axes=[2, 3], keepdims=0),
    ]
    constants = {"weights": WEIGHTS[:, :, None, None], "mix": MIX[None, :, None, None]}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(value.astype(dtype), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(
        model, path, save_as_external_data=external, location="weights.bin", size_threshold=0, convert_attribute=True
    )
    return path


def wanted(first, second):
    """The same in float64."""
    both = np.concatenate([first.numpy(), second.numpy()], axis=1).astype(np.float64)
    feature = np.einsum("oc,bchw->bohw", WEIGHTS, both)
    return feature, np.einsum("o,bohw->bhw", MIX, feature.clip(0))[:, None]


def planes(batch=2, height=16, width=20):
    return torch.rand(2, batch, 1, height, width, generator=torch.Generator().manual_seed(1)).unbind()


def assert_gives(found, reference, tolerance=1e-6):
    for tensor, array in zip(found, reference):
        assert tensor.dtype == torch.float32
        assert np.abs(tensor.numpy() - array).max() < tolerance


def refusal(call, *arguments, kind=ModelError, **options):
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def model(tmp_path):
    return write(tmp_path / "teacher.onnx")


def test_a_tensor_inside_the_graph_is_the_feature(model):
    teacher = OnnxTeacher(model, "fused", "encoder/feature:0")
    for size in ((16, 20), (33, 17)):
        infrared, visible = planes(3, *size)
        assert_gives(teacher(infrared.requires_grad_(), visible), wanted(infrared.detach(), visible))
    assert teacher.name == "teacher.onnx"
    assert teacher.parameters == 9


def test_fused_and_feature_may_be_outputs_or_the_same_tensor(tmp_path):
    path = write(tmp_path / "t.onnx", outputs=("fused", "encoder/feature:0", "mean"))
    infrared, visible = planes()
    feature, fused = wanted(infrared, visible)
    assert_gives(OnnxTeacher(path, "fused", "encoder/feature:0")(infrared, visible), (feature, fused))
    assert_gives(OnnxTeacher(path, "fused", "fused")(infrared, visible), (fused, fused))


@pytest.mark.parametrize(
    ("names", "swapped"),
    [
        (("infrared", "visible"), False),
        (("visible", "infrared"), True),
        (("VIS", "IR"), True),
        (("input_vi", "input_ir"), True),
        (("vi_first", "ir_second"), True),
        (("ir_first", "vi_second"), False),
        (("vis", "other"), True),
        (("rgb", "thermal"), True),
        (("a", "b"), False),
        (("b", "a"), False),
        (("input.1", "input.2"), False),
    ],
)
def test_inputs_are_told_by_their_names_else_by_their_order(tmp_path, names, swapped):
    path = write(tmp_path / "t.onnx", names=names)
    infrared, visible = planes()
    reference = wanted(visible, infrared) if swapped else wanted(infrared, visible)
    assert_gives(OnnxTeacher(path, "fused", "encoder/feature:0")(infrared, visible), reference)
    turned = OnnxTeacher(path, "fused", "encoder/feature:0", inputs=names[::-1])
    assert_gives(turned(infrared, visible), wanted(visible, infrared))


@pytest.mark.parametrize("names", [("a", "b"), ("a:0", "b:0")])
def test_a_spec_opens_it_and_names_may_hold_colons(tmp_path, names):
    path = write(tmp_path / "with,comma=equals.onnx", names=names)
    teacher = open_teacher(f"{path},fused=fused,feature=encoder/feature:0,inputs={names[1]}:{names[0]}")
    infrared, visible = planes()
    assert_gives(teacher(infrared, visible), wanted(visible, infrared))
    plain = open_teacher(f"{path},feature=encoder/feature:0,fused=fused")
    assert_gives(plain(infrared, visible), wanted(infrared, visible))


@pytest.mark.parametrize(("fixed", "batch"), [(1, 1), (1, 4), (2, 2), (2, 6), (2, 5), (8, 3)])
def test_a_fixed_batch_takes_that_many_pairs_at_a_time(tmp_path, fixed, batch):
    path = write(tmp_path / "t.onnx", shape=(fixed, 1, 16, 20))
    infrared, visible = planes(batch)
    teacher = OnnxTeacher(path, "fused", "encoder/feature:0")
    assert_gives(teacher(infrared, visible), wanted(infrared, visible))


def test_another_size_than_the_fixed_one_and_a_batch_of_none_are_told(tmp_path):
    fixed = write(tmp_path / "fixed.onnx", shape=(2, 1, 16, 20))
    teacher = OnnxTeacher(fixed, "fused", "inner")
    message = refusal(teacher, *planes(2, 20, 16))
    assert "fixed.onnx takes only planes of 16x20 (height x width)" in message
    assert "Got 20x16" in message
    none = OnnxTeacher(write(tmp_path / "none.onnx", shape=(0, 1, "height", "width")), "fused", "inner")
    assert "none.onnx takes batches of 0 pairs" in refusal(none, *planes(2))
    narrow = OnnxTeacher(write(tmp_path / "t.onnx", shape=("batch", 1, "height", 20)), "fused", "inner")
    narrow(*planes(2, 31, 20))
    assert "only planes of anyx20" in refusal(narrow, *planes(2, 20, 16))


def test_half_precision_comes_as_single(tmp_path):
    path = write(tmp_path / "t.onnx", kind=TensorProto.FLOAT16)
    infrared, visible = planes()
    found = OnnxTeacher(path, "fused", "encoder/feature:0")(infrared, visible)
    assert_gives(found, wanted(infrared, visible), tolerance=5e-3)


def test_outputs_may_enter_a_loss(model):
    feature, fused = OnnxTeacher(model, "fused", "inner")(*planes())
    scale = torch.ones(1, requires_grad=True)
    (scale * fused * feature.mean()).mean().backward()
    assert scale.grad is not None


def test_unknown_tensors_are_answered_with_the_near_ones_and_the_outputs(model):
    message = refusal(OnnxTeacher, model, "fuse", "inner")
    assert "no tensor fuse. Near: fused" in message
    assert "its outputs: fused" in message
    assert "Near: encoder/feature:0" in refusal(OnnxTeacher, model, "fused", "encoder/features")


def test_a_feature_that_is_no_map_and_a_fused_that_is_no_plane_are_told(model):
    assert "Got (2, 3)" in refusal(OnnxTeacher(model, "fused", "mean"), *planes())
    assert "= (2, 1, 16, 20). Got (2, 3, 16, 20)" in refusal(OnnxTeacher(model, "inner", "inner"), *planes())


@pytest.mark.parametrize("names", [("only",), ("a", "b", "c")])
def test_other_counts_of_inputs_are_told(tmp_path, names):
    path = write(tmp_path / "t.onnx", names=names)
    assert f"two inputs, infrared and visible. Got {', '.join(names)}" in refusal(OnnxTeacher, path, "fused", "inner")


def test_wrong_names_of_inputs_are_told(model):
    message = refusal(OnnxTeacher, model, "fused", "inner", inputs=("infrared", "visual"))
    assert "has the inputs infrared and visible. Got infrared and visual" in message
    assert "Got visible and visible" in refusal(OnnxTeacher, model, "fused", "inner", inputs=("visible", "visible"))


def test_planes_must_be_of_one_channel_and_floats(tmp_path):
    colour = write(tmp_path / "colour.onnx", shape=("batch", 3, "height", "width"))
    assert "must take floats (B, 1, H, W) as infrared. Got tensor(float) ['batch', 3," in refusal(
        OnnxTeacher, colour, "both", "both"
    )


def test_shapes_that_contradict_each_other_are_one_line(tmp_path):
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 32):
        pytest.skip("ONNX Runtime 1.15 to 1.24 at the least ends the process; docs/files_from_outside.md")
    flat = write(tmp_path / "flat.onnx", shape=("batch", 1, "height"))
    assert "cannot load" in refusal(OnnxTeacher, flat, "both", "both")


def test_planes_of_other_shapes_are_refused(model):
    with pytest.raises(ValueError, match="Got"):
        OnnxTeacher(model, "fused", "inner")(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 20))


@pytest.mark.parametrize("content", [b"", b"hello\nworld\n" * 50, bytes(range(256)) * 8])
def test_what_is_no_onnx_is_refused(tmp_path, content):
    path = tmp_path / "noise.onnx"
    path.write_bytes(content)
    assert str(path) in refusal(OnnxTeacher, path, "fused", "inner", kind=FileError)
    assert "not found" in refusal(OnnxTeacher, tmp_path / "none.onnx", "fused", "inner", kind=FileError)


def test_names_that_are_no_text_are_refused(model, tmp_path):
    content = model.read_bytes().replace(b"fused", b"f\x90sed")
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(FileError, match=r"not a readable ONNX file: .*x\.onnx \(it has names that are not text\)"):
        OnnxTeacher(tmp_path / "x.onnx", "fused", "feature")


def test_the_digest_changes_with_the_file_the_tensors_and_the_inputs(model, tmp_path):
    other = write(tmp_path / "other.onnx", names=("ir", "vi"))
    same = tmp_path / "same.onnx"
    same.write_bytes(model.read_bytes())
    digests = [
        OnnxTeacher(model, "fused", "inner").digest,
        OnnxTeacher(model, "fused", "encoder/feature:0").digest,
        OnnxTeacher(model, "inner", "fused").digest,
        OnnxTeacher(model, "fused", "inner", inputs=("visible", "infrared")).digest,
        OnnxTeacher(other, "fused", "inner").digest,
    ]
    assert len(set(digests)) == len(digests)
    assert {len(digest) for digest in digests} == {64}
    assert OnnxTeacher(same, "fused", "inner").digest == digests[0]


def test_external_data_are_read_and_enter_the_digest(tmp_path):
    path = write(tmp_path / "t.onnx", external=True)
    infrared, visible = planes()
    teacher = OnnxTeacher(path, "fused", "encoder/feature:0")
    assert_gives(teacher(infrared, visible), wanted(infrared, visible))
    data = tmp_path / "weights.bin"
    values = np.frombuffer(data.read_bytes(), np.float32).copy()
    data.write_bytes((values * 2).tobytes())
    assert OnnxTeacher(path, "fused", "encoder/feature:0").digest != teacher.digest
    data.unlink()
    assert str(path) in refusal(OnnxTeacher, path, "fused", "encoder/feature:0", kind=FileError)


def test_the_students_plain_form_gives_what_pytorch_gives(tmp_path):
    """As an ONNX teacher. Its deploy form would give another feature: F_f in a rotated basis, scaled."""
    student = load_student(SHIPPED_MODEL.with_suffix(".safetensors"))
    infrared, visible = planes(1)
    levels = [np.rint(plane.numpy()[0, 0] * 255).astype(np.uint8) for plane in (infrared, visible)]
    path = tmp_path / "plain.onnx"
    export(student, path, None, plain=True, pairs=[tuple(levels)])
    graph = onnx.load(path).graph
    shapes = {each.name: list(each.dims) for each in graph.initializer}
    # The decoder's first convolution takes the feature F_f.
    (feature,) = (node.input[0] for node in graph.node if shapes.get([*node.input, "", ""][1]) == [16, 32, 3, 3])
    with torch.no_grad():
        wanted_fused, wanted_feature = student(infrared, visible, return_feature=True)
    found = OnnxTeacher(path, "fused", feature)(infrared, visible)
    assert_gives(found, (wanted_feature.numpy(), wanted_fused.numpy()), tolerance=1e-4)
