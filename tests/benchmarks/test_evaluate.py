import shutil

import numpy as np
import pytest

pytest.importorskip("skimage")

from irvis.benchmarks.evaluate import evaluate_pairs, mean
from irvis.benchmarks.metrics import evaluate_fusion
from irvis.runtime.cli import main
from irvis.runtime.errors import FileError
from irvis.runtime.fuser import Fuser
from irvis.runtime.images import read_infrared, read_visible, to_grey, write_image
from irvis.runtime.pairs import pairs_of

NAMES = ["CC", "PSNR", "SCD", "SSIM", "EN", "SD", "SF", "AG"]


def run(capsys, *arguments):
    """Give the exit code, the rows on stdout and the lines on stderr of ``irvis evaluate``."""
    code = main(["evaluate", *map(str, arguments)])
    said = capsys.readouterr()
    return code, [[cell.strip() for cell in line.strip("|").split("|")] for line in said.out.splitlines()], said.err


def planes_of(pair):
    return read_infrared(pair.infrared), to_grey(read_visible(pair.visible))


def test_the_table_has_a_row_of_the_model_and_one_of_the_mean(samples, capsys):
    code, rows, trouble = run(capsys, samples)
    assert (code, trouble) == (0, "")
    pairs = pairs_of(samples)
    where = f"{samples.parent.name}/{samples.name}"
    assert rows[0] == ["data set", "pairs", "fused by", *NAMES]
    assert rows[1] == ["---"] * len(rows[0])
    assert [row[:2] for row in rows[2:]] == [[where, str(len(pairs))]] * 2
    assert [row[2] for row in rows[2:]] == ["student.onnx", "mean of the inputs"]
    with Fuser(infrared_smoothing=0) as fuser:
        values = [[], []]
        for pair in pairs:
            infrared, visible = planes_of(pair)
            values[0].append(evaluate_fusion(infrared, visible, fuser(infrared, visible)))
            halved = np.rint((infrared.astype(float) + visible) / 2).astype(np.uint8)
            values[1].append(evaluate_fusion(infrared, visible, halved))
    for row, of_pairs in zip(rows[2:], values):
        for cell, name in zip(row[3:], NAMES):
            # The luminance may be off by one where OpenCV's two conversions round a half differently.
            assert float(cell) == pytest.approx(np.mean([value[name] for value in of_pairs]), rel=2e-3, abs=1e-3), name


def test_several_data_sets_share_one_head(samples, tmp_path, capsys):
    other = tmp_path / "other"
    for pair in pairs_of(samples)[:1]:
        for half, path in (("ir", pair.infrared), ("vi", pair.visible)):
            (other / half).mkdir(parents=True)
            shutil.copy(path, other / half / path.name)
    code, rows, _ = run(capsys, samples, other)
    assert code == 0
    assert len(rows) == 2 + 2 + 2
    assert [row[1] for row in rows[2:]] == [str(len(pairs_of(samples)))] * 2 + ["1"] * 2
    assert rows[4][0].endswith("/other")
    assert rows[4][3:] != rows[2][3:]


def test_the_mean_over_pairs_is_of_their_values(samples):
    pairs = pairs_of(samples)
    alone = [evaluate_pairs([pair], mean) for pair in pairs]
    together = evaluate_pairs(pairs, mean)
    assert list(together) == NAMES
    for name in NAMES:
        assert together[name] == pytest.approx(np.mean([value[name] for value in alone]), rel=1e-12)


def test_a_missing_folder_is_one_line(samples, tmp_path, capsys):
    code, rows, trouble = run(capsys, samples, tmp_path / "none")
    assert (code, rows) == (1, [])  # said before the minutes of the other folder
    assert trouble == f"irvis evaluate: folder not found: {tmp_path / 'none'}\n"


def test_a_missing_model_is_one_line(samples, tmp_path, capsys):
    code, rows, trouble = run(capsys, samples, "--model", tmp_path / "none.onnx")
    assert (code, rows, trouble.count("\n")) == (1, [], 1)
    assert str(tmp_path / "none.onnx") in trouble


@pytest.mark.parametrize(
    ("infrared", "visible", "said"),
    [
        (np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8), "20x20 and 20x21"),
        (np.zeros((20, 20), np.uint16), np.zeros((20, 20), np.uint8), "Got uint16"),
        (np.zeros((15, 20), np.uint8), np.zeros((15, 20), np.uint8), "Got 15x20"),
    ],
    ids=["sizes differ", "16 bits", "too small"],
)
def test_pairs_that_cannot_be_measured_are_one_line(tmp_path, capsys, infrared, visible, said):
    write_image(tmp_path / "ir" / "odd.png", infrared)
    write_image(tmp_path / "vi" / "odd.png", visible)
    code, _, trouble = run(capsys, tmp_path)
    assert (code, trouble.count("\n")) == (1, 1)
    assert said in trouble


def test_16_bit_infrared_is_refused_by_name(tmp_path):
    write_image(tmp_path / "ir" / "deep.png", np.zeros((20, 20), np.uint16))
    write_image(tmp_path / "vi" / "deep.png", np.zeros((20, 20), np.uint8))
    with pytest.raises(FileError, match=r"8-bit infrared. Got uint16 in .*deep\.png"):
        evaluate_pairs(pairs_of(tmp_path), mean)
