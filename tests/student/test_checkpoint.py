import json
import pickle
from collections import OrderedDict
from dataclasses import asdict

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from irvis.runtime.errors import FileError, IrvisError, ModelError
from irvis.runtime.shipped import NAMES, find_model
from irvis.student.checkpoint import KIND, is_safetensors, load_student, read_metadata, save_student
from irvis.student.network import Student, StudentConfig


def assert_same_weights(student, other):
    wanted, found = student.state_dict(), other.state_dict()
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def refusal(path, kind):
    """Return the message with which ``path`` is refused: one line that names the file."""
    with pytest.raises(kind) as caught:
        load_student(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def write_safetensors(path, config=None, **changes):
    """Write a student's tensors with ``changes`` to them, None taking one away, and this text as its config."""
    tensors = {**Student().state_dict(), **changes}
    metadata = {} if config is None else {"config": config}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path, metadata)
    return path


def test_a_student_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / "deep" / "student.safetensors"
    student = Student()
    save_student(path, student)
    loaded = load_student(str(path))
    assert_same_weights(student, loaded)
    assert not loaded.training
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("global_blocks", "local_blocks"), [(1, 2), (0, 3), (3, 0), (0, 0)])
def test_a_student_of_another_shape_comes_back(tmp_path, global_blocks, local_blocks):
    config = StudentConfig(channels=8, heads=2, global_blocks=global_blocks, local_blocks=local_blocks)
    student = Student(config)
    save_student(tmp_path / "small.safetensors", student)
    loaded = load_student(tmp_path / "small.safetensors")
    assert loaded.config == config
    assert_same_weights(student, loaded)


def test_metadata_say_what_it_is_and_how_it_was_trained(tmp_path):
    save_student(tmp_path / "s.safetensors", Student(), {"steps": 3, "data": "train"})
    metadata = read_metadata(tmp_path / "s.safetensors")
    assert metadata["kind"] == KIND
    assert json.loads(metadata["config"])["channels"] == 32
    assert json.loads(metadata["training"]) == {"steps": 3, "data": "train"}
    save_student(tmp_path / "s.safetensors", Student())
    assert json.loads(read_metadata(tmp_path / "s.safetensors")["training"]) == {}


def test_a_student_trained_with_channels_last_is_stored_in_the_usual_order(tmp_path):
    student = Student()
    save_student(tmp_path / "usual.safetensors", student)
    save_student(tmp_path / "last.safetensors", student.to(memory_format=torch.channels_last))
    assert (tmp_path / "last.safetensors").read_bytes() == (tmp_path / "usual.safetensors").read_bytes()


def test_the_same_student_and_training_give_the_same_bytes(tmp_path):
    student, found = Student(), set()
    for number in range(8):  # safetensors' own order of two or three keys is seldom the same eight times
        save_student(tmp_path / f"{number}.safetensors", student, {"data": "Straße", "steps": 3})
        found.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(found) == 1
    assert json.loads(read_metadata(tmp_path / "0.safetensors")["training"]) == {"data": "Straße", "steps": 3}
    (data,) = found
    assert int.from_bytes(data[:8], "little") % 8 == 0


def test_a_file_in_the_order_of_safetensors_is_read_as_well(tmp_path):
    student = Student(StudentConfig(8, 2, 1, 1))
    metadata = {"training": "{}", "kind": KIND, "config": json.dumps(asdict(student.config))}
    save_file(student.state_dict(), tmp_path / "s.safetensors", metadata)
    assert_same_weights(student, load_student(tmp_path / "s.safetensors"))
    assert read_metadata(tmp_path / "s.safetensors") == metadata


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_students_are_read(name):
    path = find_model(name, ".safetensors")
    assert read_metadata(path)["kind"] == KIND
    load_student(path)


def test_saving_replaces_the_previous_file_or_leaves_it(tmp_path):
    path = tmp_path / "s.safetensors"
    save_student(path, Student())
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_student(path, Student(), {"not JSON": object()})
    assert path.read_bytes() == before
    save_student(path, Student())
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_plain_state_dict_is_taken(tmp_path, suffix):
    student = Student()
    torch.save(student.state_dict(), tmp_path / f"s{suffix}")
    assert_same_weights(student, load_student(tmp_path / f"s{suffix}"))


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_safetensors_under_the_name_of_a_pickle_are_taken(tmp_path, suffix):
    student = Student(StudentConfig(8, 2, 1, 1))
    save_student(tmp_path / f"s{suffix}", student)
    assert_same_weights(student, load_student(tmp_path / f"s{suffix}"))


def test_a_whole_module_is_refused_with_what_to_do(tmp_path):
    torch.save(Student(), tmp_path / "s.pt")
    said = refusal(tmp_path / "s.pt", FileError)
    assert "it holds a Python object, irvis.student.network.Student, as a whole module does" in said
    assert "save its state_dict()" in said
    assert "package.module:function" in said
    assert "add_safe_globals" not in said


def test_half_precision_is_taken_as_single(tmp_path):
    path = tmp_path / "s.safetensors"
    save_file({name: tensor.half() for name, tensor in Student().state_dict().items()}, path)
    assert {parameter.dtype for parameter in load_student(path).parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["s.safetensors", "s.pt", "folder"])
def test_a_missing_file_and_a_folder_are_said_to_be_missing(tmp_path, name):
    (tmp_path / "folder").mkdir()
    assert "not found" in refusal(tmp_path / name, FileError)
    with pytest.raises(FileError):
        read_metadata(tmp_path / name)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_a_truncated_file_is_refused(tmp_path, suffix, kept):
    path = tmp_path / f"s{suffix}"
    if suffix == ".pt":
        torch.save(Student().state_dict(), path)
    else:
        save_student(path, Student())
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    refusal(path, FileError)


def test_text_and_noise_are_refused(tmp_path):
    kinds = {".safetensors": "not a readable safetensors file", ".pt": "not a state dict that can be loaded safely"}
    for suffix, said in kinds.items():
        for content in (b"hello\nworld\n" * 50, bytes(range(256)) * 8, b"\0" * 64):
            path = tmp_path / f"s{suffix}"
            path.write_bytes(content)
            assert refusal(path, FileError).startswith(said)
    with pytest.raises(FileError, match="Is a directory"):
        is_safetensors(tmp_path)


def test_lacking_unknown_and_misshapen_tensors_are_named(tmp_path):
    path = tmp_path / "s.safetensors"
    name = "decoder.conv2.bias"
    assert name in refusal(write_safetensors(path, **{name: None}), ModelError)
    assert "decoder.conv3.bias" in refusal(write_safetensors(path, **{"decoder.conv3.bias": torch.ones(1)}), ModelError)
    message = refusal(write_safetensors(path, **{name: torch.ones(2)}), ModelError)
    assert name in message
    assert "[2]" in message


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "null",
        "[]",
        "3",
        '"channels"',
        '{"channel": 32}',
        '{"channels": "32"}',
        '{"channels": 0}',
        '{"channels": 1000000000}',
        '{"global_blocks": 1000000000}',
        '{"channels": NaN}',
        '{"heads": 5}',
        '{"channels": 64}',
        "[" * 100_000,
    ],
)
def test_a_config_with_silly_values_is_refused(tmp_path, config):
    refusal(write_safetensors(tmp_path / "s.safetensors", config), ModelError)


class MakesFile:
    """Unpickled without care, this makes the file ``path``."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_no_code_in_a_pickle_is_run(tmp_path, writer):
    evil, proof = tmp_path / "evil.pt", tmp_path / "proof"
    content = {"decoder.conv1.weight": MakesFile(proof)}
    if writer == "torch":
        torch.save(content, evil)
    else:
        evil.write_bytes(pickle.dumps(content, protocol=2))
    assert "weights_only" not in refusal(evil, IrvisError)  # torch's advice to run it
    assert not proof.exists()
    with evil.open("rb") as stream:  # the file does what it says where nothing stops it
        torch.load(stream, weights_only=False) if writer == "torch" else pickle.load(stream)
    assert proof.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(3), "Got Tensor"),
        ([torch.zeros(3)], "Got list"),
        (7, "Got int"),
        ({}, "Missing key"),
        ({"model": OrderedDict(a=torch.zeros(3))}, "Missing key"),
        ({1: torch.zeros(3)}, "does not hold an irvis student"),
        ({**Student().state_dict(), "decoder.conv2.bias": "text"}, "decoder.conv2.bias"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, content, said):
    path = tmp_path / "s.pt"
    torch.save(content, path)
    assert said in refusal(path, ModelError)
