"""A page that shows what the fusion loop sees and how long it takes, for a robot without a screen.

Nothing here may slow down the loop. It copies frames only when a browser is ready for a picture and the encoder thread
is idle; all other frames are skipped. A browser requests the next picture once it has drawn one, so that a slow browser
gets fewer pictures rather than older ones.
"""

import asyncio
import contextlib
import json
import math
import threading
import time
from collections import deque
from datetime import datetime
from typing import Any, Deque, Mapping, Optional, Set

import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web

from irvis.runtime.web.connections import TURN_S, Pace
from irvis.runtime.web.encoder import Encoder, Picture
from irvis.runtime.web.server import LOOPBACK, Server, asset

MAX_VIEWERS = 8
IN_FLIGHT = 2  # pictures on their way to a viewer: the next arrives while one is drawn, which hides the network delay
HISTORY = 300  # latencies that a new page starts its chart with
STATUS_S = 0.1  # between two status reports
QUALITY = 80  # of the JPEGs, 1 to 100
WAIT_S = 1.0  # for a frame, when a snapshot is requested while nobody is watching
Status = Mapping[str, Any]


class Viewer:
    """A browser that is watching, and what it has been sent. Used only in the server's thread."""

    def __init__(self, socket: web.WebSocketResponse, transport: Optional[asyncio.Transport]) -> None:
        self.socket, self.transport = socket, transport
        self.credits = IN_FLIGHT
        self.picture = 0  # number of the last picture sent
        self.latencies = 0  # how many of the loop's latencies it has
        self.report_due = 0.0
        self.wake = asyncio.Event()


class LiveView:
    """Serves the page while the loop publishes.

        with LiveView(8080) as view:
            print(view.url)
            ...
            view.publish(infrared, visible, fused, status)

    Args:
        port, host, token: see ``Server``.
        max_fps: the most pictures encoded per second, however fast the loop runs.

    Raises what ``Server`` raises.
    """

    def __init__(self, port: int, host: str = LOOPBACK, token: Optional[str] = None, max_fps: float = 30) -> None:
        self._wanted = False  # somebody is ready for a picture
        self._status: Status = {}
        self._latencies: Deque[Optional[float]] = deque(maxlen=HISTORY)
        self._latency_count = 0
        self._lock = threading.Lock()  # for the latencies and their count
        self._closing = threading.RLock()
        self._viewers: Set[Viewer] = set()
        self._latest: Optional[Picture] = None
        self._waiting = 0  # snapshot requests that wait for a newer frame
        self._server = Server(
            [
                asset("/", "live_view.html"),
                asset("/live_view.js", "live_view.js"),
                asset("/style.css", "style.css"),
                web.get("/watch", self._watch),
                web.get("/snapshot.png", self._snapshot),
            ],
            port,
            host,
            token,
        )
        try:
            self._encoder = Encoder(
                QUALITY, max_fps, lambda picture: self._server.loop.call_soon_threadsafe(self._deliver, picture)
            )
        except BaseException:  # Ctrl-C among them
            self._server.close()
            raise

    @property
    def url(self) -> str:
        """Address to open in a browser."""
        return self._server.url

    @property
    def viewers(self) -> int:
        """Number of browsers that watch or wait for a snapshot."""
        return len(self._viewers) + self._waiting

    @property
    def encoded(self) -> int:
        """Number of frames encoded to be shown."""
        return self._encoder.encoded

    def publish(self, infrared: np.ndarray, visible: np.ndarray, fused: np.ndarray, status: Status) -> None:
        """Show a fused pair. The frames are not used after this returns.

        Args:
            infrared: uint8 or uint16 (H, W), registered to the visible.
            visible: uint8, BGR (H, W, 3) or grey (H, W).
            fused: uint8, BGR (H, W, 3) or grey (H, W).
            status: what the page shows beside them: any JSON; any of ``index``, ``stamp_s``, ``latency_ms``,
                ``deadline_ms``, ``fps``... may be missing. It must not be changed afterwards: pass a new one each time.

        Raises FrameError if somebody is watching and the frames are not as described.
        """
        self._status = status
        self.publish_latency(status.get("latency_ms"))
        if self._wanted:
            self._encoder.offer(infrared, visible, fused, _plain(status.get("index")))

    def publish_latency(self, latency_ms: Optional[float]) -> None:
        """Add the latency of a pair to the chart; the pair itself need not be published."""
        with self._lock:
            self._latencies.append(latency_ms)
            self._latency_count += 1

    def publish_status(self, status: Status) -> None:
        """Update the numbers while no pairs come; the picture and the chart stay as they are."""
        self._status = status

    def close(self) -> None:
        """End the server, its viewers and both threads. May be called twice, and from any thread."""
        with self._closing:
            self._encoder.close()
            if not self._server.loop.is_closed():
                self._server.run(self._dismiss())
            self._server.close()

    def __enter__(self) -> "LiveView":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # All that follows runs in the server's thread.

    @property
    def _number(self) -> int:
        return self._latest.number if self._latest else 0

    def _deliver(self, picture: Picture) -> None:
        self._latest = picture
        for viewer in self._viewers:
            viewer.wake.set()
        self._reconsider()

    def _reconsider(self) -> None:
        ready = any(viewer.credits and viewer.picture >= self._number for viewer in self._viewers)
        self._wanted = ready or self._waiting > 0

    async def _watch(self, request: web.Request) -> web.WebSocketResponse:
        """Serve a viewer until it leaves: start sending, and receive its answers to pictures."""
        # Deflating does not shrink JPEGs. The heartbeat detects phones that left without closing the connection.
        # Pings are answered below, at a limited rate rather than as fast as a client sends them.
        socket = web.WebSocketResponse(compress=False, max_msg_size=64, heartbeat=10.0, autoping=False)
        if request.transport is None:  # the client has gone, which aiohttp up to 3.10 reports as a server error
            raise web.HTTPBadRequest(text="the connection was cut\n")
        try:
            await socket.prepare(request)
        except ValueError as error:  # from aiohttp, for headers that are not ASCII
            raise web.HTTPBadRequest(text="not a WebSocket request\n") from error
        if len(self._viewers) >= MAX_VIEWERS:
            await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=f"{MAX_VIEWERS} are watching already".encode())
            return socket
        viewer = Viewer(socket, request.transport)
        viewer.picture = self._number
        self._viewers.add(viewer)
        self._reconsider()
        sending = asyncio.ensure_future(self._send(viewer))
        try:
            pace = Pace(TURN_S)
            async for message in socket:
                await pace.turn()
                if viewer.transport is None or viewer.transport.is_closing():
                    break  # a client that has gone may have left thousands of messages
                if message.type == WSMsgType.PING:
                    await socket.pong(message.data)
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    continue
                if not viewer.credits:
                    viewer.picture = self._number  # wait for a new one: the latest may be as old as its last answer
                viewer.credits = min(viewer.credits + 1, IN_FLIGHT)
                self._reconsider()
        finally:
            self._viewers.remove(viewer)
            self._reconsider()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return socket

    async def _send(self, viewer: Viewer) -> None:
        """Send a viewer the newest picture whenever it is ready for one, and the numbers every ``STATUS_S``."""
        while True:
            now, picture = time.monotonic(), self._latest
            if now >= viewer.report_due:
                viewer.report_due = now + STATUS_S
                await viewer.socket.send_str(self._report(viewer))
            elif picture is not None and viewer.credits and picture.number > viewer.picture:
                viewer.credits -= 1
                viewer.picture = picture.number
                self._reconsider()
                await viewer.socket.send_bytes(picture.message)
            else:
                viewer.wake.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(viewer.wake.wait(), viewer.report_due - now)

    def _report(self, viewer: Viewer) -> str:
        with self._lock:
            new = min(self._latency_count - viewer.latencies, HISTORY)
            viewer.latencies = self._latency_count
            latencies, status = list(self._latencies)[len(self._latencies) - new :], self._status
        return json.dumps(_plain({"status": status, "latencies": latencies}))

    async def _snapshot(self, request: web.Request) -> web.Response:
        """Respond with the frames of the newest picture, side by side as PNG.

        A page requests the number that it shows, which is the newest while it is paused and watches alone. Otherwise
        the response may be of a newer picture: frames are held only until the next ones are encoded.
        """
        held = self._latest
        if held is None or request.query.get("number") != str(held.number):
            self._waiting += 1
            self._reconsider()
            end = time.monotonic() + WAIT_S
            while self._latest is held and time.monotonic() < end:
                await asyncio.sleep(0.01)
            self._waiting -= 1
            self._reconsider()
        if self._latest is None:
            raise web.HTTPServiceUnavailable(text="no frame has come yet; try again\n")
        future: asyncio.Future[bytes] = self._server.loop.create_future()
        self._encoder.ask_png(lambda png: self._server.loop.call_soon_threadsafe(_answer, future, png))
        name = datetime.now().strftime("irvis_%Y-%m-%d_%H-%M-%S.png")
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return web.Response(body=await future, content_type="image/png", headers=headers)

    async def _dismiss(self) -> None:
        for viewer in self._viewers:
            if viewer.transport is not None:
                viewer.transport.abort()  # a viewer that reads nothing would delay an orderly close


def _answer(future: "asyncio.Future[bytes]", png: bytes) -> None:
    if not future.done():
        future.set_result(png)


def _plain(value: Any) -> Any:
    """Convert a value to what JSON can hold: NumPy scalars to Python's, NaN and infinities to null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.floating, float)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
