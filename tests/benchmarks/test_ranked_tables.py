import json
import math
import os

import pytest

from irvis.benchmarks.ranked_tables import (
    BEST,
    SECOND,
    Cell,
    RankedTable,
    ranks,
    to_latex,
    to_markdown,
    write_tables,
)

HEAD = ["method", "part", "CC"]
ROWS = [
    [Cell("a_b"), Cell("✓"), Cell("0.5000 ± 0.1000", BEST)],
    [Cell("50 %"), Cell(""), Cell("0.4000", SECOND)],
    [Cell("c"), Cell(""), Cell("0.3000")],
]
FOUND = RankedTable("Table 9", HEAD, ROWS, "Of nothing.")


def test_more_is_better_and_what_prints_alike_ranks_alike():
    assert ranks([0.1, 0.3, 0.2]) == [0, BEST, SECOND]
    assert ranks([0.12341, 0.12344, 0.1]) == [BEST, BEST, SECOND]
    assert ranks([0.1234, 0.1244, 0.1], digits=2) == [BEST, BEST, SECOND]
    assert ranks([-1.0, math.nan, -2.0, -3.0]) == [BEST, 0, SECOND, 0]
    assert ranks([math.nan]) == [0]
    assert ranks([]) == []


def test_markdown_has_the_best_in_bold_and_the_second_underlined():
    assert to_markdown(FOUND).splitlines() == [
        "| method | part | CC |",
        "| --- | ---: | ---: |",
        "| a_b | ✓ | **0.5000 ± 0.1000** |",
        "| 50 % |  | <u>0.4000</u> |",
        "| c |  | 0.3000 |",
    ]


def test_latex_is_escaped_and_has_the_same_cells():
    lines = to_latex(HEAD, ROWS, "of a_b & c").splitlines()
    assert lines[2] == r"\caption{of a\_b \& c}"
    assert lines[3] == r"\begin{tabular}{lrr}"
    assert lines[5] == r"method & part & CC \\"
    assert lines[7:10] == [
        r"a\_b & \checkmark & \textbf{0.5000 $\pm$ 0.1000} \\",
        r"50 \% &  & \underline{0.4000} \\",
        r"c &  & 0.3000 \\",
    ]


def test_latex_has_every_special_character_of_a_name_escaped():
    line = to_latex(HEAD, [[Cell(r"a^2~{x}$\#")]], "").splitlines()[7]
    assert line == r"a\^{}2\~{}\{x\}\$\textbackslash{}\# \\"


def test_a_name_that_is_not_utf_8_is_written(tmp_path):
    found = FOUND._replace(rows=[[Cell(os.fsdecode(b"caf\xe9")), Cell(""), Cell("0.5")]])
    for file in write_tables(tmp_path, "nine", found, os.fsdecode(b"caf\xe9,0.5\n")):
        assert r"caf\udce9" in file.read_text(encoding="utf-8")


def test_the_files_have_one_table(tmp_path):
    files = write_tables(tmp_path / "new", "nine", FOUND, "a,b\n")
    assert [file.name for file in files] == ["nine.md", "nine.csv", "nine.tex", "nine.json"]
    markdown, csv, latex, page = (file.read_text(encoding="utf-8") for file in files)
    assert markdown == f"# Table 9\n\nOf nothing.\n\n{to_markdown(FOUND)}"
    assert csv == "a,b\n"
    assert latex == to_latex(HEAD, ROWS, "Of nothing.")
    pytest.importorskip("torch")  # which other kinds of figures need
    from irvis.benchmarks.figures import plain_table

    assert plain_table(json.loads(page)) == f"{to_markdown(FOUND)}\nOf nothing.\n"
