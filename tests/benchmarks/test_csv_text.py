from irvis.benchmarks.csv_text import csv_text


def test_numbers_are_unrounded_and_lines_end_in_a_line_feed():
    assert csv_text(["name", "CC"], [["a, b", 0.1 + 0.2], ['"c"', ""]]) == (
        'name,CC\n"a, b",0.30000000000000004\n"""c""",\n'
    )
