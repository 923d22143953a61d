import re
import threading
import time
from collections import deque

import numpy as np
import pytest

from irvis.runtime.cameras import PairedSources, recording, source
from irvis.runtime.cameras.reader import Reading
from irvis.runtime.cameras.scene import SceneReader
from irvis.runtime.cameras.source import Source
from irvis.runtime.errors import FileError
from irvis.runtime.images import read_infrared, read_visible, write_image

SCENE = "test://street?width=32&height=24"


def write_folder(folder, names, first=0):
    for level, name in enumerate(names, first):
        write_image(folder / f"{name}.png", np.full((24, 32), level, np.uint8))
    return str(folder)


def test_two_cameras_of_different_rates_give_pairs_within_the_slop():
    with PairedSources(f"{SCENE}&fps=45", f"{SCENE}&fps=150", slop_s=0.005) as pairs:
        for taken, (infrared, visible) in enumerate(pairs, 1):
            assert abs(infrared.stamp_s - visible.stamp_s) <= 0.005
            assert (infrared.image.shape, visible.image.shape) == ((24, 32), (24, 32, 3))
            if taken == 20:
                break
        status = pairs.status()
    assert status["paired"] >= 20
    assert status["dropped_visible"] > status["dropped_infrared"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("grab")]


@pytest.mark.parametrize("options", [("", ""), ("?fps=30", ""), ("", "?fps=30.0"), ("?fps=5", "?fps=5.00")])
def test_folders_are_matched_by_name_and_every_pair_is_given(tmp_path, options):
    infrared = write_folder(tmp_path / "ir", ["a", "b", "d", "e"])
    visible = write_folder(tmp_path / "vi", ["0", "a", "b", "c", "e"], 10)
    uris = (f"folder://{folder}{option}" for folder, option in zip((infrared, visible), options))
    with PairedSources(*uris, realtime=False) as pairs:
        levels = [(int(pair.infrared.image[0, 0]), int(pair.visible.image[0, 0])) for pair in pairs]
        assert levels == [(0, 11), (1, 12), (3, 14)]
        assert pairs.ended
        assert pairs.read() is None


def test_a_longer_recording_than_the_queue_loses_no_pair(tmp_path):
    names = [f"{k:03}" for k in range(60)]
    infrared, visible = write_folder(tmp_path / "ir", names), write_folder(tmp_path / "vi", names)
    with PairedSources(infrared, visible, realtime=False) as pairs:
        levels = [(int(pair.infrared.image[0, 0]), int(pair.visible.image[0, 0])) for pair in pairs]
    assert levels == [(k, k) for k in range(60)]


@pytest.mark.parametrize(("count", "level", "warnings"), [(90, 0, 0), (93, 90, 1)])
def test_two_loops_of_unlike_length_are_told_since_no_skew_shows_it(tmp_path, caplog, count, level, warnings):
    infrared = "folder://{}?fps=9&loop=1".format(write_folder(tmp_path / "ir", [f"{k:02}" for k in range(27)]))
    visible = "folder://{}?fps=30&loop=1".format(write_folder(tmp_path / "vi", [f"{k:02}" for k in range(count)]))
    with PairedSources(infrared, visible, realtime=False) as pairs:
        levels = [(int(pair.infrared.image[0, 0]), int(pair.visible.image[0, 0])) for pair, _ in zip(pairs, range(28))]
    assert levels[27] == (0, level)  # the infrared's second round; the visible's too, if it is as long
    assert sum("lasts 3.00 s and" in message for message in caplog.messages) == warnings


def test_folders_of_two_rates_go_by_time_and_end_with_the_shorter(tmp_path):
    infrared = write_folder(tmp_path / "ir", [f"{k:02}" for k in range(9)])
    visible = write_folder(tmp_path / "vi", [f"{k:02}" for k in range(60)])
    uris = f"folder://{infrared}?fps=10", f"folder://{visible}?fps=30"
    with PairedSources(*uris, realtime=False) as pairs:
        levels = [(int(pair.infrared.image[0, 0]), int(pair.visible.image[0, 0])) for pair in pairs]
        assert pairs.status()["dropped_visible"] > 0
    assert levels == [(k, 3 * k) for k in range(9)]


def test_folders_without_a_common_name_are_refused(tmp_path):
    infrared, visible = write_folder(tmp_path / "ir", ["lake"]), write_folder(tmp_path / "vi", ["hill"])
    with pytest.raises(FileError, match="no file of"):
        PairedSources(infrared, visible)


class Switch:
    """A camera of 50 frames a second that falls silent when told so."""

    live, fps, silent = True, 50.0, False

    def __init__(self):
        self.closed = False

    def read(self, buffers):
        time.sleep(0.02)
        while self.silent and not self.closed:
            time.sleep(0.005)
        return None if self.closed else Reading(buffers("image", (24, 32)), time.monotonic())

    def close(self):
        self.closed = True


class Hung(Switch):
    """A camera whose driver does not return until the test ends."""

    def __init__(self, unplugged):
        super().__init__()
        self.unplugged, self.reading = unplugged, threading.Event()

    def read(self, buffers):
        self.reading.set()
        self.unplugged.wait(60)


def test_two_cameras_that_hang_cost_the_time_of_one(monkeypatch):
    monkeypatch.setattr(source, "JOIN_S", 3.0)
    unplugged = threading.Event()
    cameras = {role: Hung(unplugged) for role in ("infrared", "visible")}
    opens = Source.__init__

    def init(self, uri, role, **options):
        opens(self, uri, role, **{**options, "open_again": lambda: cameras[role]})

    monkeypatch.setattr(Source, "__init__", init)
    pairs = PairedSources(SCENE, SCENE)
    try:
        assert all(camera.reading.wait(60) for camera in cameras.values())
        started = time.monotonic()
        pairs.close()
        assert 3 <= time.monotonic() - started < 5.5
    finally:
        unplugged.set()
        pairs.close()


def test_a_camera_that_stalls_is_reported_within_a_second_and_never_blocks_the_other(monkeypatch, caplog):
    cameras = {"infrared": Switch(), "visible": Switch()}
    opens = Source.__init__

    def init(self, uri, role, **options):
        opens(self, uri, role, **{**options, "open_again": lambda: cameras[role]})

    monkeypatch.setattr(Source, "__init__", init)
    with PairedSources(SCENE, SCENE, slop_s=0.02) as pairs:
        pairs.read().release()
        cameras["infrared"].silent = True
        stalled = time.monotonic()
        while pairs.status()["infrared"]["state"] != "stalled":
            pair = pairs.read(timeout_s=0.05)
            if pair:
                pair.release()
            assert time.monotonic() - stalled < 1
        assert any("infrared" in message and "no frame for" in message for message in caplog.messages)
        before = pairs.status()["visible"]["frames"]
        time.sleep(0.5)
        after = pairs.status()
        assert after["visible"]["frames"] - before > 10
        assert after["visible"]["state"] == "streaming"
        assert after["dropped_visible"] > 5
        cameras["infrared"].silent = False
        assert abs(pairs.read(timeout_s=2).skew_ms) <= 20
        assert pairs.status()["infrared"]["state"] == "streaming"


@pytest.mark.parametrize("realtime", [False, True])
def test_cameras_that_never_pair_are_told_once(caplog, realtime):
    uri = f"{SCENE}&fps=10"
    with PairedSources(uri, uri, realtime=realtime, delays_s=(0, 0.05)) as pairs:
        limit = time.monotonic() + 20
        while not caplog.messages and time.monotonic() < limit:
            assert pairs.read(timeout_s=0.05) is None
        pairs.read(timeout_s=0.3)
        assert pairs.status()["paired"] == 0
    (message,) = caplog.messages
    assert re.match(
        r"no pair for 1\.\d s although both cameras send: their frames are at least 50\.0 ms apart and the slop is 20 "
        r"ms; raise the slop \(--slop-ms\) or set the delays \(--infrared-delay-ms, --visible-delay-ms\)",
        message,
    )


def test_cameras_that_pair_are_not_told_of(caplog):
    with PairedSources(SCENE, f"{SCENE}&fps=9", realtime=False) as pairs:
        for _ in range(40):
            pairs.read().release()
    assert caplog.messages == []


def test_recordings_that_cannot_be_decoded_in_time_keep_their_pairs_and_their_pace(tmp_path, monkeypatch):
    """Each takes its own time to decode, 8 to 10 intervals; images of two scenes must not come together."""
    for role, read, slow_s in (("infrared", read_infrared, 0.08), ("visible", read_visible, 0.1)):

        def slowly(path, read=read, slow_s=slow_s):
            time.sleep(slow_s)
            return read(path)

        monkeypatch.setattr(recording, f"read_{role}", slowly)
    names = [f"{k:03}" for k in range(250)]
    uris = [f"folder://{write_folder(tmp_path / half, names)}?fps=100" for half in ("ir", "vi")]
    ages_s = []
    with PairedSources(*uris) as pairs:
        for infrared, visible in pairs:
            assert (infrared.image == visible.image).all()
            ages_s.append(time.monotonic() - infrared.stamp_s)
        status = pairs.status()
    assert len(ages_s) >= 5
    assert min(ages_s[-3:]) < 1.5  # 25 s if each were decoded
    for role in ("infrared", "visible"):
        assert status[role]["dropped"] == status[f"dropped_{role}"] > 100
        assert status[role]["fps"] < 30


def test_what_ends_a_source_is_raised_to_whoever_reads_pairs(monkeypatch):
    def fail(self, buffers):
        raise RuntimeError("the driver has gone")

    monkeypatch.setattr(SceneReader, "read", fail)
    with PairedSources(SCENE, SCENE) as pairs, pytest.raises(RuntimeError, match="the driver has gone"):
        pairs.read(timeout_s=5)


def test_a_slow_taker_gets_the_newest_pair():
    with PairedSources(f"{SCENE}&fps=100", f"{SCENE}&fps=100") as pairs:
        pairs.read().release()
        time.sleep(0.3)
        pair = pairs.read()
        assert time.monotonic() - pair.visible.stamp_s < 0.1
        status = pairs.status()
        assert status["skipped"] > 10
        assert status["paired"] == status["skipped"] + 2


def test_a_wait_is_no_longer_than_was_asked(monkeypatch):
    slow = f"{SCENE}&fps=1"
    waits = []
    with PairedSources(slow, slow) as pairs:
        pairs.read().release()
        wait = pairs._changed.wait
        monkeypatch.setattr(pairs._changed, "wait", lambda timeout=None: waits.append(timeout) or wait(timeout))
        assert pairs.read(timeout_s=0.01) is None
    assert waits
    assert max(waits) <= 0.01


def test_a_pair_between_the_matcher_and_its_taker_is_no_end(tmp_path):
    folder = write_folder(tmp_path / "ir", ["a"])
    with PairedSources(folder, folder, realtime=False) as pairs:
        while not all(source.ended for source in pairs.sources.values()):
            time.sleep(0.005)
        seen = []
        with pairs._changed:  # as while a pair is passed on
            ready, pairs._ready = pairs._ready, deque()
            asking = threading.Thread(target=lambda: seen.append(pairs.ended))
            asking.start()
            asking.join(0.1)
            pairs._ready = ready
        asking.join()
        assert seen == [False]
        pairs.read().release()
        assert pairs.read() is None
        assert pairs.ended


def test_where_one_cannot_be_opened_the_other_is_closed_again():
    before = threading.active_count()
    with pytest.raises(FileError, match="not found"):
        PairedSources(SCENE, "nowhere.mp4")
    assert threading.active_count() == before


def test_closing_twice_and_iterating_afterwards_is_fine():
    pairs = PairedSources(SCENE, SCENE)
    pairs.close()
    pairs.close()
    assert list(pairs) == []
