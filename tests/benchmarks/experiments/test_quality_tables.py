import csv
from pathlib import Path

import pytest

pytest.importorskip("torch")

from irvis.benchmarks.experiments.methods import Method
from irvis.benchmarks.experiments.quality_tables import (
    MEAN,
    Measured,
    csv_of,
    describe,
    pairs_csv,
    students_csv,
    students_table,
    table_of,
    versus,
    write_quality,
)
from irvis.benchmarks.published import METRICS
from irvis.benchmarks.ranked_tables import BEST, SECOND
from irvis.runtime.pairs import Pair

PAIRS = [Pair(name, Path(f"ir/{name}.png"), Path(f"vi/{name}.png")) for name in "ab"]
METHODS = [
    Method("SHIP", Path("SHIP.pth"), (), False),
    Method("SeAFusion", Path("SeAFusion.pth"), (), False),
    Method("own", Path("own.safetensors"), ("SHIP", "SeAFusion", "PFCFuse"), True),
]


def rows(first, second, **others):
    """Return the metrics of two pairs, all alike but ``others`` = metric: (first, second)."""
    pairs = [dict.fromkeys(METRICS, first), dict.fromkeys(METRICS, second)]
    for metric, values in others.items():
        for row, value in zip(pairs, values):
            row[metric] = value
    return pairs


def measured(name="TNO/test", **options):
    figures = {
        MEAN: rows(9.0, 9.0),
        "SHIP": rows(0.1, 0.3),
        "SeAFusion": rows(0.4, 0.2, PSNR=(0.0, 0.1)),
        "own": rows(0.5, 0.25, PSNR=(0.2, 0.2)),
    }
    found = Measured(name, Path(name), PAIRS, 25, None, figures, {})
    return found._replace(**options)


def test_the_table_has_methods_published_figures_and_the_difference_to_the_best_teacher():
    found = {row[0].text: row for row in table_of(METHODS, measured()).rows}
    assert list(found)[:4] == ["SHIP", "SeAFusion", "own", "CDDFuse"]
    assert list(found)[-1] == MEAN
    assert len(found) == 3 + 10 + 1  # the paper's 12, of which two are measured
    assert [cell.text for cell in found["own"][1:]] == [
        "0.3750 (+0.0750)",
        "0.2000 (+0.0000)",
        "0.3750 (+0.0750)",
        "0.3750 (+0.0750)",
        *[""] * 4,
    ]
    assert [cell.rank for cell in found["own"][1:]] == [BEST] * 4 + [0] * 4
    assert [cell.rank for cell in found["SHIP"][1:5]] == [0, BEST, 0, 0]
    assert [cell.rank for cell in found["SeAFusion"][1:5]] == [SECOND] * 4  # PSNR: equal ones are both the best
    assert [cell.text for cell in found["SHIP"][5:]] == ["0.4804", "13.4453", "1.5489", "1.2984"]
    assert [cell.rank for cell in found["CDDFuse(Distilled)"][5:]] == [BEST, SECOND, BEST, BEST]  # as the paper has it
    assert [cell.rank for cell in found[MEAN]] == [0] * 9


def test_without_published_figures_there_are_no_columns_of_them():
    table = table_of(METHODS, measured("elsewhere"))
    assert table.head == ["method", *METRICS]
    assert len(table.rows) == 4
    assert "ublished:" not in table.note


@pytest.mark.parametrize(
    ("options", "said", "unsaid"),
    [
        ({}, "2 of the 25 pairs of TNO/test, evenly spread. ", "smoke"),
        ({}, "the 25 pairs of TNO, not the pairs measured here. * published SSIM is not", "Not measured"),
        ({"pairs": [*PAIRS, PAIRS[0]] * 9, "held": 27}, "27 pairs of TNO/test", "evenly"),
        ({}, "In brackets: own minus the best of its teachers SHIP, SeAFusion, metric by metric.", "PFCFuse"),
        ({"side": 128}, "evenly spread, cut to 128x128. ", "Not measured"),
        ({"side": 128}, "A smoke run, whose figures mean nothing.", "Not measured"),
        (
            {"figures": {"own": rows(1, 2), "SHIP": rows(1, 2)}},
            "own minus SHIP. Not measured yet: SeAFusion.",
            "best of",
        ),
        (
            {"figures": {MEAN: rows(1, 2)}, "left_out": {"SHIP": "no memory"}},
            "Not measured yet: SeAFusion, own. Could not be run: SHIP (no memory).",
            "brackets",
        ),
    ],
)
def test_the_note_says_what_it_is_of(options, said, unsaid):
    note = describe(METHODS, measured(**options))
    assert said in note
    assert unsaid not in note


def test_what_is_not_finite_is_left_out_of_the_means_and_told():
    figures = {**measured().figures, "own": rows(0.5, 0.25, PSNR=(float("nan"), 0.2))}
    found = measured(figures=figures)
    cells = {row[0].text: row for row in table_of(METHODS, found).rows}["own"]
    assert cells[1 + METRICS.index("PSNR")].text == "0.2000 (+0.0000)"
    assert "left out of the means of own: PSNR of 1 of 2 pairs, the first a." in describe(METHODS, found)
    assert versus(METHODS, [found])[0].differences["PSNR"] == pytest.approx(-0.1)


def test_a_whole_data_set_of_the_paper_is_of_its_pairs():
    whole = measured(pairs=PAIRS[:1] * 25, held=25)
    assert "Published: means over the 25 pairs of TNO. *" in describe(METHODS, whole)
    assert "over the 361 pairs of MSRS, not the pairs" in describe(METHODS, whole._replace(folder=Path("MSRS/test")))
    assert "over the 25 pairs of TNO, not the pairs" in describe(METHODS, whole._replace(side=128))


def test_csv_has_the_unrounded_means_and_the_papers_number_of_pairs():
    found = list(csv.DictReader(csv_of(METHODS, measured("MSRS/test")).splitlines()))
    assert [(row["fused_by"], row["kind"], row["pairs"]) for row in found[:4]] == [
        ("SHIP", "model", "2"),
        ("SeAFusion", "model", "2"),
        ("own", "model", "2"),
        (MEAN, "baseline", "2"),
    ]
    assert {(row["kind"], row["pairs"]) for row in found[4:]} == {("published", "361")}
    assert float(found[2]["CC"]) == 0.375


def test_every_pair_has_a_row():
    found = list(csv.DictReader(pairs_csv(METHODS, [measured(), measured("MSRS/test")]).splitlines()))
    assert len(found) == 2 * 4 * 2
    assert found[5] == {
        "data_set": "TNO/test",
        "pair": "b",
        "method": "own",
        "CC": "0.25",
        "PSNR": "0.2",
        "SCD": "0.25",
        "SSIM": "0.25",
    }


def test_students_are_set_against_each_teacher_pair_by_pair():
    sets = [measured(), measured("MSRS/test")]
    found = versus(METHODS, sets)
    assert [row[1:4] for row in found] == [
        ("SHIP", "TNO/test", 2),
        ("SHIP", "MSRS/test", 2),
        ("SHIP", "all", 4),
        ("SeAFusion", "TNO/test", 2),
        ("SeAFusion", "MSRS/test", 2),
        ("SeAFusion", "all", 4),
    ]
    assert found[2].better == {"CC": 2, "PSNR": 2, "SCD": 2, "SSIM": 2}
    assert found[0].differences["CC"] == pytest.approx(0.175)
    (equal,) = versus(METHODS, [measured(figures={"SHIP": rows(0.5, 0.1), "own": rows(0.5, 0.2)})])
    assert set(equal.better.values()) == {1}  # a tie is not better
    table = students_table(found, sets)
    assert [cell.text for cell in table.rows[3]][2:] == ["TNO/test", "+0.0750, 2 of 2", "+0.1500, 2 of 2"] + [
        "+0.0750, 2 of 2"
    ] * 2
    assert "2 of the 25 pairs of TNO/test, evenly spread; 2 of the 25 pairs of MSRS/test" in table.note
    read = list(csv.DictReader(students_csv(found).splitlines()))
    assert (read[2]["pairs"], read[2]["SCD_better"]) == ("4", "2")
    assert float(read[0]["SCD_difference"]) == pytest.approx(0.175)


def test_all_files_are_written_and_a_student_whose_teacher_is_not_there_has_no_table(tmp_path):
    files = [file.name for file in write_quality(tmp_path, METHODS, [measured()])]
    kinds = ("md", "csv", "tex", "json")
    assert files == [
        *(f"quality-TNO-test.{kind}" for kind in kinds),
        *(f"quality-students.{kind}" for kind in kinds),
        "quality-pairs.csv",
    ]
    latex = (tmp_path / "quality-TNO-test.tex").read_text(encoding="utf-8")
    assert latex.count(r" \\") == 1 + 14
    assert r"\textbf{0.3750 (+0.0750)}" in latex
    alone = [method._replace(teachers=()) for method in METHODS]
    assert len(write_quality(tmp_path / "alone", alone, [measured()])) == 5
