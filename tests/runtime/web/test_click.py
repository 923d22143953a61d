import http.client
import json
import queue
import threading

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp")

from irvis.runtime.errors import IrvisError
from irvis.runtime.registration.points import AT_LEAST
from irvis.runtime.web.click import MAXIMUM, _check_pairs, click_points

RNG = np.random.default_rng(0)
INFRARED = RNG.integers(0, 256, (48, 64), dtype=np.uint8)
VISIBLE = RNG.integers(0, 256, (96, 160, 3), dtype=np.uint8)
SIZES = ((48, 64), (96, 160))
PAIRS = [
    [x, y, 2 * x + 3, 2 * y - 1.5] for x, y in [(4.25, 5), (60, 4), (58, 40), (6, 44), (30, 20), (44, 31), (15, 33)]
]


class Clicking:
    """A call of click_points in a thread, and its page's address."""

    def __init__(self, infrared=INFRARED, **options):
        announced, self.result = queue.Queue(), queue.Queue()

        def body():
            try:
                self.result.put(click_points(infrared, VISIBLE, port=0, announce=announced.put, **options))
            except IrvisError as error:
                self.result.put(error)

        self.thread = threading.Thread(target=body)
        self.thread.start()
        self.address = announced.get(timeout=10).rpartition("http://")[2].partition("/")[0]

    def ask(self, path, body=None):
        """Return the status and the body of the answer; a body makes it a POST."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET" if body is None else "POST", path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def end(self):
        self.ask("/cancel", b"{}")
        self.thread.join(10)
        return self.result.get(timeout=10)


@pytest.fixture
def clicking():
    clicking = Clicking()
    yield clicking
    if clicking.thread.is_alive():
        clicking.end()


def points(pairs):
    return json.dumps({"points": pairs}).encode()


def test_what_is_saved_is_given(clicking):
    assert clicking.ask("/save", points(PAIRS)) == (200, b"{}")
    assert clicking.result.get(timeout=10) == [tuple(map(float, pair)) for pair in PAIRS]
    clicking.thread.join(10)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("irvis")]


def test_cancelling_is_an_error_in_a_line(clicking):
    error = clicking.end()
    assert isinstance(error, IrvisError)
    assert str(error) == "calibration cancelled on the page; nothing was written"


def test_the_page_shows_the_images_and_what_was_there_before():
    clicking = Clicking(7000 + INFRARED.astype(np.uint16), existing=[(np.float32(1.5), 2, 3, 4)])
    try:
        visible = cv2.imdecode(np.frombuffer(clicking.ask("/visible.png")[1], np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(visible, VISIBLE)
        infrared = cv2.imdecode(np.frombuffer(clicking.ask("/infrared.png")[1], np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.abs(infrared.astype(int) - INFRARED).max() <= 3  # 16 bits are stretched
        start = json.loads(clicking.ask("/start")[1])
        assert start == {"points": [[1.5, 2, 3, 4]], "sizes": [[64, 48], [160, 96]], "minimum": 2}
        assert b"<title>irvis" in clicking.ask("/")[1]
    finally:
        clicking.end()


def test_the_fit_tells_the_error_of_each_pair(clicking):
    moved = [list(pair) for pair in PAIRS]
    moved[4][2] += 20
    fit = json.loads(clicking.ask("/fit", points(moved))[1])
    assert fit["model"] in AT_LEAST
    assert fit["used"] == [index != 4 for index in range(7)]
    np.testing.assert_allclose(fit["errors_px"], [0, 0, 0, 0, 20, 0, 0], atol=1e-3)
    assert fit["rms_px"] < 1e-3


def test_a_fit_without_an_answer_says_why(clicking):
    line = [[x, x, x, x] for x in range(5, 40, 5)]
    answer = json.loads(clicking.ask("/fit", points(line))[1])
    assert "spread them over the frame" in answer["problem"]
    assert json.loads(clicking.ask("/fit", points(PAIRS[:2]))[1])["rms_px"] is None


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", b"points must be a list"),
        (b"\xff", b"points must be a list"),
        (b"[" * 50_000, b"points must be a list"),
        (b"[]", b"points must be a list"),
        (points("x"), b"points must be a list"),
        (points([[1, 2, 3, 4]] * (MAXIMUM + 1)), b"points must be a list of at most 200 pairs"),
        (points([[1, 2, 3, 4]]), b"at least 2 pairs are needed. Got 1"),
        (points([[1, 2, 3, 4], [1, 2, 3]]), b"pair 2 must be four numbers"),
        (points([[1, 2, 3, 4], [1, "2", 3, 4]]), b"infrared y of pair 2 must lie in its image"),
        (points([[1, 2, 3, 4], [1, 2, float("nan"), 4]]), b"visible x of pair 2 must lie in its image"),
        (points([[63.6, 2, 3, 4]] * 2), b"infrared x of pair 1 must lie in its image (48x64 and 96x160). Got 63.6"),
        (points([[1, 2, 3, 10**400]] * 2), b"visible y of pair 1 must lie in its image"),
        (points([[1, 2, 3, True]] * 2), b"visible y of pair 1 must lie in its image"),
    ],
    ids=range(13),
)
def test_what_is_no_list_of_pairs_is_refused_and_the_page_goes_on(clicking, body, complaint):
    for path in ("/save", "/fit"):
        status, text = clicking.ask(path, body)
        assert status == 400
        assert complaint in text
        assert b"\n" not in text
    assert clicking.thread.is_alive()


def test_the_outer_edges_of_the_outermost_pixels_are_inside():
    assert _check_pairs([[-0.5, -0.5, 159.5, 95.5]], SIZES) == [(-0.5, -0.5, 159.5, 95.5)]


def test_an_existing_pair_outside_is_refused_before_a_page_is_served():
    with pytest.raises(IrvisError, match="visible x of pair 1 must lie in its image"):
        click_points(INFRARED, VISIBLE, port=0, existing=[(1, 2, 160, 4)])


@given(
    st.lists(
        st.lists(st.floats() | st.integers() | st.none() | st.text(max_size=1), min_size=3, max_size=5), max_size=3
    )
)
def test_only_numbers_inside_come_through(pairs):
    try:
        checked = _check_pairs(pairs, SIZES)
    except IrvisError:
        return
    for infrared_x, infrared_y, visible_x, visible_y in checked:
        assert -0.5 <= infrared_x <= 63.5
        assert -0.5 <= infrared_y <= 47.5
        assert -0.5 <= visible_x <= 159.5
        assert -0.5 <= visible_y <= 95.5
