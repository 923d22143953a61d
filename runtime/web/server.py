"""An aiohttp server in a thread of its own: what the pages have in common, and who may see them.

The server speaks plain HTTP. By default only this machine can reach it; a browser elsewhere connects through
``ssh -L 8080:localhost:8080 robot``, or over the network if the caller binds to it, then with a token.
"""

import argparse
import asyncio
import hmac
import ipaddress
import logging
import os
import re
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Awaitable, Callable, Coroutine, Optional, Sequence, Tuple, TypeVar
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.web.connections import TURN_S, Connections, Pace

LOOPBACK = "127.0.0.1"
FOLDER = Path(__file__).resolve().parent
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
MAX_BODY = 64 * 1024  # bytes in the body of a request
CLOSING_S = 1.0  # for requests in progress when the server closes
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "irvis",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Result = TypeVar("Result")


def parse_address(text: str) -> Tuple[str, int]:
    """``"[HOST:]PORT"`` -> host (default: 127.0.0.1) and port, for use as the ``type=`` of an argument.

    An IPv6 address is written in brackets. Port 0 picks a free one. Raises argparse.ArgumentTypeError.
    """
    match = re.fullmatch(r"(?:([\w.-]+|\[[0-9a-fA-F:.]+\]):)?([0-9]{1,5})", text.strip())
    if match is None or int(match.group(2)) > 65535:
        raise argparse.ArgumentTypeError(f"an address is [HOST:]PORT, such as 8080 or 0.0.0.0:8080. Got {text!r}")
    return (match.group(1) or LOOPBACK).strip("[]"), int(match.group(2))


def asset(path: str, name: str) -> web.RouteDef:
    """Return a route that serves a file of this folder. The file is read now: no request reaches the file system."""
    body, content_type = (FOLDER / name).read_bytes(), TYPES[Path(name).suffix]

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    return web.get(path, serve)


class Server:
    """Serves routes until it is closed.

    Refused, each with one line: a ``Host`` that does not name this machine, while bound to loopback (a foreign page
    may point its own name here: DNS rebinding); an ``Origin`` other than the server's own on a WebSocket or a POST; a
    wrong or missing token; bodies over MAX_BODY; more connections than MAX_CONNECTIONS. See ``connections`` for how
    long a connection lasts and how much it may send.

    Args:
        routes: aiohttp routes such as ``web.get(path, handler)``; the handlers run in the server's thread.
        port: 0 picks a free one.
        host: an address of this machine; ``0.0.0.0`` means all of them.
        token: what a browser must send, once as ``?token=`` and then as a cookie: 8 to 128 letters, digits and
            ``._~-``. None admits everyone who can reach the port, with a printed warning unless that is loopback.

    Raises FileError if it cannot listen there, IrvisError for a malformed token.
    """

    def __init__(
        self, routes: Sequence[web.AbstractRouteDef], port: int, host: str = LOOPBACK, token: Optional[str] = None
    ) -> None:
        if token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{8,128}", token):
            raise IrvisError(f"a token is 8 to 128 letters, digits and ._~-. Got {len(token)} characters")
        self.host = LOOPBACK if host == "localhost" else host
        self.token = token
        self._listening = _listen(self.host, port)
        self.port: int = self._listening.getsockname()[1]
        self._own_names = {LOOPBACK, "localhost", "::1", self.host} if _is_loopback(self.host) else None
        if self._own_names is None and token is None:
            print(f"irvis: anyone who can reach port {self.port} sees this page; use a token", file=sys.stderr)
        self.loop = asyncio.new_event_loop()
        self._pace = Pace(TURN_S)
        self._thread = threading.Thread(target=self.loop.run_forever, name="irvis-web", daemon=True)
        starting = asyncio.run_coroutine_threadsafe(self._start(routes), self.loop)
        self._thread.start()
        try:
            starting.result()
        except BaseException:  # Ctrl-C, which must not leave the thread behind
            starting.result()
            self.close()
            raise

    @property
    def url(self) -> str:
        """Address to open in a browser, including the token."""
        host = self.host if self.host not in ("0.0.0.0", "::") else _outward_address()
        address = f"[{host}]" if ":" in host else host
        return f"http://{address}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the server's thread and return its result. Call from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """End all connections, free the port and end the thread. May be called twice."""
        if self.loop.is_closed():
            return
        self.run(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _start(self, routes: Sequence[web.AbstractRouteDef]) -> None:
        application = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY)
        application.add_routes(routes)
        application.on_response_prepare.append(self._prepare)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=CLOSING_S,
            logger=_logger(),
            lingering_time=0,  # do not read on from a client that sends more than was asked for
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections = Connections(self._listening, self._runner.server)

    async def _end(self) -> None:
        await self._connections.close()
        await self._runner.cleanup()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # a closed transport frees its socket in the next iteration of the event loop

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass a request to its handler when its turn comes, or refuse it."""
        await self._pace.turn()
        if self._own_names is not None and _host_of(request.host) not in self._own_names:
            raise web.HTTPForbidden(text="this page answers to localhost only; open the address that irvis printed\n")
        origin = request.headers.get("Origin", "").rpartition("://")[2]  # only browsers send one
        changes = request.method not in ("GET", "HEAD") or "Upgrade" in request.headers
        if changes and "Origin" in request.headers and origin != request.host:
            raise web.HTTPForbidden(text="another page's script may not use this one\n")
        if "Sec-WebSocket-Protocol" in request.headers:  # aiohttp would print a line for each request
            raise web.HTTPBadRequest(text="WebSocket subprotocols are not supported; request none\n")
        if self.token is None:
            return await _answer(handler, request)
        cookie, shown = f"irvis_{self.port}", request.query.get("token")
        given = shown or request.cookies.get(cookie, "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode()):
            raise web.HTTPForbidden(text="the token is missing or wrong; open the address that irvis printed\n")
        response = await _answer(handler, request)
        if shown and not response.prepared:
            response.set_cookie(cookie, self.token, httponly=True, samesite="Strict")
        return response

    async def _prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)
        if isinstance(response, web.WebSocketResponse):
            self._connections.keep(request.protocol)
        else:
            response.headers["Connection"] = "close"  # force_close is too late here for aiohttp to add it
            response.force_close()  # a page needs few requests; an idle connection would block a slot


async def _answer(handler: Handler, request: web.Request) -> web.StreamResponse:
    """Return the handler's response; 400 if the client has gone, for which aiohttp would print a traceback."""
    try:
        return await handler(request)
    except ConnectionError as error:
        raise web.HTTPBadRequest(text="the connection was closed\n") from error


def _logger() -> logging.Logger:
    """Return a logger for errors of this server, not for malformed requests, of which there may be thousands."""
    logger = logging.getLogger(__name__)
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except socket.gaierror as error:
        raise FileError(f"cannot serve on {host}: {error.strerror}; give an address of this machine") from error
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise FileError(f"cannot serve on port {port} of {host}: {reason}; give another, or 0") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _host_of(host: str) -> Optional[str]:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _outward_address() -> str:
    """Return the address that this machine uses towards the network, for a browser elsewhere. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address reserved for documentation, RFC 5737
        except OSError:
            return LOOPBACK
        return probe.getsockname()[0]
