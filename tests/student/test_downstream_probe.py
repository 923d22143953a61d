from statistics import fmean, stdev

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.runtime.errors import IrvisError
from irvis.runtime.images import write_image
from irvis.student.checkpoint import save_student
from irvis.student.downstream_probe import BATCH, loss_of, main, probe, scores_of
from irvis.student.network import Student, StudentConfig


def test_a_probe_learns_what_the_image_shows_and_not_what_it_does_not():
    torch.manual_seed(0)
    fused = torch.rand(32, 1, 16, 16)
    bright, random = (fused[:, 0] > 0.5).to(torch.uint8), torch.randint(0, 2, (32, 16, 16)).to(torch.uint8)
    shown = loss_of(probe("masks=2", fused[:16], bright[:16], 60, 0), fused[16:], bright[16:])
    hidden = loss_of(probe("masks=2", fused[:16], random[:16], 60, 0), fused[16:], random[16:])
    assert shown < 0.4 < 0.68 < hidden


def test_a_seed_decides_the_probe_and_the_student_stays_as_it_is():
    torch.manual_seed(0)
    crops, masks = torch.randint(0, 256, (BATCH, 2, 16, 16)).to(torch.uint8), torch.zeros(BATCH, 16, 16).to(torch.uint8)
    student = Student().eval()
    before = [parameter.clone() for parameter in student.parameters()]
    one, again = (scores_of("masks=2", student, (crops, masks), (crops, masks), 3, 2) for _ in range(2))
    assert one == again
    assert one[0] != one[1]
    assert all(torch.equal(old, new) for old, new in zip(before, student.parameters()))


def test_too_few_crops_are_one_line():
    with pytest.raises(IrvisError, match=r"a batch has 16 crops\. Got 5 in all; give more --crops"):
        probe("masks=2", torch.rand(5, 1, 16, 16), torch.zeros(5, 16, 16).to(torch.uint8), 3, 0)


def test_the_loss_is_that_on_the_other_data_set_and_its_spread_that_of_the_seeds(tmp_path, monkeypatch, capsys):
    plane = np.random.default_rng(0).integers(0, 256, (24, 24), np.uint8)
    for label, name in enumerate(("train", "test")):
        for folder, image in (("ir", plane), ("vi", plane), ("labels", np.full_like(plane, label))):
            write_image(tmp_path / name / folder / "a.png", image)
    save_student(tmp_path / "s.safetensors", Student(StudentConfig(8, 2, 1, 1)))
    options = "--crops 16 --crop-side 16 --steps 40 --seeds 2".split()
    places = [str(tmp_path / name) for name in ("train", "test", "s.safetensors")]
    monkeypatch.setattr("sys.argv", ["downstream_probe", "masks=2", *places, *options])
    assert main() == 0
    name, mean, _, deviation, *each = capsys.readouterr().out.replace("(", "").replace(")", "").split()
    scores = [float(score) for score in each]
    assert (name, len(scores)) == ("s.safetensors", 2)
    assert min(scores) > 1  # it was taught that nothing is of class 1; 0.69 if nothing
    assert (float(mean), float(deviation)) == pytest.approx((fmean(scores), stdev(scores)), abs=2e-4)
