import asyncio
import multiprocessing
import socket
import time

import pytest

pytest.importorskip("aiohttp")

from irvis.benchmarks.loop_cost import open_loop
from irvis.benchmarks.web_load import Attack, main, measure, strike
from irvis.runtime.outputs import Web
from irvis.runtime.web.live_view import LiveView


def test_frames_are_counted_and_timed():
    with open_loop((48, 64), realtime=True) as loop, LiveView(0) as view:
        interval = measure(loop, Web(view), 0.5)
    assert interval.rate_hz > 0
    assert len(interval.latencies_ms) == len(interval.show_ms) > 1
    assert min(interval.latencies_ms) > 0
    assert min(interval.show_ms) > 0


def test_the_cost_of_a_frame_is_what_showing_it_takes():
    class Slow:
        def show(self, frame, status):
            time.sleep(0.02)

    with open_loop((48, 64), realtime=True) as loop:
        interval = measure(loop, Slow(), 0.5)
    assert all(20 <= each < 200 for each in interval.show_ms)


def test_an_attack_ends_with_a_reset():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        asyncio.run(strike(Attack(b"start", b"again", 0.01), server.getsockname()[1], 0.1))
        with server.accept()[0] as client, pytest.raises(ConnectionError):
            list(iter(lambda: client.recv(1000), b""))


def test_quiet_and_attacked_take_turns(capsys):
    assert main(["--size", "48x64", "--rounds", "2", "--seconds", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].split(", ")[1] for line in lines[:2]] == ["no viewer", "one viewer"]
    assert [line.split(" | ")[0] for line in lines[5:11]] == ["| quiet", "| attacked"] * 2 + [
        "| all quiet",
        "| all attacked",
    ]
    assert lines[-1].startswith("rate attacked / quiet: median ")
    assert not multiprocessing.active_children()


def test_no_rounds_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    assert "must be a whole number, 1 or more. Got '0'" in capsys.readouterr().err
