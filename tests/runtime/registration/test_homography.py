"""The registration's file: what is saved is loaded, and what is broken is one clear line."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.registration.homography import Registration, corners_of, project

MATRIX = np.array([[1.5, 0.03, -12.0], [-0.02, 1.48, 7.5], [1e-5, -2e-5, 1.0]])
REGISTRATION = Registration(MATRIX, (256, 320), (480, 640), "points", 0.75, 1.9, 9, 10, None)


@pytest.fixture
def path(tmp_path):
    REGISTRATION.save(tmp_path / "registration.json")
    return tmp_path / "registration.json"


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(path):
    with pytest.raises(FileError) as caught:
        Registration.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_what_is_saved_is_loaded_to_the_bit(path):
    loaded = Registration.load(path)
    np.testing.assert_array_equal(loaded.homography, MATRIX)
    assert loaded.homography.dtype == np.float64
    names = ("infrared_size", "visible_size", "method", "error_px", "worst_px", "points", "of", "confidence")
    assert [getattr(loaded, name) for name in names] == [getattr(REGISTRATION, name) for name in names]


@pytest.mark.parametrize("confidence", [0, 0.25, 1])
def test_any_confidence_from_0_to_1_is_kept(tmp_path, confidence):
    Registration(MATRIX, (256, 320), (480, 640), "automatic", confidence=confidence).save(tmp_path / "r.json")
    assert Registration.load(tmp_path / "r.json").confidence == confidence


def test_numbers_of_numpy_are_saved_as_others_are(tmp_path):
    Registration(
        MATRIX, (256, np.int64(320)), (480, 640), "points", np.float32(0.75), np.float64(1.9), np.int64(9), np.uint8(10)
    ).save(tmp_path / "r.json")
    found = Registration.load(tmp_path / "r.json")
    assert (found.infrared_size, found.error_px, found.worst_px) == ((256, 320), 0.75, 1.9)
    assert (found.points, found.of) == (9, 10)


def test_the_file_is_plain_to_read(path):
    record = json.loads(path.read_text())
    assert record["schema_version"] == 1
    assert record["infrared_size"] == {"height": 256, "width": 320}
    assert record["homography"] == MATRIX.tolist()


def test_a_field_of_a_later_version_is_passed_over(path):
    edit(path, note="front mast")
    assert Registration.load(path).points == 9


@given(st.floats(0.01, 100).map(lambda scale: -scale))
def test_the_scale_of_the_homography_does_not_matter(scale):
    registration = Registration(MATRIX * scale, (256, 320), (480, 640), "points")
    np.testing.assert_allclose(registration.homography, MATRIX, rtol=1e-12)


def test_a_frame_reaches_half_a_pixel_beyond_the_centres_of_its_outermost_pixels():
    corners = [[-0.5, -0.5], [63.5, -0.5], [63.5, 47.5], [-0.5, 47.5]]
    np.testing.assert_array_equal(corners_of((48, 64)), corners)


def test_project_divides_by_the_third_coordinate():
    x, y, w = MATRIX @ (100.0, 50.0, 1.0)
    np.testing.assert_allclose(project(MATRIX, np.array([[100, 50]])), [[x / w, y / w]])


def test_it_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        REGISTRATION.homography[0, 0] = 2


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


BAD_FIELDS = {
    "no version": ({"schema_version": None}, "no schema_version"),
    "version of truth": ({"schema_version": True}, "no schema_version"),
    "version before the first": ({"schema_version": 0}, "no schema_version"),
    "later version": ({"schema_version": 2}, "schema 2, this irvis knows 1"),
    "no matrix": ({"homography": None}, "three rows of three"),
    "rows that are none": ({"homography": [1, 2, 3]}, "three rows of three"),
    "two rows": ({"homography": MATRIX[:2].tolist()}, "three rows of three"),
    "text in the matrix": ({"homography": [["1", 0, 0], [0, 1, 0], [0, 0, 1]]}, "three rows of three"),
    "not a number": ({"homography": [[float("nan"), 0, 0], [0, 1, 0], [0, 0, 1]]}, "three rows of three"),
    "infinite": ({"homography": [[1, 0, float("inf")], [0, 1, 0], [0, 0, 1]]}, "three rows of three"),
    "too large for a float": ({"homography": [[1, 0, 10**400], [0, 1, 0], [0, 0, 1]]}, "three rows of three"),
    "singular": ({"homography": [[1, 1, 0], [1, 1, 0], [0, 0, 1]]}, "no inverse"),
    "all zero": ({"homography": [[0, 0, 0]] * 3}, "folds"),
    "mirrored": ({"homography": [[-1, 0, 320], [0, 1, 0], [0, 0, 1]]}, "mirrors"),
    "folded": ({"homography": [[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]]}, "folds"),
    "absurdly small": ({"homography": [[1e-3, 0, 0], [0, 1e-3, 0], [0, 0, 1]]}, "visible pixels. Got 1e-06 to 1e-06"),
    "absurdly large": ({"homography": [[200, 0, 0], [0, 200, 0], [0, 0, 1]]}, "visible pixels. Got 4e+04 to 4e+04"),
    "large beside the horizon": ({"homography": [[1, 0, 0], [0, 1, 0], [-3.07e-3, 0, 1]]}, "Got 0.995 to 1.43e+05"),
    "small on one side": ({"homography": [[1, 0, 0], [0, 1, 0], [0.1, 0, 1]]}, "Got 2.8e-05 to 1.17"),
    "size as a list": ({"infrared_size": [256, 320]}, '{"height": 480, "width": 640}'),
    "size of fractions": ({"infrared_size": {"height": 256.5, "width": 320}}, "(height, width), 16 to 16384"),
    "size of truth": ({"visible_size": {"height": True, "width": 640}}, "(height, width), 16 to 16384"),
    "huge size": ({"visible_size": {"height": 480, "width": 10**9}}, "(height, width), 16 to 16384"),
    "tiny size": ({"infrared_size": {"height": 15, "width": 320}}, "(height, width), 16 to 16384"),
    "two large sides": ({"visible_size": {"height": 16384, "width": 16384}}, "67108864 together"),
    "lists within lists": ({"method": nested(90)}, "method must be a name. Got [[[[[["),
    "no name": ({"method": ""}, "method must be a name"),
    "a name without end": ({"method": "x" * 41}, "method must be a name"),
    "negative error": ({"error_px": -1}, "error_px must be null or a number"),
    "negative worst": ({"worst_px": -1}, "worst_px must be null or a number"),
    "negative count": ({"points": -1}, "points must be a count"),
    "more used than given": ({"points": 11}, "11 of 10"),
    "sure beyond doubt": ({"confidence": 1.2}, "in [0, 1]"),
    "less than unsure": ({"confidence": -0.1}, "in [0, 1]"),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_a_bad_field_is_one_line(path, name):
    changes, message = BAD_FIELDS[name]
    edit(path, **changes)
    assert message in refusal(path)


BAD_FILES = {
    "empty": (b"", "not JSON"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "not JSON"),
    "a list": (b"[1, 2]", "JSON object. Got a list"),
    "nested without end": (b"[" * 60000, "not JSON"),
    "a large file": (b" " * 100_000, "at most 65536 are accepted"),
    "another JSON": (b"{}", "no schema_version"),
    "lacking": (b'{"schema_version": 1}', "lacks homography"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line(path, name):
    content, message = BAD_FILES[name]
    path.write_bytes(content)
    assert message in refusal(path)


def test_a_missing_file_names_the_command(tmp_path):
    assert "irvis calibrate" in refusal(tmp_path / "none.json")
    assert "cannot read" in refusal(tmp_path)


def test_what_cannot_be_is_refused_before_it_is_written():
    with pytest.raises(IrvisError, match="mirrors"):
        Registration(np.diag([-1.0, 1.0, 1.0]), (48, 64), (48, 64), "points")
