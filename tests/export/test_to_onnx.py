import hashlib
import itertools
import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import numpy_helper
from torch import nn

from irvis.export import to_onnx
from irvis.export.check_onnx import find_obstacles
from irvis.export.to_onnx import export, largest_difference
from irvis.export.transposes import share_transposes
from irvis.runtime import cli
from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.frames import split_luminance
from irvis.runtime.images import read_infrared, read_visible, write_image
from irvis.runtime.pairs import pairs_of
from irvis.runtime.shipped import NAMES, SHIPPED_MODEL, find_model
from irvis.student.checkpoint import load_student, save_student
from irvis.student.network import Student, StudentConfig

SIZE = (24, 37)


def random_student(seed=0, **config):
    """Return a student whose every parameter is off its initial value."""
    torch.manual_seed(seed)
    student = Student(StudentConfig(**config)).eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return student


def random_planes(size, seed=0):
    return tuple(np.random.default_rng(seed).integers(0, 256, (2, *size), np.uint8))


def difference(model, student, size, seed=0):
    """Compare ONNX Runtime with PyTorch, independently of the export's own check."""
    planes = np.random.default_rng(seed).random((2, 1, 1, *size), np.float32)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(zip(("infrared", "visible"), planes)))
    with torch.inference_mode():
        wanted = student(*torch.from_numpy(planes)).numpy()
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    return np.abs(found - wanted).max()


def run(capsys, *arguments):
    """Return the exit code, stdout and the lines on stderr of ``irvis export``."""
    code = cli.main(["export", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err.splitlines()


@pytest.fixture(scope="module")
def student():
    return random_student()


@pytest.fixture(scope="module")
def checkpoint(student, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "student.safetensors"
    save_student(path, student)
    return path


@pytest.fixture(scope="module")
def exported(student, tmp_path_factory):
    """Every kind of export by (dynamic, plain)."""
    folder = tmp_path_factory.mktemp("exported")
    paths = {}
    for dynamic, plain in itertools.product((False, True), repeat=2):
        path = paths[dynamic, plain] = folder / f"{dynamic}-{plain}.onnx"
        error = export(student, path, None if dynamic else SIZE, plain=plain, pairs=[random_planes(SIZE)])
        assert 0 < error <= 1e-5
    return paths


KINDS = pytest.mark.parametrize(
    ("dynamic", "plain"),
    [(False, False), (False, True), (True, False), (True, True)],
    ids=["static-deploy", "static-plain", "dynamic-deploy", "dynamic-plain"],
)


@KINDS
def test_the_graph_is_one_that_tensorrt_takes(exported, dynamic, plain):
    model = onnx.load(exported[dynamic, plain])
    onnx.checker.check_model(model, full_check=True)
    assert find_obstacles(model) == []
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
    assert model.ir_version <= 8
    assert model.producer_name == "irvis"
    assert exported[dynamic, plain].stat().st_size < 1e6


@KINDS
def test_no_tensor_is_transposed_twice_but_for_a_product(exported, dynamic, plain):
    """A product swaps its factor's last two axes without a copy, unless the exporter merged that into a transpose."""
    model = onnx.load(exported[dynamic, plain])
    before = model.SerializeToString()
    share_transposes(model)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (40, 52), (33, 27)])
@pytest.mark.parametrize("dynamic", [False, True])
def test_at_strides(tmp_path, dynamic, size, plain):
    """Without arithmetic of shapes where the size is fixed, without branches in any case."""
    student = random_student(global_stride=2, fusion_stride=4)
    path = tmp_path / "fast.onnx"
    error = export(student, path, None if dynamic else size, plain=plain, pairs=[random_planes(size)])
    assert 0 < error <= 1e-5
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert "Resize" in operators
    assert ("Shape" in operators) == dynamic
    assert "If" not in operators


@KINDS
def test_each_weight_is_used(exported, dynamic, plain):
    """ONNX Runtime warns of each that is not."""
    graph = onnx.load(exported[dynamic, plain]).graph
    used = {name for node in graph.node for name in node.input}
    assert [weight.name for weight in graph.initializer if weight.name not in used] == []


@KINDS
def test_inputs_outputs_and_metadata_are_as_documented(exported, dynamic, plain):
    session = onnxruntime.InferenceSession(str(exported[dynamic, plain]), providers=["CPUExecutionProvider"])
    height, width = ("height", "width") if dynamic else SIZE
    assert [(value.name, value.shape, value.type) for value in session.get_inputs()] == [
        (name, [1, 1, height, width], "tensor(float)") for name in ("infrared", "visible")
    ]
    (fused,) = session.get_outputs()
    assert (fused.name, fused.type) == ("fused", "tensor(float)")
    assert fused.shape == [1, 1, height, width]
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["form"] == ("plain" if plain else "deploy")
    assert metadata["size"] == ("any" if dynamic else "24x37")
    assert metadata["irvis_version"]
    assert "[0, 1]" in metadata["inputs"]
    assert "(0, 1)" in metadata["output"]


@KINDS
def test_onnx_runtime_equals_pytorch(exported, student, dynamic, plain):
    sizes = [SIZE, (16, 16), (17, 31), (40, 33)] if dynamic else [SIZE]
    for size in sizes:
        assert difference(exported[dynamic, plain], student, size) <= 1e-5


def test_the_deploy_form_and_the_plain_one_are_different_graphs(exported):
    counts = [len(onnx.load(exported[False, plain]).graph.node) for plain in (False, True)]
    assert counts[0] != counts[1]


def test_exporting_leaves_the_student_trainable(tmp_path):
    student = random_student()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    export(student, tmp_path / "s.onnx", (16, 16))
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


def shapes_compared_on(monkeypatch):
    """Return a list to which each comparison adds the shape of each pair's planes."""
    seen = []
    original = largest_difference

    def spy(student, model, pairs, size):
        seen.extend(planes[0].shape for planes in pairs)
        return original(student, model, pairs, size)

    monkeypatch.setattr(to_onnx, "largest_difference", spy)
    return seen


def test_an_export_without_pairs_is_checked_on_generated_ones(student, tmp_path, monkeypatch):
    seen = shapes_compared_on(monkeypatch)
    assert export(student, tmp_path / "s.onnx", (16, 20)) <= 1e-5
    assert len(seen) >= 3
    assert set(seen) == {(16, 20)}


def fails_on_nan(monkeypatch, student):
    student = random_student()
    with torch.no_grad():
        student.local_branch[0].channel_attention.squeeze.weight[0, 0] = float("nan")
    return student, "differ by inf"


def fails_the_parser(monkeypatch, student):
    monkeypatch.setattr(to_onnx, "OPSET", 18)
    return student, "TensorRT 8.5 would not take this graph: .*opset 18"


@pytest.mark.parametrize("failure", [fails_on_nan, fails_the_parser])
@pytest.mark.parametrize("previous", [None, b"the previous file"])
def test_a_failed_check_leaves_what_was_there(student, tmp_path, monkeypatch, failure, previous):
    output = tmp_path / "s.onnx"
    if previous:
        output.write_bytes(previous)
    student, said = failure(monkeypatch, student)
    with pytest.raises(ModelError, match=said) as caught:
        export(student, output, (16, 16))
    assert "\n" not in str(caught.value)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([previous] if previous else [])


class Off(nn.Module):
    """Gives what a network gives, and ``by`` more."""

    def __init__(self, network, by):
        super().__init__()
        self.network, self.by = network, by

    def forward(self, *planes):
        return self.network(*planes) + self.by


@pytest.mark.parametrize(
    ("config", "form", "taken", "refused", "said"),
    [
        ({}, {}, 7e-6, 1.5e-5, r"differ by 1\.\de-05, over 1e-05"),
        ({"global_stride": 2}, {}, -4e-5, -6e-5, r"differ by \d\.\de-05, over 5e-05"),
        ({"global_stride": 2}, {"plain": True}, 9e-5, 1.1e-4, r"differ by 1\.\de-04, over 1e-04"),
        ({}, {"frames": True}, 0.5 / 255, 1.5 / 255, r"differ by 2 grey levels, over 1$"),
    ],
    ids=["deploy", "strided", "plain", "frames"],
)
def test_a_graph_may_differ_by_the_documented_tolerance(tmp_path, monkeypatch, config, form, taken, refused, said):
    student, original = random_student(**config), to_onnx.write_graph

    def write_off(by):
        def write(network, *rest):
            if form.get("frames"):
                network.network = Off(network.network, by)
            return original(network if form.get("frames") else Off(network, by), *rest)

        monkeypatch.setattr(to_onnx, "write_graph", write)

    write_off(taken)
    export(student, tmp_path / "taken.onnx", (16, 16), **form)
    write_off(refused)
    with pytest.raises(ModelError, match=said):
        export(student, tmp_path / "refused.onnx", (16, 16), **form)
    assert [file.name for file in tmp_path.iterdir()] == ["taken.onnx"]


def test_a_graph_that_differs_from_the_student_is_found_out(exported, student, tmp_path):
    model = onnx.load(exported[False, False])
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "decoder.conv2.weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name))
    onnx.save(model, tmp_path / "other.onnx")
    pairs = [random_planes(SIZE)]
    assert largest_difference(student, exported[False, False], pairs, SIZE) <= 1e-5
    assert largest_difference(student, tmp_path / "other.onnx", pairs, SIZE) > 1e-4


def test_the_largest_difference_is_that_of_the_worst_pair(exported, student):
    pairs = [random_planes((20, 20), seed) for seed in range(3)]
    alone = [largest_difference(random_student(1), exported[True, False], [pair], None) for pair in pairs]
    together = largest_difference(random_student(1), exported[True, False], pairs, None)
    assert together == pytest.approx(max(alone), rel=1e-4)
    assert len({round(value, 4) for value in alone}) > 1


def test_nan_on_either_side_is_no_agreement(exported, student, tmp_path):
    broken = random_student()
    with torch.no_grad():
        broken.decoder.conv2.bias.fill_(float("nan"))
    pairs = [random_planes(SIZE)]
    assert largest_difference(broken, exported[False, False], pairs, SIZE) == float("inf")
    model = onnx.load(exported[False, False])
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "decoder.conv2.bias")
    tensor.CopyFrom(numpy_helper.from_array(np.full(1, np.nan, np.float32), tensor.name))
    onnx.save(model, tmp_path / "nan.onnx")
    assert largest_difference(student, tmp_path / "nan.onnx", pairs, SIZE) == float("inf")


def test_the_command_writes_the_onnx_and_says_what_it_is(checkpoint, student, samples, tmp_path, capsys):
    output = tmp_path / "deep" / "s.onnx"
    code, said, trouble = run(capsys, checkpoint, "-o", output, "--size", "17x20", "--pairs", samples)
    assert (code, trouble) == (0, [])
    assert said.startswith(f"wrote {output}: deploy form, 17x20, opset 13, ")
    assert "largest difference from PyTorch on " in said
    metadata = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
    assert metadata["checkpoint"] == checkpoint.name
    assert metadata["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert difference(output, student, (17, 20)) <= 1e-5


def test_the_command_writes_beside_the_checkpoint_and_checks_on_given_pairs(
    checkpoint, samples, tmp_path, monkeypatch, capsys
):
    copy, seen = tmp_path / "mine.safetensors", shapes_compared_on(monkeypatch)
    copy.write_bytes(checkpoint.read_bytes())
    code, said, trouble = run(capsys, copy, "--dynamic", "--plain", "--pairs", samples)
    assert (code, trouble) == (0, [])
    count = len(pairs_of(samples))
    assert said.startswith(f"wrote {tmp_path / 'mine.onnx'}: plain form, any size, ")
    assert f"PyTorch on {count} pairs" in said
    assert seen == [(96, 128)] * count


def test_a_shipped_student_is_given_by_its_name_and_written_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student").mkdir()  # as in a checkout, where a folder has that name
    code, _, err = run(capsys, "student", "--size", "16x24")
    assert (code, err) == (0, [])
    student = load_student(find_model("student", ".safetensors"))
    assert difference(tmp_path / "student.onnx", student, (16, 24)) <= 1e-5


@pytest.mark.parametrize("checkpoint", ["", ".", "/"])
def test_a_checkpoint_without_a_name_is_one_line(capsys, checkpoint):
    code, said, (trouble,) = run(capsys, checkpoint)
    assert (code, said) == (1, "")
    assert trouble.startswith("irvis export: checkpoint not found: ")


def test_names_that_are_no_utf_8_work(student, tmp_path, capsys):
    checkpoint, output = (tmp_path / os.fsdecode(b"caf\xe9" + suffix) for suffix in (b".pt", b".onnx"))
    torch.save(student.state_dict(), checkpoint)
    code, said, trouble = run(capsys, checkpoint, "-o", output, "--size", "17x20")
    assert (code, trouble) == (0, [])
    assert said.startswith(f"wrote {tmp_path}/caf\\udce9.onnx: ")
    metadata = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
    assert metadata["checkpoint"] == "caf\\udce9.pt"


def test_a_missing_checkpoint_is_one_line(tmp_path, capsys):
    path = tmp_path / "none.safetensors"
    assert run(capsys, path) == (1, "", [f"irvis export: checkpoint not found: {path}"])


@pytest.mark.parametrize("name", ["s.safetensors", "s.pt"])
def test_a_corrupt_checkpoint_is_one_line(tmp_path, capsys, name):
    path = tmp_path / name
    path.write_bytes(b"\x80\x02corrupt\n" * 20)
    code, said, trouble = run(capsys, path)
    assert (code, said, len(trouble)) == (1, "", 1)
    assert str(path) in trouble[0]
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_cannot_be_written_is_one_line(checkpoint, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file" / "s.onnx", tmp_path):
        code, said, trouble = run(capsys, checkpoint, "-o", output, "--size", "16x16")
        assert (code, said, len(trouble)) == (1, "", 1)
        assert trouble[0].startswith(f"irvis export: cannot write {output}: ")
    with pytest.raises(FileError):
        export(Student(), tmp_path / "file" / "s.onnx", (16, 16))


@pytest.mark.parametrize(
    ("infrared", "visible"),
    [
        (np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8)),
        (np.zeros((20, 20), np.uint16), np.zeros((20, 20), np.uint8)),
        (np.zeros((15, 20), np.uint8), np.zeros((15, 20), np.uint8)),
    ],
    ids=["sizes differ", "16 bits", "too small"],
)
def test_pairs_to_check_on_that_are_none_are_one_line(checkpoint, tmp_path, capsys, infrared, visible):
    write_image(tmp_path / "ir" / "odd.png", infrared)
    write_image(tmp_path / "vi" / "odd.png", visible)
    code, said, trouble = run(capsys, checkpoint, "-o", tmp_path / "s.onnx", "--dynamic", "--pairs", tmp_path)
    assert (code, said, len(trouble)) == (1, "", 1)
    assert trouble[0].startswith("irvis export: odd is not a pair of 8-bit images")
    assert not (tmp_path / "s.onnx").exists()


def test_a_folder_without_pairs_is_one_line(checkpoint, tmp_path, capsys):
    code, said, trouble = run(capsys, checkpoint, "-o", tmp_path / "s.onnx", "--pairs", tmp_path / "none")
    assert (code, said, trouble) == (1, "", [f"irvis export: folder not found: {tmp_path / 'none'}"])


def tno_planes(data, names=None):
    for pair in pairs_of(data / "TNO" / "test"):
        if names is None or pair.name in names:
            yield read_infrared(pair.infrared), split_luminance(read_visible(pair.visible)).y


def test_the_shipped_student_exports_to_1e_5_on_real_pairs(data, tmp_path):
    pairs = list(tno_planes(data, ("01", "14")))
    assert len(pairs) == 2
    cut = [tuple(plane[40:161, 60:201] for plane in pair) for pair in pairs]
    assert export(load_student(find_model(None, ".safetensors")), tmp_path / "s.onnx", None, pairs=cut) <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_onnx_is_that_of_its_checkpoint(name):
    checkpoint = find_model(name, ".safetensors")
    model = onnx.load(find_model(name))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert metadata["form"] == "deploy"
    assert find_obstacles(model) == []


@pytest.mark.slow
def test_all_25_tno_pairs_at_their_own_sizes(data, capsys):
    student, worst = load_student(find_model(None, ".safetensors")), {}
    for number, planes in enumerate(tno_planes(data), 1):
        worst[number] = largest_difference(student, SHIPPED_MODEL, [planes], None)
    with capsys.disabled():
        print(f"\nlargest difference over {len(worst)} TNO pairs: {max(worst.values()):.2e}")
    assert len(worst) == 25
    assert max(worst.values()) <= 1e-5


def test_no_mean_of_the_deploy_form_is_over_more_than_rows_or_columns(graphs):
    """A running sum in FP16 stops growing after some thousand terms."""
    means = [node for node in onnx.load(graphs[1]).graph.node if node.op_type == "ReduceMean"]
    axes = [list(attribute.ints) for node in means for attribute in node.attribute if attribute.name == "axes"]
    assert len(axes) == len(means) == 4 * 2 + 3 * 2  # of four attentions and three blocks of squeeze-excite
    assert all(len(one) == 1 for one in axes)
