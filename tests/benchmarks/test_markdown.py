import pytest

from irvis.benchmarks.markdown import fill, table
from irvis.runtime.errors import FileError

PAGE = """# Page
<!-- speed: made by `make figures` -->
old
lines
<!-- end of speed -->
between
<!-- cost-2: made by `make figures` -->
<!-- end of cost-2 -->
end
"""


def test_a_table_has_texts_left_and_numbers_right():
    made = table(["a", "b", "c"], [["x", "1", "2"], ["y", "3", ""]], left=2)
    assert made == "| a | b | c |\n| --- | --- | ---: |\n| x | 1 | 2 |\n| y | 3 |  |\n"


def test_a_bar_in_a_name_ends_no_cell():
    assert table(["a"], [["x|y"]]).splitlines()[2] == r"| x\|y |"


def test_blocks_are_put_between_their_comments_and_nothing_else_is_touched():
    filled = fill(PAGE, "page.md", {"speed": "new \\1 line\n", "cost-2": "a\n\nb\n", "unasked": "?"})
    assert filled == PAGE.replace("old\nlines", "new \\1 line").replace(
        "figures` -->\n<!-- end of cost-2", "figures` -->\na\n\nb\n<!-- end of cost-2"
    )
    assert fill(filled, "page.md", {"speed": "new \\1 line\n", "cost-2": "a\n\nb\n"}) == filled


def test_a_block_without_a_result_is_told():
    with pytest.raises(FileError, match=r"page.md asks for the block cost-2. Known: speed"):
        fill(PAGE, "page.md", {"speed": ""})
