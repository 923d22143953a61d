"""`irvis calibrate` as a person runs it: what it writes, what it says, and what it leaves alone."""

import http.client
import json
import socket
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from irvis.runtime.cli import main
from irvis.runtime.errors import FileError
from irvis.runtime.images import read_image, write_image
from irvis.runtime.registration import Registration, calibrate
from irvis.runtime.registration.homography import corners_of, project
from irvis.runtime.registration.points import read_points, write_points
from irvis.runtime.registration.targets import Target
from irvis.runtime.samples import SCENES, make_scene

INFRARED, VISIBLE = (128, 160), (240, 320)
DEGREES, SCALE, SHIFT = 2.0, 1.9, (6.0, -4.0)  # about the frames' centres, visible pixels
RADIANS = np.deg2rad(DEGREES)
TURN = SCALE * np.array([[np.cos(RADIANS), -np.sin(RADIANS)], [np.sin(RADIANS), np.cos(RADIANS)]])
CENTRES = [(np.array(size[::-1]) - 1) / 2 for size in (INFRARED, VISIBLE)]
TRUTH = np.vstack([np.c_[TURN, CENTRES[1] + SHIFT - TURN @ CENTRES[0]], (0, 0, 1)])
SOURCES = np.array([[8, 9], [150, 12], [148, 118], [10, 120], [80, 30], [40, 70], [120, 66], [90, 100.0]])
POINTS = np.hstack([SOURCES, project(TRUTH, SOURCES)])


@pytest.fixture(scope="module")
def scene():
    return make_scene("street", *VISIBLE)


@pytest.fixture
def rig(tmp_path, monkeypatch, scene):
    """A folder to be in, with ir.png, vi.png and points.csv; the infrared lies in the visible as TRUTH has it."""
    monkeypatch.chdir(tmp_path)
    infrared, visible = scene
    write_image("ir.png", cv2.warpPerspective(infrared, np.linalg.inv(TRUTH), INFRARED[::-1]))
    write_image("vi.png", visible)
    write_points("points.csv", POINTS)
    return tmp_path


def run(capsys, *arguments):
    """Return the exit code, stdout and the lines on stderr."""
    code = main(["calibrate", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err.splitlines()


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def error_px(found, truth=TRUTH):
    corners = corners_of(found.infrared_size)
    return np.linalg.norm(project(found.homography, corners) - project(truth, corners), axis=1).max()


@pytest.mark.parametrize("model", ["similarity", "affine", "homography", None])
def test_given_points_are_fitted_told_and_saved(rig, capsys, model):
    noise = np.random.default_rng(0).normal(0, 0.3, (len(POINTS), 2))
    write_points("points.csv", POINTS + np.c_[np.zeros_like(noise), noise])
    options = ["--model", model] if model else []
    code, out, errors = run(capsys, "ir.png", "vi.png", "-o", "r.json", "--points", "points.csv", *options)
    assert (code, errors) == (0, [])
    found = Registration.load("r.json")
    assert error_px(found) < 3
    assert (found.method, found.infrared_size, found.visible_size) == ("points", INFRARED, VISIBLE)
    assert (found.points, found.of, found.confidence) == (8, 8, None)
    assert 0.1 < found.error_px < found.worst_px < 1
    first, effect, cover, last = out.splitlines()
    expected = f"points, {model or 'similarity'}: 8 of 8 points used, error {found.error_px:.2f} px rms"
    assert first.startswith(expected)
    assert f"{found.worst_px:.2f} px at worst" in first
    assert "is magnified 1." in effect
    assert "degrees clockwise" in effect
    assert "in common" in cover
    assert last == "wrote r.json"


def test_a_wrong_point_is_named_by_its_row_and_how_far_off_it_is(rig, capsys):
    points = POINTS.copy()
    points[4, 2:] += (30, 40)
    write_points("points.csv", points)
    code, out, _ = run(capsys, "ir.png", "vi.png", "-o", "r.json", "--points", "points.csv")
    assert code == 0
    assert "7 of 8 points used" in out
    assert "left out: point 5, infrared (80.0, 30.0)" in out
    assert ", 50.0 px off" in out
    found = Registration.load("r.json")
    assert error_px(found) < 0.1
    assert (found.points, found.of) == (7, 8)


def test_a_point_may_be_off_by_three_pixels_of_the_coarser_frame(rig, capsys):
    points = POINTS.copy()
    points[4, 2:] += (4, -3)  # 2.6 pixels of the infrared
    write_points("points.csv", points)
    code, out, _ = run(capsys, "ir.png", "vi.png", "-o", "r.json", "--points", "points.csv")
    assert (code, "8 of 8 points used" in out) == (0, True)
    points[:, :2] = project(np.linalg.inv(TRUTH), POINTS[:, 2:]) * 2
    write_points("points.csv", points)
    code, out, _ = run(capsys, "vi.png", "vi.png", "-o", "r.json", "--points", "points.csv")
    assert (code, "7 of 8 points used" in out) == (0, True)


def test_of_many_wrong_points_ten_are_named(rig, capsys):
    source = np.random.default_rng(0).uniform((5, 5), (155, 120), (40, 2))
    points = np.hstack([source, project(TRUTH, source)])
    points[:12, 2:] = np.random.default_rng(1).uniform((5, 5), (315, 235), (12, 2))
    write_points("points.csv", points)
    code, out, _ = run(capsys, "ir.png", "vi.png", "-o", "r.json", "--points", "points.csv")
    assert (code, "28 of 40 points used" in out) == (0, True)
    assert out.count("left out: point") == 10
    assert "left out: 2 more\n" in out


def test_what_the_infrared_covers_is_told(rig, capsys):
    shifted = np.array([[0, 0], [280, 0], [280, 220], [0, 220], [150, 100.0]])
    write_points("points.csv", np.hstack([shifted, shifted + np.array([32, 0])]))
    code, out, _ = run(capsys, "vi.png", "vi.png", "-o", "r.json", "--points", "points.csv", "--model", "similarity")
    assert code == 0
    assert "the infrared covers 90.0% of the visible; 240x288 of 240x320 in common\n" in out


def test_two_points_have_no_error_to_tell_and_a_corner_of_the_frame_is_said_to_be_one(rig, capsys):
    write_points("points.csv", np.hstack([SOURCES[[4, 6]], project(TRUTH, SOURCES[[4, 6]])]))
    code, out, _ = run(capsys, "ir.png", "vi.png", "-o", "r.json", "--points", "points.csv")
    assert code == 0
    assert "their error is not known" in out
    assert "span 7% of the infrared frame" in out
    assert Registration.load("r.json").error_px is None


@pytest.mark.parametrize(
    ("kind", "count", "degrees"),
    [("checkerboard", "9x6", [20]), ("circles", "7x5", [-12, 30]), ("asymmetric-circles", "4x11", [170])],
)
def test_targets_are_found_and_those_of_several_pairs_put_together(
    rig, capsys, similarity, render_pair, kind, count, degrees
):
    truth, target = similarity((128, 160), 2, 1.03, (9, -5)), Target(kind, *map(int, count.split("x")))
    for index, angle in enumerate(degrees):
        frames = render_pair(target, truth, (128, 160), angle, index, low=100, high=170, inverted=True)
        for half, frame in zip(("ir", "vi"), frames):
            write_image(f"{half}/{index}.png", frame)
    code, out, errors = run(capsys, "ir", "vi", "-o", "r.json", f"--{kind}", count, "--model", "similarity")
    assert (code, errors) == (0, [])
    found = Registration.load("r.json")
    assert error_px(found, truth) < 0.3 * 480 / 128  # infrared pixels
    assert found.method == kind
    assert found.points == found.of == len(degrees) * target.columns * target.rows
    assert f"{kind}, similarity: {found.points} of {found.points} points used" in out


def test_a_pair_without_the_target_is_named(rig, capsys, similarity, render_pair):
    frames = render_pair(Target("circles", 7, 5), similarity((128, 160), 0, 1, (0, 0)), (128, 160), 9, low=0, high=99)
    for half, frame in zip(("ir", "vi"), frames):
        write_image(f"{half}/roof.png", np.full_like(frame, 90))
        write_image(f"{half}/board.png", frame)
    code, _, errors = run(capsys, "ir", "vi", "-o", "r.json", "--circles", "7x5")
    assert (code, errors) == (0, ["irvis calibrate: circles not found in both frames of roof"])
    assert Registration.load("r.json").of == 35


def test_the_images_themselves_serve_where_nothing_is_given(rig, capsys, scene):
    infrared, visible = scene
    write_image("ir.png", infrared[10:, 12:])
    write_image("vi.png", visible[:-10, :-12])
    code, out, errors = run(capsys, "ir.png", "vi.png", "-o", "r.json", "--preview", "p.png")
    assert (code, errors) == (0, [])
    found = Registration.load("r.json")
    assert error_px(found, np.array([[1, 0, 12], [0, 1, 10], [0, 0, 1.0]])) < 1
    assert found.method == "automatic"
    assert found.confidence > 0.4
    assert (found.points, found.error_px) == (0, None)
    assert f"automatic: confidence {found.confidence:.2f}\n" in out
    assert read_image("p.png").shape[1:] == (1600, 3)


def test_a_preview_that_cannot_be_written_costs_itself_alone(rig, capsys, monkeypatch):
    """As in OpenCV 4.5.4 a picture in colour as .pgm."""

    def fail(path, image):
        raise FileError(f"OpenCV cannot encode it: {path}")

    monkeypatch.setattr(calibrate, "write_image", fail)
    code, out, errors = run(capsys, "ir.png", "vi.png", "-o", "r.json", "--points", "points.csv", "--preview", "p.pgm")
    assert (code, errors) == (1, ["irvis calibrate: OpenCV cannot encode it: p.pgm"])
    assert "wrote r.json" in out
    assert Registration.load("r.json").points == len(POINTS)


def test_an_untrusted_result_is_kept_by_force_only(rig, capsys):
    write_image("ir.png", np.random.default_rng(0).integers(0, 256, INFRARED, np.uint8))
    before = files_of(rig)
    code, _, errors = run(capsys, "ir.png", "vi.png", "-o", "r.json", "--auto", "--preview", "p.png")
    assert (code, len(errors)) == (1, 1)
    assert "not trusted (confidence 0." in errors[0]
    assert "--click or --checkerboard" in errors[0]
    assert "give --fields-of-view if one camera sees less than half" in errors[0]  # which no further pair mends
    assert set(files_of(rig)) - set(before) == {Path("p.png")}  # a person may tell what the numbers do not
    code, out, errors = run(capsys, "ir.png", "vi.png", "-o", "r.json", "--force")
    assert (code, errors) == (0, [])
    assert "not trusted" in out
    assert Registration.load("r.json").confidence < 0.4


@pytest.mark.parametrize("told", [[], ["--fields-of-view", "44.0", "60"]])
def test_cameras_of_unlike_fields_of_view_are_registered(tmp_path, monkeypatch, capsys, told):
    """An infrared that sees .7 of the visible's width: 2 atan(.7 tan(60 / 2)) is 44.0 degrees."""
    monkeypatch.chdir(tmp_path)
    turn = TURN / SCALE * 0.7 * VISIBLE[1] / INFRARED[1]
    truth = np.vstack([np.c_[turn, CENTRES[1] + SHIFT - turn @ CENTRES[0]], (0, 0, 1)])
    for name in SCENES:
        infrared, visible = make_scene(name, *VISIBLE)
        write_image(f"ir/{name}.png", cv2.warpPerspective(infrared, np.linalg.inv(truth), INFRARED[::-1]))
        write_image(f"vi/{name}.png", visible)
    code, _, errors = run(capsys, "ir", "vi", "-o", "r.json", *told)
    assert (code, errors) == (0, [])
    assert error_px(Registration.load("r.json"), truth) < 2


@pytest.mark.parametrize("method", [["--points", "points.csv"], ["--click"], ["--asymmetric-circles", "4x5"]])
def test_fields_of_view_are_for_the_automatic_method(rig, capsys, method):
    code, _, errors = run(capsys, "ir.png", "vi.png", "-o", "r.json", "--fields-of-view", 50, 69, *method)
    message = "irvis calibrate: --fields-of-view is for the automatic method: points and boards need none"
    assert (code, errors) == (1, [message])


@pytest.mark.parametrize("degrees", ["0", "180", "nan", "wide"])
def test_a_field_of_view_is_an_angle(rig, capsys, degrees):
    with pytest.raises(SystemExit, match="2"):
        main(["calibrate", "ir.png", "vi.png", "-o", "r.json", "--fields-of-view", "50", degrees])
    assert f"lies between 0 and 180 degrees. Got '{degrees}'" in capsys.readouterr().err


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def browser(port, path, body, answers):
    """Do what the page does: read what there is to begin with, then end it."""
    for _ in range(200):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/start")
            answers.append(json.loads(connection.getresponse().read()))
            connection.request("POST", path, json.dumps(body))
            answers.append(connection.getresponse().status)
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
        finally:
            connection.close()


def click(capsys, path, points):
    port, answers = free_port(), []
    person = threading.Thread(target=browser, args=(port, path, {"points": points.tolist()}, answers))
    person.start()
    result = run(capsys, "ir.png", "vi.png", "-o", "r.json", "--click", port)
    person.join()
    return result, answers


def test_clicked_points_are_kept_and_offered_again(rig, capsys):
    pytest.importorskip("aiohttp")
    (code, out, errors), answers = click(capsys, "/save", POINTS)
    assert (code, errors) == (0, [])
    assert answers[0]["points"] == []
    np.testing.assert_allclose(read_points("r.points.csv"), POINTS, atol=0.0005)
    assert Registration.load("r.json").method == "clicked"
    assert error_px(Registration.load("r.json")) < 0.1
    assert "wrote r.points.csv" in out
    before = files_of(rig)
    (code, _, errors), answers = click(capsys, "/cancel", POINTS)
    assert (code, len(errors)) == (1, 1)
    assert "cancelled" in errors[0]
    np.testing.assert_allclose(answers[0]["points"], POINTS, atol=0.0005)
    assert files_of(rig) == before


def test_clicks_that_fit_nothing_are_kept_too(rig, capsys):
    pytest.importorskip("aiohttp")
    (code, _, errors), _ = click(capsys, "/save", POINTS[[0, 0, 0]])
    assert (code, len(errors)) == (1, 1)
    assert "do not fix a similarity" in errors[0]
    assert len(read_points("r.points.csv")) == 3
    assert not Path("r.json").exists()


BAD = {
    "missing file": (["none.png", "vi.png"], "not found"),
    "no image": (["ir.png", "points.csv"], "not an image"),
    "a file and a folder": (["ir.png", "folder"], "both be images, or both folders"),
    "a camera and a file": (["test://street", "vi.png"], "both be cameras or videos, or neither"),
    "no such source": (["http://a", "test://street"], "unknown kind of source"),
    "no point file": (["ir.png", "vi.png", "--points", "none.csv"], "point file not found"),
    "broken points": (["ir.png", "vi.png", "--points", "vi.png"], "cannot read the points"),
    "points of other frames": (["vi.png", "vi.png", "--points", "far.csv"], "point 2 lies outside the infrared frame"),
    "points of a wider frame": (
        ["ir.png", "vi.png", "--points", "wide.csv"],
        "point 1 lies outside the visible frame of 240x320: x 30, y 300",
    ),
    "points on a line": (["ir.png", "vi.png", "--points", "line.csv", "--model", "affine"], "do not fix an affine map"),
    "too few points": (["ir.png", "vi.png", "--points", "line.csv", "--model", "homography"], "needs 4 points or more"),
    "mirrored": (["ir.png", "vi.png", "--points", "mirrored.csv", "--model", "affine"], "mirrors the infrared"),
    "no target": (["ir.png", "vi.png", "--circles", "7x5"], "circles 7x5 not found in both frames of any of 1 pairs"),
    "an address": (["ir.png", "vi.png", "--click", "host"], "an address is [HOST:]PORT"),
    "a token without a page": (["ir.png", "vi.png", "--token", "12345678"], "--token is for the page of --click"),
    "another suffix": (["ir.png", "vi.png", "-o", "r.yaml"], "a registration is a .json file"),
    "output over the points": (
        ["ir.png", "vi.png", "--points", "points.json", "-o", "points.json"],
        "would overwrite an input",
    ),
    "preview over an input": (["ir.png", "vi.png", "--preview", "vi.png"], "would overwrite an input"),
    "preview over an image of a folder": (
        ["pairs/ir", "pairs/vi", "--preview", "pairs/vi/a.png"],
        "would overwrite an input",
    ),
    "preview of another kind": (["ir.png", "vi.png", "--preview", "p.pdf"], "cannot write a preview"),
    "output below a file": (["ir.png", "vi.png", "-o", "vi.png/r.json"], "cannot write"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(rig, capsys, name):
    arguments, message = BAD[name]
    Path("folder").mkdir()
    for half in ("ir", "vi"):
        write_image(f"pairs/{half}/a.png", np.zeros(INFRARED, np.uint8))
    write_points("far.csv", np.array([[1, 2, 3, 4], [900, 2, 3, 4.0]]))
    write_points("wide.csv", np.array([[1, 2, 30, 300], [5, 6, 7, 8.0]]))
    write_points("line.csv", np.array([[0, 0, 0, 0], [40, 40, 80, 80], [90, 90, 180, 180.0]]))
    write_points("mirrored.csv", np.hstack([SOURCES, (300, 0) + SOURCES * (-1, 1)]))
    Path("points.json").write_text(json.dumps(POINTS.tolist()))
    arguments = arguments if "-o" in arguments else [*arguments, "-o", "r.json"]
    before = files_of(rig)
    code, _, errors = run(capsys, *arguments)
    errors = [line for line in errors if not line.startswith("[")]  # OpenCV's own, which the command line silences
    assert (code, len(errors)) == (1, 1)
    assert errors[0].startswith("irvis calibrate: ")
    assert message in errors[0]
    assert files_of(rig) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--auto", "--circles", "7x5"], "not allowed with"),
        (["--points", "points.csv", "--click"], "not allowed with"),
        (["--checkerboard", "7"], "COLSxROWS"),
        (["--model", "rigid"], "invalid choice"),
    ],
)
def test_usage(rig, capsys, options, message):
    with pytest.raises(SystemExit) as caught:
        run(capsys, "ir.png", "vi.png", "-o", "r.json", *options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("r.json").exists()


def test_a_registration_that_is_there_stays_until_a_better_one_is(rig, capsys):
    assert run(capsys, "ir.png", "vi.png", "-o", "r.json", "--points", "points.csv")[0] == 0
    before = files_of(rig)
    assert run(capsys, "ir.png", "vi.png", "-o", "r.json", "--circles", "7x5")[0] == 1
    assert files_of(rig) == before
