import pytest

torch = pytest.importorskip("torch")

from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.shipped import NAMES, find_model
from irvis.student.checkpoint import load_student, save_student
from irvis.student.network import Student, StudentConfig
from irvis.student.teachers.any_student import StudentTeacher
from irvis.student.teachers.listing import sample_planes
from irvis.student.teachers.load import open_teacher


@pytest.fixture(params=[StudentConfig(), StudentConfig(channels=16, global_stride=2, fusion_stride=4)])
def student(request):
    torch.manual_seed(0)
    return Student(request.param).eval()


@pytest.fixture
def checkpoint(student, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_student(path, student)
    return path


def test_it_gives_what_the_student_gives_and_what_its_decoder_is_given(student, checkpoint):
    teacher = open_teacher(str(checkpoint))
    feature, fused = teacher(*sample_planes())
    wanted, wanted_feature = student(*sample_planes(), return_feature=True)
    assert torch.equal(fused, wanted)
    assert torch.equal(feature, wanted_feature)
    assert torch.equal(student.decoder(feature), fused)
    assert (teacher.name, teacher.parameters) == ("mine", sum(p.numel() for p in student.parameters()))
    assert not feature.requires_grad
    assert not fused.requires_grad


def test_the_digest_tells_weights_and_strides_apart_and_not_names(student, checkpoint, tmp_path):
    digest = StudentTeacher(checkpoint).digest
    again = tmp_path / "again.safetensors"
    save_student(again, student)
    assert StudentTeacher(again).digest == digest
    with torch.no_grad():
        student.decoder.conv2.bias += 1
    save_student(again, student)
    assert StudentTeacher(again).digest != digest
    coarse = Student(StudentConfig(global_stride=8))
    fine = Student(StudentConfig(global_stride=1))
    fine.load_state_dict(coarse.state_dict())
    digests = set()
    for one in (coarse, fine):
        save_student(again, one)
        digests.add(StudentTeacher(again).digest)
    assert len(digests) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_student_is_found_by_its_name(name):
    teacher = open_teacher(name)
    fused = load_student(find_model(name, ".safetensors"))(*sample_planes())
    assert teacher.name == name
    assert torch.equal(teacher(*sample_planes())[1], fused.detach())


def test_what_is_no_student_is_told_in_a_line(tmp_path):
    with pytest.raises(FileError, match=r"checkpoint not found: .*none\.safetensors"):
        open_teacher(str(tmp_path / "none.safetensors"))
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(FileError, match="not a readable safetensors file"):
        open_teacher(str(tmp_path / "bad.safetensors"))
    other = tmp_path / "other.safetensors"
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, other)
    with pytest.raises(ModelError, match="does not hold an irvis student"):
        open_teacher(str(other))
