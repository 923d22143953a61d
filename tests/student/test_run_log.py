import pytest

pytest.importorskip("cv2")

from irvis.student.run_log import Table


@pytest.mark.parametrize(
    ("columns", "end"),
    [
        (b"step,loss", b""),
        (b"step,loss", b"3,0.3\r\n1"),
        (b"step,loss", b"1,0.3,0.3\r\n"),
        (b"step,loss", b"\0" * 2**18),
        (b"step,loss", b"\xff\xfe,\x80\r\n"),
        (b"step,loss", "\u00b2,0.3\r\n".encode()),
        (b"step,loss,of_another_version", b""),
    ],
    ids=["nothing", "cut off", "too long", "zeros", "no text", "no number", "other columns"],
)
def test_a_table_goes_on_after_the_step_whatever_follows_it(tmp_path, columns, end):
    path = tmp_path / "s.csv"
    more = b",7" if columns.count(b",") > 1 else b""
    path.write_bytes(columns + b"\r\n1,0.5" + more + b"\r\n2,0.4" + more + b"\r\n" + end)
    table = Table(path, 2)
    table.add([{"step": 3, "loss": 0.25}])
    table.add([{"step": 4, "loss": 0.125}])
    assert path.read_text().split() == ["step,loss", "1,0.5", "2,0.4", "3,0.25", "4,0.125"]
