import asyncio
import json
import re
import threading
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

aiohttp = pytest.importorskip("aiohttp")

from irvis.runtime.errors import FrameError
from irvis.runtime.panels import side_by_side
from irvis.runtime.samples import make_scene
from irvis.runtime.web.live_view import HISTORY, IN_FLIGHT, MAX_VIEWERS, LiveView, _plain
from irvis.runtime.web.server import FOLDER

INFRARED, VISIBLE = make_scene("street", 96, 128)
FUSED = cv2.add(VISIBLE, cv2.cvtColor(INFRARED // 2, cv2.COLOR_GRAY2BGR))


@pytest.fixture
def view():
    with LiveView(0, max_fps=1000) as view:
        yield view


def watching(view, work, viewers=1):
    """Return what ``work(*sockets)`` gives, with so many viewers' WebSockets open."""

    async def body():
        async with aiohttp.ClientSession() as session:
            sockets = [await session.ws_connect(view.url + "watch") for _ in range(viewers)]
            while view.viewers < viewers:
                await asyncio.sleep(0.001)
            return await asyncio.wait_for(work(*sockets), 20)

    return asyncio.run(body())


async def receive(socket, kind):
    """Return the next picture (header, three frames as decoded) or report that a viewer is sent."""
    while True:
        message = await socket.receive()
        if message.type == kind == aiohttp.WSMsgType.TEXT:
            return json.loads(message.data)
        if message.type == kind == aiohttp.WSMsgType.BINARY:
            return unpack(message.data)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message


def unpack(message):
    length = int.from_bytes(message[:4], "little")
    header, jpegs = json.loads(message[4 : 4 + length]), message[4 + length :]
    assert len(jpegs) == sum(header["sizes"])
    ends = np.cumsum(header["sizes"])
    data = [np.frombuffer(jpegs[end - size : end], np.uint8) for end, size in zip(ends, header["sizes"])]
    return header, [cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED) for jpeg in data]


def picture(socket):
    return receive(socket, aiohttp.WSMsgType.BINARY)


def report(socket):
    return receive(socket, aiohttp.WSMsgType.TEXT)


async def publish(view, index, frames=(INFRARED, VISIBLE, FUSED)):
    """Publish until the frame is taken to be encoded."""
    before = view.encoded
    while view.encoded == before:
        view.publish(*frames, {"index": index})
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "frames", [(INFRARED, VISIBLE, FUSED), (INFRARED, INFRARED, FUSED[:, :, 0]), (INFRARED, VISIBLE[::-1], FUSED)]
)
def test_pictures_arrive_as_they_were_published(view, frames):
    async def work(socket):
        await publish(view, 7, frames)
        return await picture(socket)

    header, shown = watching(view, work)
    assert header["index"] == 7
    for frame, decoded in zip(frames, shown):
        assert decoded.shape == frame.shape
        assert np.abs(decoded.astype(int) - frame).mean() < 5  # of 255, in a noisy picture


def test_sixteen_bits_of_infrared_are_stretched_to_be_seen(view):
    async def work(socket):
        await publish(view, 0, (7000 + 3 * INFRARED.astype(np.uint16), VISIBLE, FUSED))
        return await picture(socket)

    low, high = np.percentile(INFRARED, (0.5, 99.5))
    wanted = np.clip((INFRARED - low) / (high - low) * 255, 0, 255)
    assert np.abs(watching(view, work)[1][0] - wanted).mean() < 4


def test_the_frames_are_the_callers_again_when_publish_returns(view):
    async def work(socket):
        frames = [frame.copy() for frame in (INFRARED, VISIBLE, FUSED)]
        await publish(view, 0, frames)
        for frame in frames:
            frame[:] = 0
        return await picture(socket)

    assert np.abs(watching(view, work)[1][0].astype(int) - INFRARED).mean() < 4


def test_another_size_comes_through(view):
    async def work(socket):
        await publish(view, 0)
        await picture(socket)
        await publish(view, 1, [np.zeros((32, 48), np.uint8)] * 3)
        return await picture(socket)

    assert [frame.shape for frame in watching(view, work)[1]] == [(32, 48)] * 3


@pytest.mark.parametrize(
    "frames",
    [
        (INFRARED[:50], VISIBLE, FUSED),
        (INFRARED, VISIBLE, FUSED[:50]),
        (INFRARED, VISIBLE, FUSED[:, :, :2]),
        (INFRARED, VISIBLE, FUSED.astype(np.float32)),
    ],
)
def test_what_cannot_be_shown_is_refused_and_the_view_goes_on(view, frames):
    async def work(socket):
        with pytest.raises(FrameError):
            view.publish(*frames, {})
        await publish(view, 5)
        return await picture(socket)

    assert watching(view, work)[0]["index"] == 5


def test_nothing_is_encoded_while_nobody_watches(view):
    for index in range(100):
        view.publish(INFRARED, VISIBLE, FUSED, {"index": index})
    assert (view.viewers, view.encoded) == (0, 0)


def test_who_draws_nothing_gets_no_more_and_then_the_newest(view):
    async def work(socket):
        for index in range(IN_FLIGHT):
            await publish(view, index)
            assert (await picture(socket))[0]["index"] == index
        for index in range(100, 200):
            view.publish(INFRARED, VISIBLE, FUSED, {"index": index})
            await asyncio.sleep(0.001)
        assert view.encoded <= IN_FLIGHT + 1  # at most what was on its way
        await socket.send_str("drawn")
        await publish(view, 200)
        return (await picture(socket))[0]["index"]

    assert watching(view, work) == 200


def test_a_viewer_that_never_answers_holds_up_nobody(view):
    async def work(stuck, quick):
        seen = []
        for index in range(40):
            await publish(view, index)
            seen.append((await picture(quick))[0]["index"])
            await quick.send_str("drawn")
        for index in range(IN_FLIGHT):
            assert (await picture(stuck))[0]["index"] == index
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(picture(stuck), 0.3)
        return seen

    assert watching(view, work, viewers=2) == list(range(40))


def test_a_viewer_too_many_is_told_so_until_one_leaves(view):
    async def work(first, *_):
        async with aiohttp.ClientSession() as session:
            late = await session.ws_connect(view.url + "watch")
            message = await late.receive()
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1013)
            assert message.extra == f"{MAX_VIEWERS} are watching already"
            await first.close()
            while view.viewers == MAX_VIEWERS:
                await asyncio.sleep(0.001)
            late = await session.ws_connect(view.url + "watch")
            assert await report(late)

    watching(view, work, viewers=MAX_VIEWERS)


def test_who_sends_more_than_a_word_is_sent_away_alone(view):
    async def work(chatty, other):
        await chatty.send_str("x" * 1000)
        while not chatty.closed:
            await chatty.receive()
        await publish(view, 3)
        return chatty.close_code, (await picture(other))[0]["index"]

    assert watching(view, work, viewers=2) == (1009, 3)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"Origin": "http://evil.example"}, "?token=t0ken-t0ken"),
        ({"Host": "evil.example"}, "?token=t0ken-t0ken"),
        ({}, ""),
    ],
)
def test_a_foreign_page_cannot_watch(headers, query):
    async def body(url):
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(url + "watch" + query, headers=headers)
            return caught.value.status

    with LiveView(0, token="t0ken-t0ken") as view:
        assert asyncio.run(body(view.url.partition("?")[0])) == 403
        assert view.viewers == 0


def test_the_numbers_come_with_and_without_pictures(view):
    async def work(socket):
        stalled = {
            "infrared": {"state": "stalled", "fps": np.float32(0)},
            "fused": np.int64(3),
            "skew_ms": float("nan"),
        }
        for latency in (20.0, 41.5, None):
            view.publish(INFRARED, VISIBLE, FUSED, {"latency_ms": latency} if latency else {})
        view.publish_status(stalled)
        reports = [await report(socket) for _ in range(3)]
        return [latency for found in reports for latency in found["latencies"]], reports[-1]["status"]

    latencies, status = watching(view, work)
    assert latencies == [20.0, 41.5, None]
    assert status == {"infrared": {"state": "stalled", "fps": 0.0}, "fused": 3, "skew_ms": None}


def test_who_comes_late_gets_the_last_latencies(view):
    for latency in range(0, HISTORY + 50, 2):
        view.publish(INFRARED, VISIBLE, FUSED, {"latency_ms": float(latency)})
        view.publish_latency(latency + 1.0)  # of a pair that nobody watched
    assert watching(view, report)["latencies"] == [float(latency) for latency in range(50, HISTORY + 50)]


@given(st.recursive(st.floats() | st.integers() | st.text() | st.none() | st.booleans(), st.lists, max_leaves=9))
def test_whatever_a_status_holds_a_browser_can_read_it(value):
    text = json.dumps(_plain({"a": value, "b": np.float32("inf")}), allow_nan=False)
    assert json.loads(text)["b"] is None


async def snapshot(view, query=""):
    async with aiohttp.ClientSession() as session, session.get(view.url + "snapshot.png" + query) as answer:
        data = np.frombuffer(await answer.read(), np.uint8)
        if answer.status != 200:
            return answer.status
        assert re.fullmatch(
            r'attachment; filename="irvis_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.png"', answer.headers["Content-Disposition"]
        )
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


def test_a_snapshot_is_the_frames_to_the_bit_whether_or_not_anybody_watches(view):
    async def work():
        asked = asyncio.ensure_future(snapshot(view))
        while not asked.done():
            view.publish(INFRARED, VISIBLE, FUSED, {})
            await asyncio.sleep(0.005)
        return await asked

    np.testing.assert_array_equal(asyncio.run(work()), side_by_side([INFRARED, VISIBLE, FUSED]))
    assert view.encoded <= 3


def test_a_snapshot_of_the_picture_that_is_shown_is_that_one(view):
    async def work(socket):
        await publish(view, 0)
        number = (await picture(socket))[0]["number"]
        return await snapshot(view, f"?number={number}")

    np.testing.assert_array_equal(watching(view, work), side_by_side([INFRARED, VISIBLE, FUSED]))


def test_without_any_frame_there_is_no_snapshot(view):
    assert asyncio.run(snapshot(view)) == 503


def test_a_snapshot_that_waits_counts_as_a_viewer_for_whoever_publishes_only_then(view):
    async def work():
        asked = asyncio.ensure_future(snapshot(view))
        while not view.viewers:
            await asyncio.sleep(0.001)
        await publish(view, 0)
        return await asked

    assert asyncio.run(work()).shape[2] == 3
    assert view.viewers == 0


def test_nothing_of_a_frames_size_is_allocated_in_publish_once_warm(view):
    frames = [np.tile(frame, (5, 5, 1)[: frame.ndim]) for frame in (INFRARED, VISIBLE, FUSED)]  # 480x640
    peaks = []

    async def work(socket):
        for _ in range(12):
            before, peak = view.encoded, 0
            while view.encoded == before:
                tracemalloc.clear_traces()
                view.publish(*frames, {})
                peak = tracemalloc.get_traced_memory()[1]
                await asyncio.sleep(0.001)
            peaks.append(peak)
            await picture(socket)
            await socket.send_str("drawn")

    tracemalloc.start()
    try:
        watching(view, work)
    finally:
        view.close()  # first: to stop tracing while a thread allocates crashes Python up to 3.12.8
        tracemalloc.stop()
    assert peaks[0] > sum(frame.nbytes for frame in frames)
    assert max(peaks[1:]) < frames[0].nbytes  # what the other threads have begun by then is in it


def test_close_ends_the_viewers_and_leaves_no_thread():
    view = LiveView(0)

    async def work(socket):
        await asyncio.get_running_loop().run_in_executor(None, view.close)
        while not socket.closed:
            await socket.receive()
        return view.viewers

    assert watching(view, work) == 0
    view.close()
    view.publish(INFRARED, VISIBLE, FUSED, {})
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("irvis")]


def test_one_that_is_interrupted_as_it_opens_leaves_no_thread(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("irvis.runtime.web.live_view.Encoder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LiveView(0)
    assert "irvis-web" not in [thread.name for thread in threading.enumerate()]


def test_two_threads_may_close_it_at_once():
    for _ in range(10):
        view, failures, together = LiveView(0), [], threading.Barrier(2)

        def close(view=view, failures=failures, together=together):
            together.wait()
            try:
                view.close()
            except BaseException as error:
                failures.append(error)

        async def work(socket, view=view, close=close):
            closing = [threading.Thread(target=close, daemon=True) for _ in range(2)]
            for thread in closing:
                thread.start()
            while not socket.closed:
                await socket.receive()
            return closing

        for thread in watching(view, work):
            thread.join(10)
            assert not thread.is_alive()
        assert failures == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.[hj]*")), ids=lambda path: path.name)
def test_pages_ask_for_nothing_outside_their_own_folder(path):
    """So that a reverse proxy may serve them as https://robot/view/."""
    assert re.findall(r"""["'`]/[a-z][a-z_.]*["'`?]""", path.read_text(encoding="utf-8")) == []
