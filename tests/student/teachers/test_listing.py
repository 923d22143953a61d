import json
import re

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from irvis.runtime.cli import main
from irvis.runtime.errors import ModelError
from irvis.student.teachers.any_module import ModuleTeacher
from irvis.student.teachers.listing import check, sample_planes
from irvis.student.teachers.load import FORMS
from irvis.student.teachers.published import MODULES, network_class


@pytest.fixture(scope="module")
def listed():
    """What ``irvis teachers`` prints, by the first word of the line."""
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda text, **_: lines.extend(text.splitlines()))
        assert main(["teachers"]) == 0
    return lines


def test_every_published_network_has_a_row(listed):
    rows = {line.split()[0]: line for line in listed[1 : len(MODULES) + 1]}
    assert list(rows) == list(MODULES)
    for name, row in rows.items():
        network_type = network_class(name)
        for cell in (network_type.feature, network_type.cast, network_type.repository, network_type.licence):
            assert cell in row


def test_the_paper_to_cite_is_named_for_each_network(listed):
    papers = dict(line.split(": ", 1) for line in listed[listed.index("Papers:") + 2 :])
    assert list(papers) == list(MODULES)
    for paper in papers.values():
        assert re.fullmatch(r'[A-Z]\w+ (et al\.|and \w+), ".+", .+ 20\d\d', paper), paper


def test_columns_stand_under_their_headings(listed):
    header, rows = listed[0], listed[1 : len(MODULES) + 1]
    for heading in ("parameters", "feature", "on github", "licence"):
        at = header.index(heading)
        assert all(row[at - 2 : at] == "  " and row[at] != " " for row in rows), heading


def test_parameters_are_the_published_networks(listed, published):
    totals = json.loads((published / "summary.json").read_text())
    rows = {line.split()[0]: line for line in listed[1 : len(MODULES) + 1]}
    for name, total in totals.items():
        row = rows[{"MMDRFuse_teacher": "MMDRFuseTeacher", "MMDRFuse_student": "MMDRFuseStudent"}.get(name, name)]
        assert row.split()[1] == f"{total['params']:,}"


def test_it_says_how_the_forms_are_given(listed):
    text = "\n".join(listed)
    assert all(form in text for form in FORMS)
    assert "weights: your own copy of the authors' file" in text


def test_check_opens_teachers_and_runs_a_pair(capsys):
    specs = [f"irvis.student.network:Student,feature={feature}" for feature in ("decoder", "decoder.conv2")]
    assert main(["teachers", "--check", *specs]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line, channels in zip(lines, (32, 16)):
        assert re.fullmatch(
            rf"irvis.student.network:Student: feature {channels} x 128 x 128, fused 0\.\d+ to 0\.\d+, "
            r"77,713 parameters, \d+\.\d ms per 128x128 on cpu",
            line,
        )


def test_check_says_what_is_wrong_in_a_line(capsys):
    assert main(["teachers", "--check", "SHIP=none.pth"]) == 1
    assert capsys.readouterr().err == "irvis teachers: weights not found: none.pth\n"
    assert main(["teachers", "--check", "SHIP=none.pth", "--device", "nonsense"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.log = nn.Identity()

    def forward(self, infrared, visible):
        return self.log(infrared - 2).log()


def test_a_teacher_that_gives_nan_is_told():
    with pytest.raises(ModelError, match="Broken gives NaN or infinity"):
        check(ModuleTeacher(Broken(), "log"), *sample_planes(), "cpu")


class Signed(Broken):
    def forward(self, infrared, visible):
        return self.log(2 * visible - 1)


def test_a_teacher_of_another_range_is_warned_of():
    line = check(ModuleTeacher(Signed(), "log"), *sample_planes(), "cpu")
    assert re.search(r"\. Warning: \d\d% of its fused plane lies outside 0 to 1, the range of the student", line)


class OneByOne(Broken):
    def forward(self, infrared, visible):
        if len(infrared) > 1:
            raise RuntimeError("one at once")
        return self.log(visible)


def test_check_gives_a_teacher_as_many_crops_as_training_does():
    with pytest.raises(ModelError, match="one at once"):
        check(ModuleTeacher(OneByOne(), "log"), *sample_planes(), "cpu")


def test_the_pair_is_of_two_different_planes_in_unit_range():
    infrared, visible = sample_planes()
    for plane in (infrared, visible):
        assert plane.shape == (1, 1, 128, 128)
        assert plane.dtype == torch.float32
        assert 0 <= float(plane.min()) < float(plane.max()) <= 1
    assert not torch.equal(infrared, visible)
