import csv
from pathlib import Path

import pytest

pytest.importorskip("torch")

from irvis.benchmarks.experiments.ablation import DataSet
from irvis.benchmarks.experiments.compensation_tables import MEASURED, Couple, cells_of, describe, to_csv
from irvis.benchmarks.ranked_tables import BEST, SECOND
from irvis.runtime.pairs import Pair

TEST = DataSet("MSRS/test", [Pair("1", Path("a"), Path("b"))] * 2, "0" * 64, None)


def couple(teacher, values, higher, steps=4000):
    of_teacher = dict(zip(MEASURED, values))
    of_student = {name: value + higher for name, value in of_teacher.items()}
    return Couple(teacher, steps, "181 pairs of MSRS/train", of_teacher, {**of_student, "cosine": 0.9})


COUPLES = [
    couple("SHIP", (0.5, 15, 1.5, 1.3, 0.2, 0.6, 0.4), 0.1),
    couple("DATFuse", (0.4, 16, 1.4, 1.2, 0.7, 0.8, 0.1), -0.05, 80000),
]


def test_a_student_stands_below_its_teacher_with_the_difference():
    rows = [[cell.text for cell in row] for row in cells_of(COUPLES)]
    assert [row[0] for row in rows] == ["SHIP", "SHIP, its student", "DATFuse", "DATFuse, its student"]
    assert rows[1][1:3] == ["0.6000 (+0.1000)", "15.1000 (+0.1000)"]
    assert rows[3][5:] == ["0.6500 (-0.0500)", "0.7500 (-0.0500)", "0.0500 (-0.0500)", "0.9000"]
    assert rows[0][8] == ""
    ranked = [[cell.rank for cell in row] for row in cells_of(COUPLES)]
    assert [row[2] for row in ranked] == [0, 0, BEST, SECOND]
    assert not any(any(row[5:]) for row in ranked)  # a map is no better for more of anything


@pytest.mark.parametrize("side", [None, 128])
def test_the_note_counts_and_spans(side):
    note = describe([COUPLES[0]._replace(steps=None), COUPLES[1]], TEST._replace(side=side))
    assert ("smoke run" in note) == (side is not None)
    assert "unknown" in note
    assert "80000 steps on crops of 181 pairs of MSRS/train" in note
    assert "2 pairs of MSRS/test" in note
    assert "Number of students, of 2, above their teachers: CC 1, PSNR 1, SCD 1, SSIM 1, detail 1," in note
    assert "above their teachers: CC 0, PSNR 0," in describe([couple("SHIP", (0.5,) * 7, 0.0)], TEST)
    assert "Detail spans 0.2000 to 0.7000 over the teachers and 0.3000 to 0.6500 over the students." in note


def test_csv_is_unrounded():
    rows = list(csv.DictReader(to_csv(COUPLES).splitlines()))
    assert [row["steps"] for row in rows] == ["", "4000", "", "80000"]
    assert float(rows[1]["detail"]) == COUPLES[0].of_student["detail"]
    assert [row["cosine"] for row in rows] == ["", "0.9", "", "0.9"]
