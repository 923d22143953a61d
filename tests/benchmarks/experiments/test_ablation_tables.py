import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from irvis.benchmarks.experiments.ablation_tables import Setting, cells_of, describe, to_csv, write_ablation
from irvis.benchmarks.metrics import published_metrics
from irvis.benchmarks.published import ABLATION, METRICS
from irvis.benchmarks.ranked_tables import BEST, SECOND
from irvis.student.ablation import FULL, VARIANTS

SETTING = Setting(4000, 1e-3, 2, "181 pairs of MSRS/train", "SHIP", "60 pairs of MSRS/test")
PAPER = Path(__file__).parents[3] / "shared" / "paper" / "published.json"


def figures(seeds=2):
    """The full method is best in CC and PSNR, second in SCD, third in SSIM."""
    found = {
        variant: [dict.fromkeys(METRICS, 0.1 * at + 0.02 * seed) for seed in range(seeds)]
        for at, variant in enumerate(VARIANTS)
    }
    for row in found[VARIANTS[0]]:
        row["SCD"] = row["SSIM"] = 7.0
    for row in found[VARIANTS[1]]:
        row["SSIM"] = 8.0
    found[VARIANTS[5]][0]["PSNR"], found[VARIANTS[5]][-1]["PSNR"] = 5.0, -5.0  # best with one seed, not in the mean
    return found


def test_published_figures_are_those_of_the_paper():
    assert list(ABLATION) == [variant.name for variant in VARIANTS]
    assert ABLATION["w/o MLKD+DB"] == (0.3879, 15.6666, 0.2268, 1.0257)
    assert ABLATION["full"] == (0.6185, 16.7849, 1.6456, 1.4156)
    if PAPER.is_file():
        paper = json.loads(PAPER.read_text(encoding="utf-8"))["ablation_MSRS_teacher_CDDFuse"]
        assert {name: tuple(row[metric] for metric in METRICS) for name, row in paper.items()} == ABLATION


def test_each_row_has_ticks_parameters_mean_and_deviation_and_the_published_figures():
    rows = dict(zip(VARIANTS, cells_of(figures())))
    texts = [cell.text for cell in rows[VARIANTS[6]]]
    assert texts[:7] == ["w/o GMB", "✓", "✓", "✓", "", "✓", "39,525"]
    assert texts[7:11] == ["0.6100 ± 0.0141"] * 4
    assert texts[11:] == ["0.6112", "16.5665", "1.6430", "1.3994"]
    assert [cell.rank for cell in rows[FULL][7:11]] == [BEST, BEST, SECOND, 0]
    assert [cell.rank for cell in rows[FULL][11:]] == [BEST, BEST, SECOND, BEST]  # as the paper prints them
    assert [cell.text for cell in cells_of(figures(1))[1][7:9]] == ["0.1000", "0.1000"]


def test_a_student_that_gives_a_black_image_has_a_row_too():
    plane = np.full((16, 16), 9.0)
    found = figures()
    found[VARIANTS[2]][1] = published_metrics(plane, plane, 0 * plane)
    assert cells_of(found)[2][8].text == "-inf ± nan"
    assert ",-inf,nan," in to_csv(found, SETTING).splitlines()[3]


@pytest.mark.parametrize(("steps", "smoke"), [(3999, True), (4000, False)])
def test_the_note_says_what_it_is_of_and_what_is_a_smoke_run(steps, smoke):
    note = describe(figures(), SETTING._replace(steps=steps))
    assert note.startswith(f"{steps} steps per run at a peak rate of 0.001 (the paper: 80000 at 0.0001)")
    assert ("smoke run" in note) == smoke
    for part in ("over 2 seeds", "181 pairs of MSRS/train", "SHIP", "60 pairs of MSRS/test", "361 pairs", "CDDFuse"):
        assert part in note
    assert "The full method is best in 2 of 4 metrics, second in 1." in note


def test_csv_has_every_figure_unrounded():
    rows = list(csv.DictReader(to_csv(figures(), SETTING).splitlines()))
    assert [row["configuration"] for row in rows] == list(ABLATION)
    row = rows[7]
    assert float(row["CC_mean"]) == pytest.approx(0.71, abs=1e-12)
    assert float(row["CC_std"]) == pytest.approx(0.02 / 2**0.5, abs=1e-12)
    assert (row["CC_published"], row["LPB"], row["GMB"], row["parameters"]) == ("0.6166", "0", "1", "60081")
    assert [row["teachers"] for row in rows] == ["", "", *["SHIP"] * 7]
    assert next(csv.DictReader(to_csv(figures(1), SETTING).splitlines()))["CC_std"] == ""


def test_all_files_are_written(tmp_path):
    markdown, _, latex, _ = (
        file.read_text(encoding="utf-8") for file in write_ablation(tmp_path / "new", figures(), SETTING)
    )
    assert "| w/o LPB | ✓ | ✓ | ✓ | ✓ |  | 60,081 |" in markdown
    assert "none that was tried fits" in markdown
    assert latex.count(r" \\") == 10
