"""Pairs of points: the file, the fit, and what is told of its error."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.registration.homography import project
from irvis.runtime.registration.points import fit, read_points, write_points

SIMILARITY = np.array([[1.48, -0.05, 12.0], [0.05, 1.48, -9.0], [0, 0, 1]])
AFFINE = np.array([[1.52, -0.05, 12.0], [0.02, 1.37, -9.0], [0, 0, 1]])
HOMOGRAPHY = np.array([[1.5, 0.03, -12.0], [-0.02, 1.48, 7.5], [3e-4, -2e-4, 1.0]])
MATRICES = {"similarity": SIMILARITY, "affine": AFFINE, "homography": HOMOGRAPHY}
FRAME = np.array([[0, 0], [319, 0], [319, 255], [0, 255]])


def pairs(matrix, count, seed=0, noise_px=0.0):
    rng = np.random.default_rng(seed)
    source = rng.uniform((5, 5), (315, 250), (count, 2))
    return np.hstack([source, project(matrix, source) + rng.normal(0, noise_px, (count, 2))])


def corner_error(matrix, found):
    return np.linalg.norm(project(matrix, FRAME) - project(found, FRAME), axis=1).max()


@pytest.mark.parametrize("model", MATRICES)
@given(st.integers(0, 999), st.integers(0, 20))
@settings(max_examples=20)
def test_exact_points_give_the_model_back(model, seed, more):
    least = {"similarity": 2, "affine": 3, "homography": 4}[model]
    points = pairs(MATRICES[model], least + more, seed)
    points[: min(least, 4), :2] = FRAME[: min(least, 4)]  # what is drawn alone may lie on a line
    points[:, 2:] = project(MATRICES[model], points[:, :2])
    found = fit(points, model)
    assert corner_error(MATRICES[model], found.homography) < 0.05
    assert found.used.all()
    assert (found.rms_px is None) == (more == 0)
    assert found.errors_px.max() < 0.01


@pytest.mark.parametrize("model", MATRICES)
def test_the_model_that_predicts_best_is_chosen(model):
    found = fit(pairs(MATRICES[model], 20, noise_px=0.3))
    assert found.model == model
    assert 0.1 < found.rms_px < found.predicted_px < 0.8
    assert found.rms_px < found.worst_px == found.errors_px.max()
    assert corner_error(MATRICES[model], found.homography) < 2


def test_a_richer_model_must_predict_clearly_better():
    chosen = [fit(pairs(SIMILARITY, 12, seed, noise_px=0.7)).model for seed in range(30)]
    assert chosen.count("similarity") > 25


def test_few_points_are_a_similarity():
    assert [fit(pairs(SIMILARITY, count)).model for count in (2, 3, 4)] == ["similarity"] * 3
    assert fit(pairs(SIMILARITY, 2)).rms_px is None
    assert fit(pairs(SIMILARITY, 3)).predicted_px < 1e-3  # OpenCV computes in float32


def test_a_wrong_point_is_left_out_and_named():
    points = pairs(SIMILARITY, 9, noise_px=0.5)
    points[6, 2:] += (20, -21)
    found = fit(points)
    assert np.flatnonzero(~found.used).tolist() == [6]
    assert found.errors_px[6] == pytest.approx(29, abs=2)
    assert corner_error(SIMILARITY, found.homography) < 1


def test_a_good_point_in_a_corner_is_kept():
    """A fit to four noisy points is far off there, so that RANSAC by itself loses it."""
    kept = [fit(pairs(SIMILARITY, 10, seed, noise_px=0.8), "homography").used.mean() for seed in range(20)]
    assert np.mean(kept) > 0.99


def test_what_is_predicted_from_the_others_tells_the_error_between_them():
    """The fit goes nearer to its own points than to any others, most of all where there are few."""
    told = [fit(pairs(HOMOGRAPHY, 7, seed, noise_px=0.3), "homography") for seed in range(30)]
    assert np.median([found.rms_px for found in told]) < 0.3
    # Of six points, five may lie so that they fix no homography: then nothing is predicted.
    assert np.median([found.predicted_px for found in told if found.predicted_px is not None]) > 0.5


def test_where_all_hangs_on_one_point_nothing_is_predicted():
    points = np.array([[0, 0], [100, 0], [200, 0], [300, 0], [150, 200.0]])
    found = fit(np.hstack([points, points + 7]), "affine")
    assert found.predicted_px is None
    assert found.rms_px < 1e-3


def test_a_quarter_of_many_points_may_be_wrong():
    points = pairs(HOMOGRAPHY, 600, noise_px=0.5)
    points[::4, 2:] += np.random.default_rng(1).uniform(10, 60, (150, 2))
    found = fit(points)
    assert found.used.sum() == 450
    assert corner_error(HOMOGRAPHY, found.homography) < 0.5


def test_where_not_even_four_points_agree_it_is_one_line():
    rows = (19.2, 16.2, 45, 20.8), (2.5, 1, 5.8, 4.1), (84.8, 54.8, 56.7, 63.3), (36.4, 43.8, 40.3, 5041)
    rows += (32.6, 56.1, 38.9, 64.7), (49, 0.2, 56.9, 3.2), (51.4, 2, 59.5, 5.2), (43.8, 10.5, 84.2, 14.6)
    with pytest.raises(IrvisError, match="contradict each other"):
        fit(np.array(rows))


LINE = np.stack([np.arange(6) * 30 + 20, np.arange(6) * 20 + 10], 1).astype(float)
SAME = np.tile([[50.0, 60.0]], (6, 1))


DEGENERATE = {
    "one is too few": (pairs(SIMILARITY, 1), None, "similarity needs 2 points or more. Got 1"),
    "three for a homography": (pairs(HOMOGRAPHY, 3), "homography", "homography needs 4 points or more. Got 3"),
    "all in one place": (np.hstack([SAME, SAME]), None, "do not fix a homography"),
    "all in one place, affine": (np.hstack([SAME, SAME]), "affine", "do not fix an affine map"),
    "one place in the visible": (np.hstack([LINE, SAME]), "similarity", "do not fix a similarity"),
    "on a line": (np.hstack([LINE, LINE + 3]), "affine", "do not fix an affine map"),
    "many on a line": (np.hstack([LINE, LINE + 3]), None, "do not fix a homography"),
    "three on a line": (
        np.array([[0, 0, 0, 0], [100, 0, 100, 0], [200, 0, 200, 0], [50, 90, 50, 90.0]]),
        "homography",
        "do not fix a homography",
    ),
    "the same point again": (pairs(HOMOGRAPHY, 4)[[0, 1, 2, 2]], "homography", "do not fix a homography"),
    "nothing agrees": (
        np.random.default_rng(0).uniform(0, 300, (8, 4)),
        "similarity",
        r"contradict each other: at most \d of 8",
    ),
    "five of a homography, one wrong": (
        pairs(HOMOGRAPHY, 5) + np.eye(5)[[3]].T * (0, 0, 40, 0),
        "homography",
        "contradict each other: at most 4 of 5 fit a homography to 3.0 px",
    ),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_points_that_fix_nothing_are_one_line(name):
    points, model, message = DEGENERATE[name]
    with pytest.raises(IrvisError, match=message) as caught:
        fit(points, model)
    assert "\n" not in str(caught.value)


def test_what_is_written_is_read(tmp_path):
    points = pairs(HOMOGRAPHY, 7)
    write_points(tmp_path / "a.points.csv", points)
    np.testing.assert_allclose(read_points(tmp_path / "a.points.csv"), points, atol=0.0005)
    assert (tmp_path / "a.points.csv").read_text().startswith("infrared_x,infrared_y,visible_x,visible_y\n")


READ = {
    "bare.csv": "1,2,3,4\n5,6.5,7e1,8\n",
    "spaces.CSV": "\ufeff 1, 2, 3, 4 \n\n5,6.5,70,8\r\n",
    "other order.csv": "name,visible_x,visible_y,Infrared_X,infrared_y\nroof,3,4,1,2\ndoor,70,8,5,6.5\n",
    "list.json": "[[1, 2, 3, 4], [5, 6.5, 70, 8]]",
}


@pytest.mark.parametrize("name", READ)
def test_points_are_read_from(tmp_path, name):
    (tmp_path / name).write_text(READ[name], encoding="utf-8")
    np.testing.assert_array_equal(read_points(tmp_path / name), [[1, 2, 3, 4], [5, 6.5, 70, 8]])


BAD = {
    "empty.csv": ("", "no points"),
    "three.csv": ("1,2,3\n", "point 1 must be four numbers"),
    "word.csv": ("1,2,3,4\n1,2,x,4\n", "point 2 must be four numbers"),
    "nan.csv": ("1,2,nan,4\n", "point 1 must be four numbers"),
    "far.csv": ("1,2,3,2e6\n", "point 1 must be four numbers"),
    "many.csv": ("1,2,3,4\n" * 10_001, "too many points in .*10001 of at most 10000"),
    "header.csv": ("x,y,u,v\n1,2,3,4\n", "its header must name infrared_x"),
    "short.csv": ("infrared_x,infrared_y,visible_x,visible_y\n1,2\n", "point 1 must be four numbers"),
    "broken.json": ("[[1, 2", "cannot read the points"),
    "object.json": (json.dumps({"points": []}), "no points"),
    "huge.json": ("[[1, 2, 3, 1" + "0" * 400 + "]]", "point 1 must be four numbers"),
    "nested.json": ("[" * 900 + "]" * 900, "it is nested deeper than 100"),
    "deeper.json": ("[" * 90 + "]" * 90, "point 1 must be four numbers"),
    "deep.json": ("[" * 100_000, "cannot read the points"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(FileError, match=message) as caught:
        read_points(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_file_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe\0")
    with pytest.raises(FileError, match="cannot read the points"):
        read_points(tmp_path / "picture.csv")
    with pytest.raises(FileError, match="point file not found"):
        read_points(tmp_path / "none.csv")
