"""``irvis calibrate`` as its users call it."""

import json
import threading
import urllib.request

import cv2
import numpy as np
import pytest

from irvis.runtime.cli import main
from irvis.runtime.images import read_image, write_image
from irvis.runtime.registration.homography import Registration, corners_of, project
from irvis.runtime.registration.points import read_points, write_points
from irvis.runtime.samples import make_scene

SIZE, SMALL = (240, 320), (120, 160)
TRUE = np.array([[1.96, -0.05, 9.0], [0.05, 1.96, -6.0], [0, 0, 1]])  # infrared of SMALL to visible of SIZE


@pytest.fixture(scope="module")
def scene():
    return make_scene("street", *SIZE)


@pytest.fixture
def files(scene, tmp_path):
    """An infrared frame as another camera would see it, and the visible one."""
    infrared, visible = scene
    seen = cv2.warpPerspective(infrared, TRUE, SMALL[::-1], flags=cv2.INTER_AREA | cv2.WARP_INVERSE_MAP)
    write_image(tmp_path / "ir.png", seen)
    write_image(tmp_path / "vi.png", visible)
    return tmp_path


def calibrate(capsys, *arguments):
    """Give the exit code, stdout and the lines on stderr."""
    code = main(["calibrate", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err.splitlines()


def points_of(count=8, seed=0, noise_px=0.0):
    rng = np.random.default_rng(seed)
    infrared = rng.uniform((5, 5), (155, 115), (count, 2))
    return np.hstack([infrared, project(TRUE, infrared) + rng.normal(0, noise_px, (count, 2))])


def corner_error_px(path):
    found = Registration.load(path).homography
    corners = corners_of(SMALL)
    return float(np.linalg.norm(project(found, corners) - project(TRUE, corners), axis=1).mean())


def test_given_points(files, capsys):
    points = points_of(noise_px=0.3)
    points[5, 2:] += 30
    write_points(files / "points.csv", points)
    arguments = [files / "ir.png", files / "vi.png", "-o", files / "r.json", "--points", files / "points.csv"]
    code, out, errors = calibrate(capsys, *arguments, "--preview", files / "p.png")
    assert (code, errors) == (0, [])
    assert corner_error_px(files / "r.json") < 1
    registration = Registration.load(files / "r.json")
    assert (registration.infrared_size, registration.visible_size) == (SMALL, SIZE)
    assert (registration.points, registration.of) == (7, 8)
    assert 0 < registration.error_px <= registration.worst_px < 1.5
    assert "points, similarity: 7 of 8 points used" in out
    assert "left out: point 6" in out
    assert "magnified 1.96" in out
    assert read_image(files / "p.png").shape[1] == 1600


def draw_board(polarity):
    """A checkerboard of 9x6 inner corners before a cool scene, in the visible's geometry."""
    board = np.kron(np.indices((7, 10)).sum(0) % 2, np.ones((18, 18))).astype(np.uint8)
    picture = np.full(SIZE, 70, np.uint8)
    picture[50 : 50 + 126, 70 : 70 + 180] = np.where(board, 220, 30)
    picture[44:50, 64:256] = picture[176:182, 64:256] = 220
    picture[44:182, 64:70] = picture[44:182, 250:256] = 220
    return cv2.GaussianBlur(picture if polarity else 255 - picture, (0, 0), 0.8)


def test_a_heated_checkerboard(files, capsys):
    seen = cv2.warpPerspective(draw_board(False), TRUE, SMALL[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    write_image(files / "ir.png", 7000 + 10 * seen.astype(np.uint16))
    write_image(files / "vi.png", cv2.cvtColor(draw_board(True), cv2.COLOR_GRAY2BGR))
    arguments = [files / "ir.png", files / "vi.png", "-o", files / "r.json", "--checkerboard", "9x6"]
    code, out, errors = calibrate(capsys, *arguments)
    assert (code, errors) == (0, [])
    assert corner_error_px(files / "r.json") < 1
    assert "54 of 54 points used" in out
    assert Registration.load(files / "r.json").method == "checkerboard"


def test_without_a_board_it_says_so(files, capsys):
    arguments = [files / "ir.png", files / "vi.png", "-o", files / "r.json", "--checkerboard", "9x6"]
    code, _, errors = calibrate(capsys, *arguments)
    assert code == 1
    assert "no checkerboard of 9x6" in errors[0]
    assert not (files / "r.json").exists()


def test_by_itself_from_the_images(files, capsys):
    code, out, errors = calibrate(capsys, files / "ir.png", files / "vi.png", "-o", files / "r.json")
    assert (code, errors) == (0, []), out
    assert corner_error_px(files / "r.json") < 2
    registration = Registration.load(files / "r.json")
    assert registration.method == "automatic"
    assert 0 < registration.confidence <= 1


def test_what_is_not_trusted_is_not_written_unless_forced(files, capsys):
    rng = np.random.default_rng(0)
    write_image(files / "ir.png", rng.integers(0, 256, SMALL, np.uint8))
    (files / "r.json").write_text("as it was")
    arguments = [files / "ir.png", files / "vi.png", "-o", files / "r.json", "--preview", files / "p.png"]
    code, _, errors = calibrate(capsys, *arguments)
    assert code == 1
    assert "not trusted (confidence 0." in errors[0]
    assert (files / "r.json").read_text() == "as it was"
    assert (files / "p.png").exists()  # to see why
    code, out, _ = calibrate(capsys, *arguments, "--force")
    assert code == 0
    assert "forced" in out
    Registration.load(files / "r.json")


def test_cameras_give_a_frame(tmp_path, capsys):
    scene = "test://street?width=160&height=120&fps=50"
    write_points(tmp_path / "points.csv", np.array([[10, 10, 15, 10], [150, 10, 155, 10], [10, 110, 15, 110.0]]))
    arguments = [f"{scene}&bits=16", scene, "-o", tmp_path / "r.json", "--points", tmp_path / "points.csv"]
    code, out, errors = calibrate(capsys, *arguments)
    assert (code, errors) == (0, [])
    assert "its centre lies 5.0 px right of" in out
    assert Registration.load(tmp_path / "r.json").visible_size == (120, 160)


def test_clicked_points_are_kept_and_shown_again(files, capsys, monkeypatch):
    pytest.importorskip("aiohttp")
    from irvis.runtime.web import click

    points = points_of()
    served = click.click_points

    def click_by_program(*arguments, **options):
        """Let the real page be served, and post to it what a person would have clicked."""
        shown.extend(options["existing"])

        def announce(line):
            url = next(word for word in line.split() if word.startswith("http"))
            threading.Thread(target=save, args=(url,)).start()

        return served(*arguments, **{**options, "port": 0, "announce": announce})

    def save(url):
        rows = [[float(value) for value in row] for row in points]
        request = urllib.request.Request(
            url.rstrip("/") + "/save", json.dumps({"points": rows}).encode(), {"Content-Type": "application/json"}
        )
        request.add_header("Origin", url.rstrip("/"))
        with urllib.request.urlopen(request, timeout=10):
            pass

    shown = []
    monkeypatch.setattr(click, "click_points", click_by_program)
    arguments = [files / "ir.png", files / "vi.png", "-o", files / "r.json", "--click"]
    assert calibrate(capsys, *arguments)[0] == 0
    assert shown == []
    np.testing.assert_allclose(read_points(files / "r.points.csv"), points, atol=1e-3)
    assert corner_error_px(files / "r.json") < 0.1
    assert Registration.load(files / "r.json").method == "clicked"
    assert calibrate(capsys, *arguments)[0] == 0
    np.testing.assert_allclose(shown, points, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png", "vi.png", "-o", "r.json"], "not found: none.png"),
        (["ir.png", "vi.png", "-o", "r.txt"], "a registration is a .json file"),
        (["ir.png", "vi.png", "-o", "r.json", "--preview", "p.txt"], "its suffix must be"),
        (["ir.png", "vi.png", "-o", "r.json", "--points", "none.csv"], "point file not found"),
        (["ir.png", "vi.png", "-o", "r.json", "--points", "far.csv"], "point 2 lies outside the visible frame"),
        (["ir.png", "vi.png", "-o", "r.json", "--click", "x:y"], "an address is"),
        (["ir.png", "test://", "-o", "r.json"], "must both be cameras, or neither"),
        (["vi.png", ".", "-o", "r.json"], "must both be images, or both folders"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(files, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(files)
    write_points("far.csv", np.array([[1, 1, 2, 2], [5, 5, 900, 5], [9, 90, 20, 180.0]]))
    before = sorted(files.iterdir())
    code, _, errors = calibrate(capsys, *arguments)
    assert code == 1
    assert len(errors) == 1
    assert message in errors[0]
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize("options", [["--points", "x", "--auto"], ["--checkerboard", "9"], ["--model", "spline"]])
def test_wrong_usage_exits_with_2(options):
    with pytest.raises(SystemExit, match="2"):
        main(["calibrate", "ir.png", "vi.png", "-o", "r.json", *options])
