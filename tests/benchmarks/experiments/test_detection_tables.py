import csv
import json
import math
from pathlib import Path
from statistics import mean

import pytest

from irvis.benchmarks.detection.detector import Settings
from irvis.benchmarks.detection.objects import CLASSES
from irvis.benchmarks.experiments.detection_tables import (
    Row,
    Setting,
    cells_of,
    describe,
    published_rows,
    to_csv,
    write_detection,
)
from irvis.benchmarks.ranked_tables import BEST, SECOND
from irvis.benchmarks.tables import MODEL

PAPER = Path(__file__).parents[4] / "shared" / "paper" / "published.json"
SETTING = Setting("M3FD/test", CLASSES, [8, 1, 1], 11, "D-FINE by AdamW", Settings(epochs=3, side=256), False)
NONE = math.nan
ROWS = [
    Row("visible", MODEL, [12.344, 0, NONE, NONE, NONE, NONE], 6.172),
    Row("SHIP", MODEL, [50.0, 0, NONE, NONE, NONE, NONE], 25.0),
    Row("student", MODEL, [12.341, 0, NONE, NONE, NONE, NONE], 6.1705),
]


def test_published_figures_are_those_of_the_paper():
    rows = {row.name: row for row in published_rows()}
    assert len(rows) == 12
    assert rows["EMMA(Distilled)"].values == [84.61, 92.59, 92.03, 85.23, 82.65, 75.16]
    for row in rows.values():
        assert row.mean == pytest.approx(mean(row.values), abs=0.0101)
    if PAPER.is_file():
        paper = json.loads(PAPER.read_text(encoding="utf-8"))["detection_M3FD_mAP50_percent"]
        assert {name: [*row.values, row.mean] for name, row in rows.items()} == {
            name: [row[kind] for kind in (*CLASSES, "mAP50")] for name, row in paper.items()
        }


def test_rows_are_ranked_as_printed_and_nothing_found_is_not_best():
    cells = cells_of(ROWS)
    assert [cell.text for cell in cells[0]] == ["visible", "12.34", "0.00", "", "", "", "", "6.17"]
    assert [[row[column].rank for row in cells] for column in (1, 2, 3, 7)] == [
        [SECOND, BEST, SECOND],
        [0, 0, 0],
        [0, 0, 0],
        [SECOND, BEST, SECOND],
    ]
    assert cells_of([]) == []


@pytest.mark.parametrize("smoke", [True, False])
def test_the_note_says_what_it_is_of_and_what_is_a_smoke_run(smoke):
    note = describe(SETTING._replace(smoke=smoke), True)
    assert note.startswith("A smoke run") == smoke
    for part in (
        "M3FD/test split 8:1:1",
        "trained on 8 images, the best epoch chosen on 1, tested on 1 with 11 objects",
        "D-FINE by AdamW; 3 epochs in batches of 32, images of 256x256",
        "SGD at 0.01 with momentum 0.937 and weight decay 0.0005, 100 epochs in batches of 32, 640x640",
        "on the 4200 pairs of M3FD",
    ):
        assert part in note
    assert "Published" not in describe(SETTING, False)


def test_csv_has_every_figure_unrounded():
    row = next(csv.DictReader(to_csv(ROWS, SETTING).splitlines()))
    assert row == {
        **dict.fromkeys(CLASSES, ""),
        "method": "visible",
        "kind": "model",
        "people": "12.344",
        "car": "0",
        "mAP": "6.172",
    }


def test_all_files_are_written_and_published_rows_only_for_the_paper_s_classes(tmp_path):
    markdown, _, latex, page = (
        file.read_text(encoding="utf-8") for file in write_detection(tmp_path / "new", ROWS, SETTING)
    )
    assert markdown.startswith("# Table 6: detection, mAP@0.5 in %\n")
    assert "| SHIP | **50.00** | 0.00 |  |  |  |  | **25.00** |" in markdown
    assert "| EMMA(Distilled), published | **84.61** | 92.59 | **92.03** |" in markdown
    assert latex.count(r" \\") == 16
    assert json.loads(page)["head"] == ["method", *CLASSES, "mAP"]
    other = SETTING._replace(classes=("person",), smoke=True)
    rows = [Row("visible", MODEL, [1.0], 1.0)]
    text = write_detection(tmp_path, rows, other)[0].read_text(encoding="utf-8")
    assert text.startswith("# Table 6: detection, mAP@0.5 in % (a smoke run)\n")
    assert "published" not in text
