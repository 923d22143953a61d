from irvis.runtime.columns import align


def test_columns_are_as_wide_as_their_widest_cell():
    assert align([("form", "ms"), ("plain", "1.5"), ("a", "")]) == "form   ms\nplain  1.5\na"
