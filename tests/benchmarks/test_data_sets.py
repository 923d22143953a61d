import os
from pathlib import Path

from irvis.benchmarks.data_sets import counted, data_set_name, file_name


def test_a_data_set_is_named_by_what_a_table_can_show():
    assert data_set_name(Path("/data/TNO/test")) == "TNO/test"
    assert data_set_name(Path(os.fsdecode(b"/data/caf\xe9/two\nlines"))) == r"caf\udce9/two\nlines"
    assert [counted(pairs, "TNO/test") for pairs in (1, 2)] == ["1 pair of TNO/test", "2 pairs of TNO/test"]


def test_a_name_becomes_part_of_a_file_name():
    assert file_name("TNO/test, cut to 128x128") == "TNO-test-cut-to-128x128"
    assert file_name("package.module:Toy") == "package.module-Toy"
