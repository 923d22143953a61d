import csv
import math

import pytest

from irvis.benchmarks import published
from irvis.benchmarks.published import published_quality
from irvis.benchmarks.tables import (
    BASELINE,
    FOOTNOTE,
    MODEL,
    PUBLISHED,
    Quality,
    Row,
    has_published,
    to_csv,
    to_markdown,
    to_tex,
    to_text,
)

TNO = Quality(
    "TNO/test",
    25,
    [
        Row("a.onnx", MODEL, {"CC": 0.51236, "SSIM": 1.3, "SD": 41.0, "VIF": math.nan}),
        Row("b, long.onnx", MODEL, {"CC": 0.51244, "SSIM": 1.2, "SD": 141.0, "VIF": math.nan}),
        Row("mean of the inputs", BASELINE, {"CC": 0.6, "SSIM": 1.5, "SD": 26.0, "VIF": math.nan}),
        Row("SHIP", PUBLISHED, {"CC": 0.4804, "SSIM": 1.35}),
    ],
)
OTHER = Quality("other", 1, [Row("a.onnx", MODEL, {"CC": 0.7, "SSIM": 1.6, "SD": 9.0, "VIF": 0.5})])


def test_text_is_aligned_with_the_mark_in_the_gutter():
    assert to_text(TNO).splitlines() == [
        "TNO/test, 25 pairs",
        "fused by                CC    SSIM        SD  VIF",
        "a.onnx              0.5124  1.3000   41.0000  nan",
        "b, long.onnx        0.5124  1.2000  141.0000  nan",
        "mean of the inputs  0.6000  1.5000   26.0000  nan",
        "SHIP, published     0.4804  1.3500*",
    ]


def test_markdown_is_bold_where_a_model_is_best_of_those_that_may_be_compared():
    assert to_markdown([TNO, OTHER]).splitlines() == [
        "| data set | pairs | fused by | CC | SSIM | SD | VIF |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        # Equal as printed, so both; a published SSIM does not count, nor does the mean of the inputs, nor NaN.
        "| TNO/test | 25 | a.onnx | **0.5124** | **1.3000** | 41.0000 | nan |",
        "| TNO/test | 25 | b, long.onnx | **0.5124** | 1.2000 | **141.0000** | nan |",
        "| TNO/test | 25 | mean of the inputs | 0.6000 | 1.5000 | 26.0000 | nan |",
        "| TNO/test | 25 | SHIP, published | 0.4804 | 1.3500* |  |  |",
        "| other | 1 | a.onnx | 0.7000 | 1.6000 | 9.0000 | 0.5000 |",
        "",
        FOOTNOTE,
    ]


def test_latex_has_the_cells_of_the_markdown():
    assert to_tex([TNO, OTHER]).splitlines()[3:14] == [
        r"\begin{tabular}{lllrrrr}",
        r"\toprule",
        r"data set & pairs & fused by & CC & SSIM & SD & VIF \\",
        r"\midrule",
        r"TNO/test & 25 & a.onnx & \textbf{0.5124} & \textbf{1.3000} & 41.0000 & nan \\",
        r"TNO/test & 25 & b, long.onnx & \textbf{0.5124} & 1.2000 & \textbf{141.0000} & nan \\",
        r"TNO/test & 25 & mean of the inputs & 0.6000 & 1.5000 & 26.0000 & nan \\",
        r"TNO/test & 25 & SHIP, published & 0.4804 & 1.3500* &  &  \\",
        r"other & 1 & a.onnx & 0.7000 & 1.6000 & 9.0000 & 0.5000 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_published_figure_may_be_the_best():
    better = TNO._replace(rows=[*TNO.rows[:3], Row("SHIP", PUBLISHED, {"CC": 0.9, "SSIM": 1.35})])
    cells = [line.split(" | ")[3] for line in to_markdown([better]).splitlines()[2:6]]
    assert cells == ["0.5124", "0.5124", "0.6000", "**0.9000**"]


def test_the_footnote_comes_with_published_rows_alone():
    assert has_published([OTHER, TNO])
    assert not has_published([OTHER])
    assert "*" not in to_markdown([OTHER])


def test_csv_keeps_every_digit_and_leaves_unknown_cells_empty():
    rows = list(csv.reader(to_csv([TNO, OTHER]).splitlines()))
    assert rows[0] == ["data_set", "pairs", "fused_by", "kind", "CC", "SSIM", "SD", "VIF"]
    assert rows[1] == ["TNO/test", "25", "a.onnx", "model", "0.51236", "1.3", "41.0", "nan"]
    assert rows[2][2] == "b, long.onnx"
    assert rows[4] == ["TNO/test", "25", "SHIP", "published", "0.4804", "1.35", "", ""]
    assert len(rows) == 6


@pytest.mark.parametrize(
    ("folder", "pairs", "found"),
    [
        ("TNO", 25, "TNO"),
        ("TNO/test", 25, "TNO"),
        ("MSRS/test", 361, "MSRS"),
        ("RoadScene/TNO/test", 25, "TNO"),
        ("TNO/RoadScene", 221, "RoadScene"),
        ("M3FD", 300, "M3FD"),
        ("TNO/test", 24, None),
        ("TNO2/test", 25, None),
        ("elsewhere", 25, None),
    ],
)
def test_published_figures_are_of_the_papers_own_pairs_alone(tmp_path, folder, pairs, found):
    assert published_quality(tmp_path / folder, pairs) == (published.QUALITY[found] if found else {})


def test_published_figures_are_whole_and_those_of_the_paper():
    figures = published.QUALITY
    assert set(figures) == set(published.PAIRS)
    for methods in figures.values():
        assert len(methods) == 12
        assert all(list(row) == ["CC", "PSNR", "SCD", "SSIM"] for row in methods.values())
    assert figures["TNO"]["SHIP"] == {"CC": 0.4804, "PSNR": 13.4453, "SCD": 1.5489, "SSIM": 1.2984}
    assert figures["MSRS"]["SHIP(Distilled)"] == {"CC": 0.6115, "PSNR": 15.9502, "SCD": 1.6319, "SSIM": 1.3586}
