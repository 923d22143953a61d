import pytest

torch = pytest.importorskip("torch")

from irvis.runtime.errors import IrvisError
from irvis.student.downstream_probe import BATCH, loss_of, probe, scores_of
from irvis.student.network import Student


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
