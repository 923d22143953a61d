import argparse
import asyncio
import http.client
import signal
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp")
from aiohttp import web

from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.web.server import FOLDER, MAX_BODY, Server, asset, parse_address

TOKEN = "s3cret-token"


async def echo(request):
    return web.Response(body=await request.read())


ROUTES = [asset("/", "live_view.html"), asset("/style.css", "style.css"), web.post("/echo", echo)]


@pytest.fixture
def server():
    with Server(ROUTES, 0) as server:
        yield server


def ask(server, path="/", method="GET", body=None, **headers):
    """Return the status, the headers and the body of the answer to a request made by hand."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_ctrl_c_while_it_starts_leaves_neither_its_thread_nor_its_port():
    class Interrupted(Server):
        async def _start(self, routes):
            ports.append(self.port)
            await asyncio.sleep(0.1)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            await asyncio.sleep(0.1)
            await super()._start(routes)

    ports = []
    with pytest.raises(KeyboardInterrupt):
        Interrupted(ROUTES, 0)
    assert "irvis-web" not in [thread.name for thread in threading.enumerate()]
    with Server(ROUTES, ports[0]) as server:
        assert ask(server)[0] == 200


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("robot.local:80", ("robot.local", 80)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_a_port_with_or_without_a_host(text, address):
    assert parse_address(text) == address


@given(st.text(alphabet="0123456789abc.:[]-/ \n", max_size=12))
def test_an_address_is_understood_or_refused(text):
    try:
        host, port = parse_address(text)
    except argparse.ArgumentTypeError:
        return
    assert 0 <= port <= 65535
    assert host
    assert not set(host) & set("[] \n/")


def test_a_page_is_served_as_it_is_in_the_folder_and_says_what_browsers_may_do(server):
    status, headers, body = ask(server)
    assert (status, body) == (200, (FOLDER / "live_view.html").read_bytes())
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Python" not in headers["Server"]


@pytest.mark.parametrize(
    "path", ["/server.py", "/../server.py", "/%2e%2e/server.py", "//etc/passwd", "/style.css/..%2f"]
)
def test_no_path_leads_to_a_file(server, path):
    status, headers, body = ask(server, path)
    assert status == 404
    assert b"import" not in body
    assert b"root:" not in body
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:9999", "[::1]:8080"])  # as a tunnel has it
def test_loopback_answers_to_its_names(server, host):
    assert ask(server, Host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "[", ""])
def test_loopback_does_not_answer_to_a_name_that_was_made_to_point_at_it(server, host):
    status, _, body = ask(server, Host=host)
    assert status in (400, 403)
    assert b"<html" not in body


def test_a_post_is_taken_from_the_page_itself_and_from_programs_only(server):
    own = f"127.0.0.1:{server.port}"
    assert ask(server, "/echo", "POST", b"x")[2] == b"x"
    assert ask(server, "/echo", "POST", b"x", Origin=f"http://{own}")[2] == b"x"
    foreign = "http://evil.example", f"http://{own}.evil.example", f"http://evil-{own}", "http://127.0.0.1:1"
    for origin in (*foreign, "null", ""):
        status, _, body = ask(server, "/echo", "POST", b"x", Origin=origin)
        assert (status, body) == (403, b"another page's script may not use this one\n")


def test_a_body_has_a_limit(server):
    assert ask(server, "/echo", "POST", b"x" * (MAX_BODY - 1))[0] == 200
    assert ask(server, "/echo", "POST", b"x" * (MAX_BODY + 1))[0] == 413


def test_of_a_client_that_goes_amid_its_request_nothing_is_printed(server, caplog):
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
        client.shutdown(socket.SHUT_WR)
        client.recv(100)
    assert ask(server, "/echo", "POST", b"x")[0] == 200
    assert not caplog.records


def test_a_fault_of_our_own_is_told_of(caplog):
    async def fail(_):
        raise ZeroDivisionError

    with Server([web.get("/fail", fail)], 0) as server:
        assert ask(server, "/fail")[0] == 500
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_the_token_is_shown_once_in_the_address_and_then_by_the_cookie():
    with Server(ROUTES, 0, token=TOKEN) as server:
        assert server.url == f"http://127.0.0.1:{server.port}/?token={TOKEN}"
        status, headers, _ = ask(server, f"/?token={TOKEN}")
        assert status == 200
        cookie, *flags = headers["Set-Cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict"} <= set(flags)
        assert ask(server, "/style.css", Cookie=cookie)[0] == 200
        name = cookie.partition("=")[0]
        for path, sent in [
            ("/", ""),
            ("/?token=", ""),
            (f"/?token={TOKEN}x", cookie),
            (f"/?token={TOKEN[:-1]}", ""),
            ("/?token=%ff%00", ""),
            ("/", f"{name}=wrong"),
            ("/", f"{name}=\xff"),
            ("/nothing", ""),
        ]:
            status, headers, body = ask(server, path, Cookie=sent)
            assert (status, "Set-Cookie" in headers) == (403, False)
            assert b"open the address that irvis printed" in body


@pytest.mark.parametrize("token", ["", "short", "with space in it", "semi;colon;", "\xe4" * 9, "x" * 129])
def test_a_token_that_a_browser_would_mangle_is_refused(token):
    with pytest.raises(IrvisError, match="a token is 8 to 128 letters"):
        Server(ROUTES, 0, token=token)


def test_a_port_in_use_is_named_in_a_line(server):
    with pytest.raises(
        FileError, match=f"cannot serve on port {server.port} of 127.0.0.1: address already in use; give"
    ):
        Server(ROUTES, server.port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused_in_a_line(host):
    with pytest.raises(FileError, match=rf"cannot serve on .*{host}: [^\n]*; give [^\n]*$"):
        Server(ROUTES, 0, host)


def test_an_open_door_is_warned_of(capsys):
    with Server(ROUTES, 0, "0.0.0.0", TOKEN):
        assert capsys.readouterr().err == ""
    with Server(ROUTES, 0, "0.0.0.0") as server:
        warning = f"irvis: anyone who can reach port {server.port} sees this page; use a token\n"
        assert capsys.readouterr().err == warning
        assert ask(server, Host="robot.local")[0] == 200
        assert "0.0.0.0" not in server.url


def test_close_leaves_no_thread_and_no_port():
    threads = threading.active_count()
    server = Server(ROUTES, 0)
    idle = http.client.HTTPConnection("127.0.0.1", server.port)
    idle.request("GET", "/")
    idle.getresponse().read()
    half = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    half.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
    assert half.recv(100).startswith(b"HTTP/1.1 100")  # and now waits for the body
    server.close()
    server.close()
    assert threading.active_count() == threads
    assert half.recv(1) == b""
    for connection in (idle, half):
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_a_connection_of_the_last_moment_is_ended_too():
    for _ in range(10):
        server = Server(ROUTES, 0)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as late:
            server.close()
            assert late.recv(1) == b""
