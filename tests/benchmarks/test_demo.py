from irvis.runtime.cli import main
from irvis.runtime.images import read_image
from irvis.runtime.samples import SCENES, write_samples


def test_given_pairs_are_fused_shown_and_timed(tmp_path, capsys):
    write_samples(tmp_path, 48, 64)
    assert main(["demo", "--pairs", str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert len(list((tmp_path / "out/fused").iterdir())) == len(SCENES)
    assert read_image(tmp_path / "out/side_by_side.png").shape[1] == 1600
    assert "250.31 ± 7.17 ms" in text
    assert "48x64, HEIGHTxWIDTH)" in text


def test_two_files_do_as_well(tmp_path, capsys):
    write_samples(tmp_path, 48, 64)
    arguments = ["--infrared", str(tmp_path / "ir/street.png"), "--visible", str(tmp_path / "vi/street.png")]
    assert main(["demo", *arguments, "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/fused/street.png").exists()


def test_half_a_pair_is_refused(tmp_path, capsys):
    assert main(["demo", "--infrared", "a.png", "-o", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "irvis demo: visible is missing: give both --infrared and --visible\n"


def test_pairs_of_which_none_can_be_fused_fail(tmp_path, capsys):
    write_samples(tmp_path, 48, 64)
    for path in (tmp_path / "ir").iterdir():
        path.write_bytes(b"")
    assert main(["demo", "--pairs", str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "irvis demo: none of the pairs could be fused"
