import argparse

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from irvis.benchmarks.experiments.methods import add_method_arguments, methods_of, taught_by
from irvis.runtime.errors import FileError, IrvisError
from irvis.student.checkpoint import load_student, save_student
from irvis.student.network import Student, StudentConfig
from irvis.student.teachers.published import network_class
from irvis.student.validation import fuse_planes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two students, one that was taught, and one published network."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("methods")
    save_student(folder / "alone.safetensors", Student(StudentConfig(8, 2, 1, 1)))
    taught = {"teachers": {"SHIP": "ab", "SeAFusion": "cd"}}
    save_student(folder / "taught.safetensors", Student(StudentConfig(8, 2, 1, 1)), taught)
    (folder / "weights").mkdir()
    save_file(network_class("MMDRFuseStudent")().state_dict(), folder / "weights" / "MMDRFuse_student.safetensors")
    return folder


def parse(*options):
    parser = argparse.ArgumentParser()
    add_method_arguments(parser)
    return methods_of(parser.parse_args([*map(str, options)]))


def test_published_networks_come_first_and_students_tell_their_teachers(folder):
    students = ["--student", folder / "alone.safetensors", "--student", folder / "taught.safetensors"]
    methods = parse(*students, "--weights", folder / "weights")
    assert [(method.name, method.teachers, method.is_student) for method in methods] == [
        ("MMDRFuseStudent", (), False),
        ("alone", (), True),
        ("taught", ("SHIP", "SeAFusion"), True),
    ]
    assert len({method.digest for method in methods}) == 3
    assert [method.name for method in parse(*students, "--methods", "taught, alone")] == ["alone", "taught"]


def test_without_options_it_is_the_student_that_irvis_ships():
    (method,) = parse()
    assert method.is_student
    assert "SHIP" in method.teachers


def test_each_fuses_as_itself(folder):
    infrared, visible = np.random.default_rng(0).integers(0, 256, (2, 32, 48), np.uint8)
    student, published = folder / "alone.safetensors", folder / "weights"
    network, alone = (
        method.open()(infrared, visible) for method in parse("--student", student, "--weights", published)
    )
    np.testing.assert_array_equal(alone, fuse_planes(load_student(student), infrared, visible))
    assert network.shape == (32, 48)
    assert network.dtype == np.uint8
    assert (network != alone).any()


def test_names_that_are_none_or_two(folder):
    with pytest.raises(IrvisError, match="no method is called SHIP"):
        parse("--student", folder / "alone.safetensors", "--methods", "SHIP")
    with pytest.raises(IrvisError, match="two methods are called alone"):
        parse(*["--student", folder / "alone.safetensors"] * 2)


def test_what_is_no_checkpoint(folder, tmp_path):
    with pytest.raises(FileError, match="a student is a checkpoint"):
        taught_by(tmp_path / "student.onnx")
    assert taught_by(tmp_path / "student.pth") == ()
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"training": "[1]"})
    with pytest.raises(FileError, match="not a checkpoint of irvis train"):
        taught_by(tmp_path / "a.safetensors")
