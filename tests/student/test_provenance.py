import json
import shutil
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from irvis.runtime.errors import FileError
from irvis.runtime.pairs import pairs_of
from irvis.student.checkpoint import load_student, read_metadata, save_student
from irvis.student.provenance import check_provenance
from irvis.student.recipes import TrainConfig
from irvis.student.train import RunOptions, train

CONFIG = TrainConfig(crops=4, crop_side=16, batch=2, steps=1)


@pytest.fixture
def checkpoint(samples, tmp_path):
    train(pairs_of(samples), tmp_path / "s.safetensors", CONFIG, options=RunOptions(tensorboard=False))
    return tmp_path / "s.safetensors"


@pytest.fixture
def others(samples, tmp_path):
    """Pairs of the samples' names in folders of theirs, with other content: infrared and visible have changed sides."""
    folder = tmp_path / samples.parent.name / samples.name
    for half, other in (("ir", "vi"), ("vi", "ir")):
        shutil.copytree(samples / half, folder / other)
    return pairs_of(folder)


def refusal(*given):
    with pytest.raises(FileError) as caught:
        check_provenance(*given)
    return str(caught.value)


def test_a_checkpoint_of_these_options_and_pairs_is_taken(checkpoint, samples):
    check_provenance(checkpoint, CONFIG, pairs_of(samples))


def test_other_options_and_other_pairs_of_the_same_names_are_refused(checkpoint, samples, others):
    end = "; remove it, or give another --output"
    assert refusal(checkpoint, replace(CONFIG, steps=2, seed=1), pairs_of(samples)) == (
        f"{checkpoint} was trained with steps 1, seed 0{end}"
    )
    assert refusal(checkpoint, CONFIG, others) == f"{checkpoint} was trained with other pairs{end}"


def test_a_checkpoint_from_before_it_told_of_its_crops_goes_by_the_folders_and_what_else_it_tells(
    checkpoint, samples, others
):
    training = json.loads(read_metadata(checkpoint)["training"])
    del training["crops_sha256"], training["fidelity"]
    save_student(checkpoint, load_student(checkpoint), training)
    for pairs in (pairs_of(samples), others):
        check_provenance(checkpoint, CONFIG, pairs)
    assert "was trained with pairs 3; remove it" in refusal(checkpoint, CONFIG, pairs_of(samples)[:2])
    assert "was trained with steps 1; remove it" in refusal(checkpoint, replace(CONFIG, steps=2), others)


def test_what_is_no_checkpoint_of_a_run_is_said(samples, tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    said = refusal(tmp_path / "other.safetensors", CONFIG, pairs_of(samples))
    assert said == f"not a checkpoint of irvis train: {tmp_path / 'other.safetensors'}; remove it"
