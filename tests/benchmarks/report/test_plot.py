import importlib.util

import cv2
import pytest

from irvis.benchmarks.report import plot
from irvis.benchmarks.report.plot import draw
from irvis.runtime import IrvisError

needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is missing")


def redness(path):
    """Return how many pixels the watermark's pale red has."""
    blue, green, red = cv2.split(cv2.imread(str(path)).astype(int))
    return int(((red - green > 15) & (abs(green - blue) < 3) & (green > 180)).sum())


@needs_matplotlib
def test_the_picture_is_drawn_and_bears_the_watermark_where_there_is_one(document, tmp_path):
    draw(document(), tmp_path / "verified.png")
    draw(document(verified_mode=None), tmp_path / "unverified.png")
    assert cv2.imread(str(tmp_path / "verified.png")).shape == (500, 1300, 3)
    assert redness(tmp_path / "unverified.png") > 20 * redness(tmp_path / "verified.png") + 2000


@needs_matplotlib
def test_an_outlier_is_within_the_picture_and_the_hottest_zone_beside_it(document, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plot, "save_figure", lambda figure, *_, **__: drawn.append(figure))
    draw(document([10.0] * 99 + [1000.0]), tmp_path / "outlier.png")
    left, right, warm = drawn[0].axes
    assert sum(bar.get_height() for bar in left.patches) == 100
    assert right.get_ylim()[0] == 0
    assert right.get_ylim()[1] > 1000
    assert set(warm.lines[0].get_ydata()) == {41.5}


def test_without_matplotlib_it_is_one_line(document, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(IrvisError, match="pip install matplotlib"):
        draw(document(), tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
