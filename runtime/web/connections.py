"""Connections to a server, limited in number, duration and rate so that no client can hold up the fusion loop.

The threads of the loop and of the server share one interpreter: the loop waits for whatever a client makes the server
do.
"""

import asyncio
import contextlib
import socket
from typing import Any, Dict, Optional, Set

from aiohttp import web

MAX_CONNECTIONS = 32
LONGEST_S = 60.0  # lifetime of a connection, however slow its client; a WebSocket has a heartbeat instead
ACCEPT_S, TURN_S = 0.01, 0.005  # between two connections, and between two requests or messages of all connections
BURST = 96 * 1024  # bytes that a connection may send at once: a body and its headers
BYTES_PER_S = 6 / TURN_S  # and steadily: of the smallest messages, 6 bytes each, only as many as get a turn
REASON = f"{MAX_CONNECTIONS} connections are open already; close a page, or try again\n".encode()
FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: "
FULL += str(len(REASON)).encode() + b"\r\n\r\n" + REASON


class Pace:
    """Lets one piece of work through every ``period_s`` at most, over all connections. Belongs to one event loop."""

    def __init__(self, period_s: float) -> None:
        self._period_s, self._due_s = period_s, 0.0

    async def turn(self) -> None:
        """Wait for the caller's turn; return at once if nobody came within the last period."""
        now_s = asyncio.get_running_loop().time()
        turn_s = max(self._due_s, now_s)
        self._due_s = turn_s + self._period_s
        await asyncio.sleep(turn_s - now_s)


class Connections:
    """Accepts connections for an aiohttp server, and ends those that last too long.

    Args:
        listening: a listening socket; this object takes ownership of it.
        server: creates the protocol of each connection.
    """

    def __init__(self, listening: socket.socket, server: web.Server) -> None:
        self._listening, self._server = listening, server
        self._kept: Set[Any] = set()  # protocols
        listening.setblocking(False)
        self._tasks = [asyncio.ensure_future(work) for work in (self._accept(), self._end_old())]

    def keep(self, protocol: Any) -> None:
        """Exempt a connection from the limit on its lifetime."""
        self._kept.add(protocol)

    async def close(self) -> None:
        """Accept no more connections, and close those that wait to be accepted."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            while True:
                self._listening.accept()[0].close()
        self._listening.close()

    async def _accept(self) -> None:
        loop, pace = asyncio.get_running_loop(), Pace(ACCEPT_S)
        while True:
            await pace.turn()
            with contextlib.suppress(OSError):  # the client has gone, or no file descriptor is free: try the next
                await self._readable()  # not sock_accept, which loses the connection if cancelled late
                arrived, _ = self._listening.accept()
                arrived.setblocking(False)
                if len(self._server.connections) < MAX_CONNECTIONS:
                    await loop.connect_accepted_socket(lambda: _Metered(self._server()), arrived)
                    continue
                with arrived:
                    arrived.send(FULL)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        loop.add_reader(self._listening, wake)
        try:
            await future
        finally:
            loop.remove_reader(self._listening)

    async def _end_old(self) -> None:
        since_s: Dict[Any, float] = {}
        while True:
            await asyncio.sleep(1)
            now_s = asyncio.get_running_loop().time()
            since_s = {protocol: since_s.get(protocol, now_s) for protocol in self._server.connections}
            self._kept &= set(since_s)
            for protocol, came_s in since_s.items():
                if now_s - came_s >= LONGEST_S and protocol not in self._kept and protocol.transport is not None:
                    protocol.transport.abort()


class _Metered(asyncio.Protocol):
    """Passes what a client sends to a protocol, and ends a connection that sends more than it may."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._left, self._at_s = float(BURST), 0.0
        self._transport: Optional[asyncio.Transport] = None
        self.pause_writing, self.resume_writing = protocol.pause_writing, protocol.resume_writing  # type: ignore[method-assign]
        self.eof_received, self.connection_lost = protocol.eof_received, protocol.connection_lost  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._protocol.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        now_s = asyncio.get_running_loop().time()
        self._left = min(self._left + (now_s - self._at_s) * BYTES_PER_S, BURST) - len(data)
        self._at_s = now_s
        if self._left < 0:
            self._transport.abort()
        else:
            self._protocol.data_received(data)
