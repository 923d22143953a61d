import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

from irvis.benchmarks.loop_cost import NoNetwork, open_loop
from irvis.runtime import FileError, FrameError, Fuser, ModelError
from irvis.runtime.cameras import PairedSources
from irvis.runtime.frames import to_levels
from irvis.runtime.images import read_image, write_image
from irvis.runtime.loop import FusionLoop
from irvis.runtime.registration.homography import Registration
from irvis.runtime.samples import make_scene

SIZE = (48, 64)
SCENE = "test://street?width=64&height=48"


def loop_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("grab", "prepare", "infer"))]


@pytest.fixture
def folders(tmp_path):
    """Twelve pairs, each with a picture of its own."""
    infrared, visible = make_scene("street", *SIZE)
    for number in range(12):
        write_image(tmp_path / f"ir/{number:02}.png", np.roll(infrared, 3 * number, axis=1))
        write_image(tmp_path / f"vi/{number:02}.png", np.roll(visible, 3 * number, axis=1))
    return str(tmp_path / "ir"), str(tmp_path / "vi")


def test_every_pair_of_two_recordings_is_fused_as_the_fuser_does(folders):
    with FusionLoop(*folders, realtime=False, threads=1) as loop, Fuser(threads=1) as fuser:
        numbers = []
        for frame in loop:
            infrared, visible = (read_image(f"{folder}/{frame.number:02}.png") for folder in folders)
            np.testing.assert_array_equal(frame.infrared, infrared)
            np.testing.assert_array_equal(frame.visible, visible)
            np.testing.assert_array_equal(frame.fused, fuser(infrared, visible))
            numbers.append(frame.number)
        assert numbers == list(range(12))
        assert loop.ended
        status = loop.status()
    assert (status["fused"], status["paired"], status["skipped"]) == (12, 12, 0)
    assert loop_threads() == []


def test_a_frame_stays_while_it_is_held(folders):
    with FusionLoop(*folders, NoNetwork(), realtime=False) as loop:
        frame = loop.read()
        kept = [picture.copy() for picture in (frame.fused, frame.infrared, frame.visible)]
        time.sleep(0.2)  # the others run on
        for picture, copy in zip((frame.fused, frame.infrared, frame.visible), kept):
            np.testing.assert_array_equal(picture, copy)


class Gated(NoNetwork):
    """A network that fuses so many pairs, and the next only once it is opened, or its ``with`` ends."""

    def __init__(self, pairs):
        self.pairs, self.opened = pairs, threading.Event()

    def run(self, infrared, visible):
        self.pairs -= 1
        assert self.pairs >= 0 or self.opened.wait(60)
        return visible

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.opened.set()


def test_a_frame_stays_while_the_next_is_awaited_in_vain():
    network, released = Gated(1), []
    with FusionLoop(SCENE, SCENE, network) as loop, network:
        frame, release = loop.read(), loop._release

        def watched(job):
            released.append(job.work.visible)
            release(job)

        loop._release = watched
        assert loop.read(timeout_s=0.01) is None
        assert not any(picture is frame.visible for picture in released)
        network.opened.set()
        assert loop.read().number == 1
        assert any(picture is frame.visible for picture in released)


def test_while_a_frame_is_given_back_each_stage_has_memory_for_its_next(folders):
    with FusionLoop(*folders, NoNetwork(), realtime=False) as loop:
        release = loop._release

        def slowly(job):
            time.sleep(0.05)  # the next frame has been taken: all stages go on by one pair
            release(job)

        loop._release = slowly
        assert [frame.number for frame in loop] == list(range(12))


def test_what_comes_before_a_failure_is_read_first_whatever_the_timeout(folders, wait_for):
    write_image(f"{folders[1]}/03.png", np.zeros((8, 8), np.uint8))
    network = Gated(1)
    with FusionLoop(*folders, network, realtime=False) as loop, network:
        assert loop.read().number == 0
        wait_for(lambda: not loop._threads[1].is_alive())  # the fourth pair has failed, the second is in the model
        assert loop.read(timeout_s=0.01) is None
        assert not loop.ended
        network.opened.set()
        assert [loop.read(60).number for _ in range(2)] == [1, 2]
        with pytest.raises(FrameError, match="differ in size: 48x64 and 8x8"):
            loop.read(60)


def test_a_second_thread_that_reads_is_refused_and_the_first_gets_its_frame(wait_for):
    network, frames = Gated(0), []
    with FusionLoop(SCENE, SCENE, network) as loop, network:
        first = threading.Thread(target=lambda: frames.append(loop.read()), name="first")
        first.start()
        wait_for(lambda: "_read_by" in vars(loop))
        with pytest.raises(ModelError, match="a FusionLoop serves one thread at a time: first is using it"):
            loop.read(0)
        network.opened.set()
        first.join(60)
        assert frames[0].number == 0
        assert loop.read().number == 1


def test_the_newest_is_fused_and_latency_is_from_the_older_capture():
    with FusionLoop(f"{SCENE}&fps=100", f"{SCENE}&fps=100", NoNetwork(), deadline_ms=5) as loop:
        loop.read()
        time.sleep(0.5)
        late = loop.read()  # it was ready, and newer ones took its place
        assert late.latency_ms < 100
        assert time.monotonic() - late.stamp_s == pytest.approx(late.latency_ms / 1e3, abs=0.02)
        for _ in range(20):
            loop.read()
        status = loop.status()
    assert status["skipped"] > 10
    assert status["fused"] == 22
    assert status["latency_p50_ms"] <= status["latency_p99_ms"] <= status["latency_max_ms"]
    assert status["missed_deadlines"] <= 22


class Slow(NoNetwork):
    """A network that takes 50 ms."""

    def run(self, infrared, visible):
        time.sleep(0.05)
        return visible


def test_a_deadline_that_cannot_be_kept_is_counted():
    with FusionLoop(SCENE, SCENE, Slow(), deadline_ms=20) as loop:
        for _ in range(5):
            assert loop.read().latency_ms > 50
        assert loop.status()["missed_deadlines"] == 5


def test_the_stages_run_beside_each_other():
    """Preparing takes as long as inferring here: one after the other, ten frames would take a second."""
    with FusionLoop(f"{SCENE}&fps=200", f"{SCENE}&fps=200", Slow()) as loop:
        loop.read()
        fuser = loop._fuser
        prepare = fuser.prepare

        def slow_prepare(*arguments):
            time.sleep(0.05)
            prepare(*arguments)

        fuser.prepare = slow_prepare
        loop.read()
        started = time.monotonic()
        for _ in range(10):
            loop.read()
            time.sleep(0.04)  # the caller's own work
        assert time.monotonic() - started < 0.95  # 1.4 s without overlap


def peak_bytes(loop, frames):
    """Return the peak memory that all threads together had allocated while so many frames were fused; close the loop.

    The least of five runs: how many buffers are in use at once depends on thread scheduling, so that one more may be
    allocated once, long after the start.
    """
    peaks = []
    for _ in range(frames):
        loop.read()
    tracemalloc.start()
    try:
        for _ in range(5):
            tracemalloc.clear_traces()
            for _ in range(frames):
                loop.read()
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        loop.close()  # first: to stop tracing while a thread allocates crashes Python up to 3.12.8
        tracemalloc.stop()
    return min(peaks)


@pytest.mark.parametrize(("bits", "registered"), [(8, False), (16, True)])
def test_nothing_of_a_frames_size_is_allocated_once_warm(bits, registered):
    with open_loop((480, 640), bits, registered=registered) as loop:
        assert peak_bytes(loop, 20) < 480 * 640 / 2  # a frame has 480 * 640 bytes at least


class SmallFrames(NoNetwork):
    """A network of half the size that takes frames."""

    size, takes_frames = (240, 320), True


@pytest.mark.parametrize("bits", [8, 16])
def test_nor_where_frames_are_resized_for_the_model(bits):
    scene = "test://street?height=480&width=640"
    with FusionLoop(f"{scene}&bits={bits}", scene, SmallFrames(), realtime=False, resize=True) as loop:
        assert peak_bytes(loop, 20) < 480 * 640 / 2


def test_with_onnx_runtime_nothing_of_a_frames_size_is_allocated_either():
    scene = "test://?width=160&height=128"
    with FusionLoop(scene, scene, realtime=False, threads=1) as loop:
        assert peak_bytes(loop, 4) < 160 * 128 * 4  # the float32 plane that ONNX Runtime would make for each


def test_registered_16_bits(tmp_path):
    infrared, visible = make_scene("street", *SIZE)
    write_image(tmp_path / "ir/a.png", 7000 + 12 * infrared.astype(np.uint16))
    write_image(tmp_path / "vi/a.png", visible)
    shift = Registration(np.array([[1.0, 0, 5], [0, 1, 0], [0, 0, 1]]), SIZE, SIZE, "points")
    Registration.save(shift, tmp_path / "r.json")
    folders = str(tmp_path / "ir"), str(tmp_path / "vi")
    with FusionLoop(*folders, NoNetwork(), realtime=False, registration=tmp_path / "r.json", crop=True) as loop:
        frame = loop.read()
        assert frame.fused.shape == (48, 59, 3)
        assert frame.infrared.dtype == np.uint8
        np.testing.assert_array_equal(frame.visible, visible[:, 5:])
        np.testing.assert_array_equal(frame.fused, visible[:, 5:])
        scaled = np.empty(SIZE, np.float32)
        Fuser(NoNetwork()).scaler(7000 + 12 * infrared.astype(np.uint16), scaled)
        np.testing.assert_array_equal(frame.infrared, to_levels(scaled)[:, :59])


def test_pairs_that_cannot_be_fused_end_the_loop_with_their_error():
    with FusionLoop(SCENE, "test://street?width=80&height=48", NoNetwork()) as loop:
        with pytest.raises(FrameError, match="differ in size: 48x64 and 48x80"):
            loop.read()
        with pytest.raises(FrameError, match="differ in size"):
            loop.read()
    assert loop_threads() == []


class Broken(NoNetwork):
    def run(self, infrared, visible):
        raise ModelError("the GPU fell off the bus")


def test_a_backend_that_fails_ends_the_loop_with_its_error():
    with FusionLoop(SCENE, SCENE, Broken()) as loop, pytest.raises(ModelError, match="fell off the bus"):
        loop.read()
    assert loop_threads() == []


def test_what_failed_is_told_however_late_the_caller_looks():
    with FusionLoop(SCENE, SCENE, Broken()) as loop:
        time.sleep(0.3)  # the next pair finds the Fuser closed
        for _ in range(2):
            with pytest.raises(ModelError, match="fell off the bus"):
                loop.read()


def test_the_backend_runs_in_one_thread_and_is_closed_there():
    threads = []

    class Bound(NoNetwork):
        def run(self, infrared, visible):
            threads.append(threading.current_thread().name)
            return visible

        def close(self):
            threads.append(threading.current_thread().name)

    with FusionLoop(SCENE, SCENE, Bound()) as loop:
        loop.read()
    assert set(threads) == {"infer"}


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((SCENE, SCENE, "none.onnx"), {}, FileError, "model not found"),
        ((SCENE, "nowhere", NoNetwork()), {}, FileError, "not found: nowhere"),
        ((SCENE, SCENE, NoNetwork()), {"slop_s": 0}, FrameError, "slop must be"),
        ((SCENE, SCENE, NoNetwork()), {"delays_s": (0.1,)}, FrameError, r"delays_s must be two times.* Got \(0.1,\)"),
        ((SCENE, SCENE, NoNetwork()), {"delays_s": 0.1}, FrameError, "delays_s must be two times.* Got 0.1"),
        ((SCENE, SCENE, NoNetwork()), {"crop": True}, FrameError, "crop needs a registration"),
        ((SCENE, SCENE, NoNetwork()), {"registration": "none.json"}, FileError, "registration not found"),
    ],
)
def test_what_cannot_be_opened_is_said_and_leaves_no_thread(arguments, options, error, message):
    with pytest.raises(error, match=message):
        FusionLoop(*arguments, **options)
    assert loop_threads() == []


def test_ctrl_c_while_onnx_runtime_opens_the_model_does_not_crash_the_process():
    code = """
import sys, time
from irvis.runtime import FusionLoop, fuser
opens = fuser.open_backend
fuser.open_backend = lambda *arguments: (print("opening", flush=True), opens(*arguments))[1]
try:
    with FusionLoop("test://", "test://"):
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "opening\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


def test_it_has_not_ended_while_a_result_waits_to_be_read(folders):
    with FusionLoop(*folders, NoNetwork(), realtime=False) as loop:
        for _ in range(11):
            loop.read()
        for thread in loop._threads:
            thread.join(5)
        assert not loop.ended
        assert loop.read().number == 11
        assert loop.ended
        assert loop.read() is None


def test_a_result_that_nobody_read_is_gone_once_closed(wait_for):
    loop = FusionLoop(SCENE, SCENE, NoNetwork())
    wait_for(lambda: loop._inferred._item is not None)
    loop.close()
    assert loop.ended
    assert loop.read() is None


def test_a_pair_that_comes_while_it_is_closed_is_no_failure(monkeypatch):
    reads, came, goes_on = PairedSources.read, threading.Event(), threading.Event()

    def read(self):
        pair = reads(self)
        came.set()
        goes_on.wait(60)
        return pair

    monkeypatch.setattr(PairedSources, "read", read)
    loop = FusionLoop(SCENE, SCENE, NoNetwork())
    came.wait(60)
    closing = threading.Thread(target=loop.close)
    closing.start()
    loop._threads[0].join(60)  # the Fuser is closed
    goes_on.set()
    closing.join(60)
    assert loop.read() is None


def test_closing_twice_and_reading_afterwards_is_fine():
    loop = FusionLoop(SCENE, SCENE, NoNetwork())
    loop.read()
    loop.close()
    loop.close()
    assert list(loop) == []
    assert loop.ended


def test_a_time_limit_is_kept_and_the_loop_goes_on():
    slow = f"{SCENE}&fps=4"
    with FusionLoop(slow, slow, NoNetwork()) as loop:
        loop.read()
        assert loop.read(timeout_s=0.02) is None
        assert not loop.ended
        assert loop.read(timeout_s=2) is not None


@pytest.mark.parametrize(("delays_s", "skew_ms"), [((0.1, 0.0), -100), ((0.0, 0.1), 100)])
def test_latency_is_from_the_older_capture_whichever_it_is(delays_s, skew_ms):
    slow = f"{SCENE}&fps=4"
    with FusionLoop(slow, slow, NoNetwork(), slop_s=0.12, delays_s=delays_s) as loop:
        loop.read()
        frame = loop.read()
        since_visible_ms = (time.monotonic() - frame.stamp_s) * 1e3
        assert loop.status()["skew_ms"] == frame.skew_ms == pytest.approx(skew_ms, abs=1)
    assert frame.latency_ms == pytest.approx(since_visible_ms + max(0, -skew_ms), abs=90)  # a busy machine's share


def test_of_a_recording_that_is_not_played_at_its_pace_latency_is_from_the_reading(folders):
    with FusionLoop(*folders, NoNetwork(), realtime=False) as loop:
        time.sleep(0.2)  # the stamps are of a clock of their own, from 0
        assert 0 < loop.read().latency_ms < 10_000
        assert all(0 <= frame.latency_ms < 10_000 for frame in loop)


def test_status_tells_the_rate_at_which_frames_come():
    scene = f"{SCENE}&fps=10"
    with FusionLoop(scene, scene, NoNetwork()) as loop:
        assert loop.fps == 10
        assert loop.status()["fps"] == 0
        for _ in range(6):
            loop.read()
        assert 1 < loop.status()["fps"] < 50


@pytest.mark.parametrize(("infrared_fps", "visible_fps"), [(9, 30), (30, 9)])
def test_its_rate_is_that_of_the_slower_source(infrared_fps, visible_fps):
    with FusionLoop(f"{SCENE}&fps={infrared_fps}", f"{SCENE}&fps={visible_fps}", NoNetwork()) as loop:
        assert loop.fps == 9


def test_the_time_of_each_stage_is_told_and_their_sum():
    with FusionLoop(f"{SCENE}&bits=16", SCENE, Slow()) as loop:
        times = loop.read().times
    assert min(times.pre_ms, times.post_ms) > 0.01  # what no machine does a frame in
    assert times.total_ms >= times.pre_ms + 50 + times.post_ms


def test_every_pair_is_fused_or_skipped_or_on_its_way():
    scene = f"{SCENE}&fps=100"
    with FusionLoop(scene, scene, Slow()) as loop:
        for _ in range(8):
            loop.read()
        status = loop.status()
    assert status["skipped"] > 0
    assert status["paired"] - status["fused"] - status["skipped"] <= 6  # before, in and behind each of the stages
    assert status["deadline_ms"] == 33  # by default, what a camera of 30 Hz leaves


def test_in_a_fork_it_says_that_its_threads_are_not_there(in_a_fork):
    with FusionLoop(SCENE, SCENE, NoNetwork()) as loop:
        loop.read()
        assert "was forked since, and its threads do not survive a fork" in in_a_fork(lambda: loop.read(timeout_s=5))
        assert loop.read() is not None


def test_in_a_fork_paired_sources_say_that_their_threads_are_not_there(in_a_fork):
    with PairedSources(f"{SCENE}&fps=2", f"{SCENE}&fps=2") as sources:
        sources.read().release()
        assert "its thread does not survive a fork" in in_a_fork(lambda: sources.read(timeout_s=5))
