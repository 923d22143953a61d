"""Clients that mean harm. ``benchmarks/web_load.py`` measures what they cost the loop; here they are refused."""

import asyncio
import contextlib
import socket
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import pytest

pytest.importorskip("aiohttp")

from irvis.benchmarks.loop_cost import open_loop
from irvis.benchmarks.web_load import ATTACKS, GET, WATCH, measure, strike
from irvis.runtime.outputs import Web
from irvis.runtime.web import connections
from irvis.runtime.web.connections import BURST, MAX_CONNECTIONS, Pace
from irvis.runtime.web.live_view import IN_FLIGHT, LiveView


@pytest.fixture
def view():
    with LiveView(0, max_fps=1000) as view:
        yield view


def connect(view):
    return socket.create_connection(("127.0.0.1", urlsplit(view.url).port), 10)


def answer(view, request=GET + b"\r\n"):
    """Return all that the server answers; what came until a reset."""
    came = b""
    with connect(view) as client, contextlib.suppress(ConnectionError):
        client.sendall(request)
        for part in iter(lambda: client.recv(1 << 16), b""):
            came += part
    return came


def send_on(client, data, pause_s):
    for _ in range(100):
        client.sendall(data)
        time.sleep(pause_s)


@pytest.mark.parametrize("name", ATTACKS)
def test_after_an_attack_the_page_is_served_and_nothing_was_printed(view, name, caplog, capfd, wait_for):
    for _ in range(3):
        asyncio.run(strike(ATTACKS[name], urlsplit(view.url).port, 0.3))
    assert answer(view).startswith(b"HTTP/1.1 200")
    wait_for(lambda: not view.viewers)
    view.close()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "path",
    [
        b"/../server.py",
        b"/..%2f..%2fetc%2fpasswd",
        b"/%2e%2e/server.py",
        b"/%252e%252e/server.py",
        b"/..\\server.py",
        b"/..%5cserver.py",
        b"/%c0%ae%c0%ae/server.py",
        b"/%uff0e%uff0e/server.py",
        b"/style.css/../server.py",
        b"/style.css%00.py",
        b"file:///etc/passwd",
        b"http://evil.example/etc/passwd",
        b"\xef\xbc\x8e\xef\xbc\x8e/server.py",
        b"*",
        b"/" + b"a/" * 4000,
    ],
)
def test_no_path_in_any_spelling_leads_to_a_file(view, path):
    status, _, rest = answer(view, GET.replace(b"/ ", path + b" ", 1) + b"\r\n").partition(b"\r\n")
    assert status.split()[1] in (b"400", b"403", b"404")
    assert b"import" not in rest
    assert b"root:" not in rest


def test_one_connection_too_many_is_told_so_until_one_ends(view, wait_for):
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(view)) for _ in range(MAX_CONNECTIONS)]
        refusal = answer(view)
        assert refusal.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert refusal.endswith(b"\r\n\r\n32 connections are open already; close a page, or try again\n")
        idle[0].close()
        wait_for(lambda: answer(view).startswith(b"HTTP/1.1 200"))


def test_a_thousand_connections_are_refused_but_for_a_few(view, wait_for):
    served = view._server._runner.server
    with contextlib.ExitStack() as stack:
        for _ in range(100):  # what waits to be accepted is the system's, and has the system's limit
            stack.enter_context(connect(view))
        wait_for(lambda: len(served.connections) == MAX_CONNECTIONS)
    wait_for(lambda: answer(view).startswith(b"HTTP/1.1 200"))
    assert len(served.connections) <= 1


def test_who_takes_for_ever_is_sent_away_but_not_who_watches(monkeypatch):
    monkeypatch.setattr(connections, "LONGEST_S", 1.0)
    with LiveView(0) as view, connect(view) as slow, connect(view) as watching:
        watching.sendall(WATCH)
        assert watching.recv(12) == b"HTTP/1.1 101"
        slow.sendall(GET + b"X-Slow: ")
        with pytest.raises(ConnectionError):
            send_on(slow, b"x", 0.1)
        assert view.viewers == 1


def test_who_sends_more_than_any_page_does_is_cut_off(view, wait_for):
    with connect(view) as client:
        client.sendall(WATCH)
        assert client.recv(12) == b"HTTP/1.1 101"
        client.sendall(b"\x01\x80\0\0\0\0")  # a message that never ends, and so never has its turn
        with pytest.raises(ConnectionError):
            send_on(client, b"\x00\x80\0\0\0\0" * (BURST // 60), 0.01)
        wait_for(lambda: not view.viewers)


def test_a_connection_carries_one_request(view):
    came = answer(view, (GET + b"\r\n") * 50)
    assert came.count(b"HTTP/1.1 200") == came.count(b"\r\nConnection: close\r\n") == 1


def test_of_a_viewer_that_asks_but_never_reads_a_few_pictures_are_held_at_most(view, wait_for):
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    with connect(view) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(WATCH)
        wait_for(lambda: view.viewers)
        (viewer,) = view._viewers
        for index in range(150):
            client.sendall(b"\x81\x81" + bytes(4) + b"x")
            view.publish(noise[:, :, 0], noise, noise, {"index": index})
            time.sleep(0.01)
        assert viewer.transport.get_write_buffer_size() < (IN_FLIGHT + 1) * 3 * noise.nbytes
    wait_for(lambda: not view.viewers)


def test_the_loop_goes_on_under_all_attacks_at_once():
    async def besiege(port):
        await asyncio.gather(*(strike(attack, port, 1.0) for attack in ATTACKS.values()))

    with open_loop((48, 64), realtime=True) as loop, LiveView(0) as view:
        siege = threading.Thread(target=lambda: asyncio.run(besiege(urlsplit(view.url).port)))
        siege.start()
        interval = measure(loop, Web(view), 1.5)
        siege.join()
        assert len(interval.latencies_ms) > 5
        assert loop.read(5.0) is not None


def test_a_pace_lets_one_through_at_a_time():
    async def work():
        pace = Pace(0.02)
        started_s = time.monotonic()
        await asyncio.gather(*(pace.turn() for _ in range(6)))
        return time.monotonic() - started_s

    assert asyncio.run(work()) >= 0.099
