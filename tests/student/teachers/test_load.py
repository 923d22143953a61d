import hashlib
import sys
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file
from torch import nn

from irvis.runtime.errors import FileError, IrvisError, ModelError
from irvis.student.checkpoint import save_student
from irvis.student.network import Student
from irvis.student.teachers import load
from irvis.student.teachers.load import (
    PublishedTeacher,
    checked_output,
    digest_state,
    load_published,
    open_teacher,
    open_teachers,
)
from irvis.student.teachers.network import FusionNetwork
from irvis.student.teachers.published import MODULES


class Tiny(FusionNetwork):
    """Stands in for a published network: takes sides that are multiples of 4, and has a feature of half the size."""

    repository = "somebody/Tiny"
    multiple = 4

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(2, 3, 4, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.up = nn.ConvTranspose2d(3, 1, 4, stride=2, padding=1)

    def forward(self, infrared, visible):
        assert infrared.shape[2] % 4 == infrared.shape[3] % 4 == 0
        feature = self.norm(self.down(torch.cat([infrared, visible], dim=1)))
        return feature, torch.sigmoid(self.up(feature))


@pytest.fixture
def tiny(monkeypatch):
    """A Tiny of random weights, which is among the published networks for as long."""
    module = types.ModuleType("irvis.student.teachers.tiny")
    module.Tiny = Tiny
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(MODULES, "Tiny", "tiny")
    torch.manual_seed(0)
    network = Tiny().eval()
    network.norm.running_mean.uniform_(-1, 1)
    return network


@pytest.fixture
def weights(tiny, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(tiny.state_dict(), path)
    return path


def planes(height, width, batch=2):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(2, batch, 1, height, width, generator=generator).unbind()


def refusal(spec, kind=IrvisError):
    with pytest.raises(kind) as caught:
        open_teacher(str(spec))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".model", ".safetensors"])
@pytest.mark.parametrize("wrapped", ["", "params", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_load_from_what_authors_publish(tiny, tmp_path, suffix, wrapped, prefix):
    path = tmp_path / f"weights{suffix}"
    state = {f"{prefix}{name}": tensor for name, tensor in tiny.state_dict().items()}
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({wrapped: state} if wrapped else state, path)
    network = load_published("Tiny", path)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    for name, tensor in tiny.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


@pytest.mark.parametrize("size", [(16, 20), (17, 20), (18, 23), (19, 17)])
def test_sides_are_padded_by_the_last_row_and_column_and_cut_back(tiny, weights, size):
    infrared, visible = planes(*size)
    feature, fused = PublishedTeacher("Tiny", weights)(infrared, visible)
    padding = ((0, 0), (0, 0), (0, -size[0] % 4), (0, -size[1] % 4))
    with torch.no_grad():
        padded = (torch.from_numpy(np.pad(plane.numpy(), padding, mode="edge")) for plane in (infrared, visible))
        wanted_feature, wanted = tiny(*padded)
    assert feature.shape == (2, 3, (size[0] + 3) // 4 * 2, (size[1] + 3) // 4 * 2)
    assert torch.equal(feature, wanted_feature)
    assert torch.equal(fused, wanted[..., : size[0], : size[1]])


def test_outputs_have_no_gradient_yet_may_enter_a_loss(tiny, weights):
    infrared, visible = planes(16, 16)
    feature, fused = PublishedTeacher("Tiny", weights)(infrared.requires_grad_(), visible)
    assert not feature.requires_grad
    assert not fused.requires_grad
    scale = torch.ones(1, requires_grad=True)
    (scale * fused * feature.mean()).mean().backward()
    assert scale.grad is not None


def test_planes_of_other_shapes_are_refused(tiny, weights):
    teacher = PublishedTeacher("Tiny", weights)
    for infrared, visible in (((1, 1, 16, 16), (1, 1, 16, 20)), ((1, 3, 16, 16),) * 2, ((16, 16),) * 2):
        with pytest.raises(ValueError, match="Got"):
            teacher(torch.zeros(infrared), torch.zeros(visible))


@pytest.mark.parametrize("name", ["Tiny", "tiny", "TINY"])
def test_a_name_is_taken_in_any_case(tiny, weights, name):
    teacher = open_teacher(f"{name}={weights}")
    assert teacher.name == "Tiny"
    assert teacher.parameters == 2 * 3 * 16 + 3 + 3 + 3 + 3 * 16 + 1


def test_an_unknown_name_is_answered_with_the_near_ones(weights):
    assert "Near: SHIP" in refusal(f"SHIPP={weights}", ModelError)
    assert "SeAFusion" in refusal(f"SAFusion={weights}", ModelError)


def test_another_networks_weights_are_told_apart(tiny, tmp_path):
    path = tmp_path / "other.pth"
    state = tiny.state_dict()
    del state["up.bias"]
    state.update({f"extra{number}": torch.ones(1) for number in range(5)})
    state["down.weight"] = torch.ones(3, 2, 5, 5)
    torch.save(state, path)
    message = refusal(f"Tiny={path}", ModelError)
    assert str(path) in message
    assert "1 missing (up.bias);" in message
    assert "5 unexpected (extra0, extra1, extra2, ...);" in message
    assert "1 misshaped (down.weight (3, 2, 5, 5) instead of (3, 2, 4, 4))" in message
    assert message.endswith("github.com/somebody/Tiny")


@pytest.mark.parametrize("content", [{1: torch.ones(1)}, {"up.bias": 3}, {}, {"params": {"a": "b"}}])
def test_a_dictionary_of_something_else_is_refused(tiny, tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    assert "github.com/somebody/Tiny" in refusal(f"Tiny={tmp_path / 'other.pth'}", ModelError)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello\nworld\n" * 50, bytes(range(256)) * 8])
def test_what_is_no_weights_file_is_refused(tiny, tmp_path, suffix, content):
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(content)
    assert str(path) in refusal(f"Tiny={path}", FileError)


def test_missing_files_folders_and_bare_tensors_are_refused(tiny, tmp_path):
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    assert "not found" in refusal(f"Tiny={tmp_path / 'none.pth'}", FileError)
    assert "not found" in refusal(f"Tiny={tmp_path}", FileError)
    assert "Got Tensor" in refusal(f"Tiny={tmp_path / 'tensor.pth'}", ModelError)


class MakesFile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_code_in_a_weights_file_is_run(tiny, tmp_path):
    torch.save({"params": MakesFile(tmp_path / "proof")}, tmp_path / "evil.pth")
    refusal(f"Tiny={tmp_path / 'evil.pth'}", FileError)
    assert not (tmp_path / "proof").exists()


def test_the_digest_is_that_of_the_weights_not_of_the_file(tiny, weights, tmp_path):
    save_file(tiny.state_dict(), tmp_path / "weights.safetensors")
    torch.save({"params": tiny.state_dict()}, tmp_path / "wrapped.pth")
    paths = (weights, tmp_path / "weights.safetensors", tmp_path / "wrapped.pth")
    (digest,) = {PublishedTeacher("Tiny", path).digest for path in paths}
    assert len(digest) == 64
    assert int(digest, 16)
    with torch.no_grad():
        tiny.up.bias.copy_(torch.nextafter(tiny.up.bias, torch.ones(1)))
    torch.save(tiny.state_dict(), weights)
    assert PublishedTeacher("Tiny", weights).digest != digest


def test_digests_tell_labels_names_types_and_shapes_apart():
    state = {"a": torch.zeros(4), "b": torch.ones(2, 2)}
    states = [
        {"a": torch.zeros(4), "c": torch.ones(2, 2)},
        {"a": torch.zeros(4), "b": torch.ones(4)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.ones(2, 2)},
        {"a": torch.zeros(4), "b": torch.tensor([[1, 1], [1, -1.0]])},
        {"a": torch.ones(2, 2), "b": torch.zeros(4)},
        {"a": torch.zeros(4), "b": torch.ones(2, 2), "c": torch.zeros(())},
        {"a": torch.zeros(4), "b": torch.ones(2, 2), "c": "text"},
        {"a": torch.zeros(4), "b": torch.ones(2, 2), "c": torch.zeros(0, dtype=torch.bfloat16)},
    ]
    digests = [digest_state("x", state), digest_state("y", state), *(digest_state("x", other) for other in states)]
    assert len(set(digests)) == len(digests)
    assert digest_state("x", dict(reversed(state.items()))) == digests[0]
    assert digest_state("x", {"a": torch.zeros(4, 2)[:, 0], "b": torch.ones(2, 2).t()}) == digests[0]


def test_the_digest_of_no_state_is_that_of_the_label():
    assert digest_state("label", {}) == hashlib.sha256(b"label").hexdigest()


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "SHIP",
        "SHIP=",
        "=weights.pth",
        "weights.pth",
        "teacher.onnx",
        "teacher.onnx,fused=a",
        "teacher.onnx,feature=a",
        "teacher.onnx,fused=a,feature=",
        "teacher.onnx,fused=a,feature=b,of=output",
        "teacher.onnx,fused=a,fused=a,feature=b",
        "teacher.onnx,fused=a,feature=b,inputs=c",
        "teacher.onnx,fused=a,feature=b,inputs=c:",
        "teacher.onnx,fused=a,feature=b,inputs=c:d:e",
        "package.module:function",
        "package.module:function,of=output",
        "package.module:function,feature=a,fused=b",
        "package.module,feature=a",
        "package:module:function,feature=a",
    ],
)
def test_a_bad_spec_is_answered_with_the_forms(spec):
    message = refusal(spec)
    assert repr(spec) in message
    assert all(form in message for form in load.FORMS)


def test_an_unknown_device_is_said_in_a_line(tiny, weights):
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(IrvisError, match=f"device {device}") as caught:
            open_teacher(f"Tiny={weights}", device)
        assert "\n" not in str(caught.value)


MINE = """
import sys
from torch import nn
import helper_of_mine

def student():
    from irvis.student.network import Student
    return Student()

def number():
    return 7

def broken():
    raise KeyError("this key")

def leaves():
    sys.exit(2)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's own in the current folder, with a helper beside it."""
    (tmp_path / "teacher_of_mine.py").write_text(MINE)
    (tmp_path / "helper_of_mine.py").write_text("")
    monkeypatch.chdir(tmp_path)
    yield "teacher_of_mine"
    for name in ("teacher_of_mine", "helper_of_mine"):
        sys.modules.pop(name, None)


def test_a_function_in_the_current_folder_makes_a_teacher(mine):
    before = list(sys.path)
    teacher = open_teacher(f"{mine}:student,feature=decoder")
    assert sys.path == before
    assert teacher.name == "teacher_of_mine:student"
    assert teacher.parameters == 77_713
    infrared, visible = planes(16, 24)
    feature, fused = teacher(infrared, visible)
    assert feature.shape == (2, 32, 16, 24)
    assert fused.shape == (2, 1, 16, 24)
    of_output = open_teacher(f"{mine}:student,feature=encoder_ir,of=output")
    assert of_output(infrared, visible)[0].shape == (2, 16, 16, 24)


def test_two_teachers_of_one_name_are_refused_and_one_given_twice_too(mine, tmp_path):
    files = [tmp_path / name / "student.safetensors" for name in "abc"]
    for seed, file in enumerate(files[:2]):
        torch.manual_seed(seed)
        save_student(file, Student())
    files[2].parent.mkdir()
    files[2].write_bytes(files[0].read_bytes())
    assert [teacher.name for teacher in open_teachers([f"{mine}:student,feature=decoder", str(files[0])])] == [
        f"{mine}:student",
        "student",
    ]
    for specs, said in (
        (files[:2], r"^two teachers are called student; rename one's file or function$"),
        ((files[0], files[2]), r"^a teacher was given twice: student$"),
        ((f"{mine}:student,feature=decoder", f"{mine}:student,feature=fusion"), f"^two teachers are called {mine}:stu"),
    ):
        with pytest.raises(IrvisError, match=said):
            open_teachers([*map(str, specs)])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("number", "must return an nn.Module. Got int"),
        ("broken", "KeyError: 'this key'"),
        ("leaves", "SystemExit: 2"),
        ("nothing", "has no attribute 'nothing'"),
    ],
)
def test_a_function_that_makes_no_module_is_refused(mine, function, said):
    before = list(sys.path)
    message = refusal(f"{mine}:{function},feature=decoder", ModelError)
    assert said in message
    assert f"{mine}:{function}" in message
    assert sys.path == before


def test_a_module_that_is_not_there_is_said_with_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refusal("nowhere.near:make,feature=decoder", ModelError)
    assert "No module named 'nowhere'" in message
    assert str(tmp_path) in message


def test_the_side_of_a_submodule_is_input_or_output(mine):
    assert "Got 'middle'" in refusal(f"{mine}:student,feature=decoder,of=middle", ModelError)


@pytest.mark.parametrize(
    ("feature", "fused", "said"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 8, 9), r"fused plane .* \(2, 1, 8, 8\). Got \(2, 1, 8, 9\)"),
        (torch.zeros(2, 3, 4, 4), None, "fused plane .* Got NoneType"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 1, 8, 8), r"\(B, C, h, w\). Got \(2, 3, 4\)"),
        (None, torch.zeros(2, 1, 8, 8), "Got NoneType"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(2, 1, 8, 8), r"batch, 2. Got \(1, 3, 4, 4\)"),
    ],
)
def test_outputs_of_other_shapes_are_refused(feature, fused, said):
    with pytest.raises(ModelError, match=said):
        checked_output("it", torch.zeros(2, 1, 8, 8), feature, fused)


def test_outputs_of_half_precision_come_as_single():
    outputs = checked_output(
        "it", torch.zeros(2, 1, 8, 8), torch.ones(2, 3, 4, 4).half(), torch.ones(2, 1, 8, 8).half()
    )
    assert {each.dtype for each in outputs} == {torch.float32}


@pytest.mark.parametrize("name", ["student.safetensors", "student.pth"])
def test_a_student_has_no_place_among_the_published(tmp_path, name):
    save_file(Student().state_dict(), tmp_path / name)
    assert "github.com/zheng980629/SHIP" in refusal(f"SHIP={tmp_path / name}", ModelError)


def test_ship_with_its_authors_weights(published):
    path = published / "SHIP.safetensors"
    teacher = open_teacher(f"ship={path}")
    infrared, visible = planes(16, 19, batch=1)
    feature, fused = teacher(infrared, visible)
    assert feature.shape == (1, 16, 16, 19)
    assert 0 <= float(fused.min()) < float(fused.max()) <= 1
    assert teacher.parameters == 547_509
    assert teacher.digest == digest_state("SHIP", load_file(path))
