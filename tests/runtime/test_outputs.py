import io
import os

import cv2
import numpy as np
import pytest
from tqdm import tqdm

from irvis.runtime.errors import IrvisError
from irvis.runtime.loop import FusedFrame
from irvis.runtime.outputs import LONGEST_GAP_S, Bar, Journal, Recording, Web, Window
from irvis.runtime.work import StageTimes


def frame(stamp_s, number=0, level=0):
    picture = np.full((4, 6), level, np.uint8)
    return FusedFrame(picture, picture, picture, number, stamp_s, 1.5, 20.0, StageTimes(1, None, 2, None, 1, 4))


@pytest.mark.parametrize(
    ("stamps", "counts"),
    [
        ([100 + k / 10 for k in range(6)], [1] * 6),  # as fast as the video
        ([100 + k / 5 for k in range(6)], [1, 2, 2, 2, 2, 2]),  # half as fast: each stands for two
        ([100 + k / 25 for k in range(7)], [1, 0, 1, 0, 1, 0, 0]),  # faster: some are left out
        ([100, 100.1, 160, 160.1], [1, 1, round(LONGEST_GAP_S * 10), 1]),  # a camera that was away
    ],
)
def test_a_recording_plays_as_fast_as_the_scene_went(stamps, counts):
    written = []
    recording = Recording(lambda picture: written.append(int(picture[0, 0])), 10.0, every=False)
    for number, stamp_s in enumerate(stamps):
        assert recording.show(frame(stamp_s, number, number), dict)
    assert [written.count(number) for number in range(len(stamps))] == counts


def test_a_recording_of_a_frame_in_five_seconds_has_them_all():
    written = []
    recording = Recording(lambda picture: written.append(int(picture[0, 0])), 0.2, every=False)
    for number in range(4):
        recording.show(frame(100 + 5 * number, number, number), dict)
    assert written == [0, 1, 2, 3]


def test_with_every_frame_each_is_written_once():
    written = []
    recording = Recording(written.append, 10.0, every=True)
    for stamp_s in (1.0, 1.01, 9.0):
        recording.show(frame(stamp_s), dict)
    assert len(written) == 3


class View:
    """Notes what the live view would be given."""

    def __init__(self, viewers):
        self.viewers, self.given = viewers, []

    def publish(self, *pictures):
        self.given.append(pictures)

    def publish_latency(self, latency_ms):
        self.given.append(latency_ms)

    def publish_status(self, status):
        self.given.append(status)


def test_the_live_view_gets_latencies_always_and_the_rest_only_while_someone_watches():
    view = View(viewers=0)

    def status():
        raise AssertionError("nobody asked for it")

    assert Web(view).show(frame(1.0), status)
    assert Web(view).idle(status)
    assert view.given == [20.0]
    view.viewers = 1
    Web(view).show(frame(7.0, 3), lambda: {"fps": 30.0, "skew_ms": 1.5})
    Web(view).idle(lambda: {"fps": 0.0})
    assert view.given[1][3] == {"fps": 30.0, "index": 3, "stamp_s": 7.0, "latency_ms": 20.0, "skew_ms": 1.5}
    assert view.given[2] == {"fps": 0.0}


STATUS = {
    "realtime": True,
    "latency_p99_ms": 20.04,
    "missed_deadlines": 2,
    "infrared": {"state": "streaming"},
    "visible": {"state": "reconnecting"},
}


def test_a_terminal_shows_the_frames_and_the_worst_latencies_so_far(monkeypatch):
    monkeypatch.setattr("irvis.runtime.outputs.BAR_S", 0.0)
    terminal = io.StringIO()
    with tqdm(total=5, desc="fusing", unit="frame", file=terminal) as counted:
        bar = Bar(counted)
        assert bar.show(frame(1.0), STATUS.copy)
        assert bar.idle(STATUS.copy)
    assert "1/5" in terminal.getvalue()
    assert "missed=2, p99=20.0 ms" in terminal.getvalue()


def test_a_journal_has_a_line_a_minute_of_that_minute(monkeypatch, capfd):
    now_s = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    journal = Journal(deadline_ms=15.0)
    for second in range(1, 181):
        now_s = 1000.0 + second
        if second <= 60:
            assert journal.show(frame(now_s), STATUS.copy)
        assert journal.idle(STATUS.copy)
    cameras = "infrared streaming; visible reconnecting"
    silent = f"fused 0 pairs in 60.0 s, 0.00 a second; {cameras}"
    assert capfd.readouterr().err.splitlines() == [
        "fused 60 pairs in 60.0 s, 1.00 a second; "
        "latency p50 20.0 p90 20.0 p99 20.0 max 20.0 ms, from the older capture to the frame; "
        f"deadline of 15 ms missed by 60 (100.0 %); {cameras}",
        silent,
        silent,
    ]


def test_a_journal_that_takes_no_line_does_not_end_the_run(monkeypatch):
    monkeypatch.setattr("irvis.runtime.outputs.JOURNAL_S", 0.0)
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", encoding="utf-8")
    monkeypatch.setattr("sys.stderr", full)
    assert Journal(33.0).show(frame(1.0), STATUS.copy)
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_a_journal_that_nobody_reads_does_not_hold_up_the_run(monkeypatch):
    monkeypatch.setattr("irvis.runtime.outputs.JOURNAL_S", 0.0)
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w", encoding="utf-8") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        journal = Journal(33.0)
        for _ in range(2000):
            assert journal.show(frame(1.0), STATUS.copy)


@pytest.mark.parametrize(
    ("pressed", "is_visible", "goes_on"),
    [
        (-1, 1.0, True),
        (ord("x"), 1.0, True),
        (ord("q"), 1.0, False),
        (27, 1.0, False),
        (0x100000 + ord("q"), 1.0, False),  # as GTK tells it while Num Lock is on
        (-1, 0.0, False),
        (-1, -1.0, False),
    ],
)
def test_q_escape_and_closing_the_window_end_the_run(monkeypatch, pressed, is_visible, goes_on):
    """By what OpenCV's windows return, which the one without windows has not."""
    shown = []
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, picture: shown.append(picture))
    monkeypatch.setattr(cv2, "waitKey", lambda _: pressed)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: is_visible)
    fused = frame(1.0)
    assert Window().show(fused, dict) == Window().idle(dict) == goes_on
    assert shown[0] is fused.fused


@pytest.mark.skipif("GUI:                           NONE" not in cv2.getBuildInformation(), reason="OpenCV has windows")
def test_without_windows_it_says_what_to_take():
    with pytest.raises(IrvisError, match="--web"):
        Window()
