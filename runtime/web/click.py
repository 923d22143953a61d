"""A page on which a person clicks the same points in an infrared and a visible image, to register the cameras."""

import queue
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from aiohttp import web

from irvis.runtime.errors import IrvisError
from irvis.runtime.files import parse_json
from irvis.runtime.frames import to_levels
from irvis.runtime.infrared import InfraredScaler
from irvis.runtime.registration.points import fit
from irvis.runtime.sizes import format_size
from irvis.runtime.web.server import LOOPBACK, Server, asset

MINIMUM, MAXIMUM = 2, 200  # pairs
NAMES = ("infrared x", "infrared y", "visible x", "visible y")
PointPair = Tuple[float, float, float, float]  # infrared x and y, visible x and y, in pixels of each image


def click_points(
    infrared: np.ndarray,
    visible: np.ndarray,
    *,
    port: int = 8080,
    host: str = LOOPBACK,
    token: Optional[str] = None,
    existing: Sequence[PointPair] = (),
    announce: Callable[[str], None] = print,
) -> List[PointPair]:
    """Serve the page until a person saves the pairs, and return them.

    Args:
        infrared: uint8 or uint16 (H, W).
        visible: uint8, BGR (H, W, 3) or grey (H, W), of any size.
        port, host, token: see ``Server``.
        existing: pairs to start with.
        announce: called with a line that names the address to open.

    Returns:
        2 or more pairs. As in OpenCV, the centre of the first pixel is (0, 0): x ranges from -0.5 to width - 0.5.

    Raises IrvisError if the person cancels or an existing pair lies outside its image, and what ``Server`` raises.
    """
    sizes = (infrared.shape[:2], visible.shape[:2])
    given = _check_pairs([list(map(float, pair)) for pair in existing], sizes)
    ended: queue.SimpleQueue[Optional[List[PointPair]]] = queue.SimpleQueue()

    async def start(_: web.Request) -> web.Response:
        return web.json_response({"points": given, "sizes": [size[::-1] for size in sizes], "minimum": MINIMUM})

    async def describe(request: web.Request) -> web.Response:
        return web.json_response(_describe_fit(await _read_pairs(request, sizes)))

    async def save(request: web.Request) -> web.Response:
        ended.put(await _read_pairs(request, sizes))
        return web.json_response({})

    async def cancel(_: web.Request) -> web.Response:
        ended.put(None)
        return web.json_response({})

    routes = [
        asset("/", "click.html"),
        asset("/click.js", "click.js"),
        asset("/style.css", "style.css"),
        _picture("/infrared.png", _levels(infrared)),
        _picture("/visible.png", visible),
        web.get("/start", start),
        web.post("/fit", describe),
        web.post("/save", save),
        web.post("/cancel", cancel),
    ]
    with Server(routes, port, host, token) as server:
        announce(f"click pairs of points at {server.url}")
        pairs = ended.get()
    if pairs is None:
        raise IrvisError("calibration cancelled on the page; nothing was written")
    return pairs


def _picture(path: str, frame: np.ndarray) -> web.RouteDef:
    png = cv2.imencode(".png", frame)[1].tobytes()

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=png, content_type="image/png")

    return web.get(path, serve)


def _levels(infrared: np.ndarray) -> np.ndarray:
    return infrared if infrared.dtype == np.uint8 else to_levels(InfraredScaler()(infrared))


async def _read_pairs(request: web.Request, sizes: Sequence[Sequence[int]]) -> List[PointPair]:
    """Return the pairs in a request's body, ``{"points": [[x, y, x, y], ...]}``; answer 400 to an invalid body."""
    try:
        body = parse_json(await request.read())
    except ValueError:  # also raised for bytes that are not text
        body = None
    try:
        pairs = _check_pairs(body.get("points") if isinstance(body, dict) else None, sizes)
        if len(pairs) < MINIMUM:
            raise IrvisError(f"at least {MINIMUM} pairs are needed. Got {len(pairs)}")
    except IrvisError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    return pairs


def _check_pairs(points: Any, sizes: Sequence[Sequence[int]]) -> List[PointPair]:
    """Return ``points`` if they are a list of pairs inside images of these sizes (H, W). Raises IrvisError."""
    if not isinstance(points, list) or len(points) > MAXIMUM:
        raise IrvisError(f"points must be a list of at most {MAXIMUM} pairs, [x, y, x, y] each")
    (infrared_height, infrared_width), (visible_height, visible_width) = sizes
    limits = (infrared_width, infrared_height, visible_width, visible_height)
    for number, pair in enumerate(points, 1):
        if not isinstance(pair, list) or len(pair) != 4:
            raise IrvisError(f"pair {number} must be four numbers: {', '.join(NAMES)}")
        for name, value, limit in zip(NAMES, pair, limits):
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not -0.5 <= value <= limit - 0.5:
                found = str(value)[:20] if is_number else "a value that is not a number"
                where = " and ".join(map(format_size, sizes))
                raise IrvisError(f"{name} of pair {number} must lie in its image ({where}). Got {found}")
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in points]


def _describe_fit(pairs: Sequence[PointPair]) -> Dict[str, Any]:
    """Return for the page how well a registration fits the pairs, or why none does."""
    try:
        found = fit(np.array(pairs))
    except IrvisError as error:
        return {"problem": str(error)}
    return {
        "model": found.model,
        "errors_px": found.errors_px.tolist(),
        "used": found.used.tolist(),
        "rms_px": found.rms_px,
    }
