import base64
import itertools
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import cv2
import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("selenium")
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from irvis.runtime.panels import GAP, STRIP
from irvis.runtime.samples import make_scene
from irvis.runtime.web.live_view import LiveView

pytestmark = pytest.mark.system

INFRARED, VISIBLE = make_scene("street", 480, 640)
FUSED = cv2.add(VISIBLE, cv2.cvtColor(INFRARED // 2, cv2.COLOR_GRAY2BGR))
KINDS = ("infrared", "visible", "fused")
STEP = 4  # pixels that the scene moves in a frame
TOKEN = "t0ken-t0ken"


def moved(index):
    return [np.roll(frame, -STEP * index, axis=1) for frame in (INFRARED, VISIBLE, FUSED)]


class Robot:
    """A loop that fuses a moving scene, 20 frames a second, and misses one deadline in ten."""

    def __init__(self, view):
        self.view, self.states, self.fusing = view, ["streaming", "streaming"], True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        for index in itertools.count():
            latency = 48.0 if index % 10 == 9 else 24 + 4 * np.sin(index / 5)
            status = {
                "index": index,
                "latency_ms": latency,
                "deadline_ms": 33.0,
                "fps": 20.0,
                "skew_ms": 3.2,
                "fused": index,
                "paired": index,
                "late": 1,
                "missed_deadlines": index // 10,
                "latency_p50_ms": 24.0,
                "latency_p90_ms": 28.0,
                "latency_p99_ms": 48.0,
                "latency_max_ms": 48.0,
                "dropped_infrared": 0,
                "dropped_visible": 2 * index,
                "infrared": {"state": self.states[0], "fps": 20.0, "frames": index, "dropped": 0, "reconnects": 0},
                "visible": {"state": self.states[1], "fps": 59.8, "frames": 3 * index, "dropped": 0, "reconnects": 1},
            }
            if self.fusing:
                self.view.publish(*moved(index), status)
            else:
                self.view.publish_status(status)
            if self._stop.wait(0.05):
                return

    def end(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def robot(browser):
    with LiveView(0, token=TOKEN) as view:
        robot = Robot(view)
        try:
            browser.get(view.url)
            wait(browser, lambda: text(browser, "connection") == "live")
            yield robot
        finally:
            robot.end()


def wait(browser, condition, seconds=20):
    WebDriverWait(browser, seconds, poll_frequency=0.05).until(lambda _: condition())


def text(browser, name):
    return browser.find_element(By.ID, name).text


def canvas(browser, name):
    """Return the picture of a canvas, uint8 BGR (H, W, 3), and the index of the frame that it says it shows."""
    script = """const c = document.getElementById(arguments[0]);
        return [c.width, c.height, c.dataset.index, c.toDataURL('image/png').split(',')[1]]"""
    width, height, index, png = browser.execute_script(script, name)
    image = cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (height, width, 3)
    return image, None if index is None else int(index)


def pause(browser):
    """Hold the picture: what was on its way is drawn, and no more comes."""
    browser.find_element(By.ID, "pause").click()
    wait(browser, lambda: text(browser, "connection") == "paused")
    time.sleep(0.5)


def difference(image, frame):
    frame = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame
    return np.abs(image.astype(int) - frame).mean()


def test_the_page_shows_the_frames_as_they_move(browser, robot, tmp_path):
    assert browser.title == "irvis"
    assert "token" not in browser.current_url
    seen = []
    for _ in range(3):
        pause(browser)
        index = canvas(browser, "fused")[1]
        for kind, frame in zip(KINDS, moved(index)):
            image, shown = canvas(browser, kind)
            assert shown == index
            assert difference(image, frame) < 5
        assert difference(image, moved(index + 1)[2]) > difference(image, frame) + 1
        seen.append(index)
        browser.find_element(By.ID, "pause").click()
        wait(browser, lambda: canvas(browser, "fused")[1] > seen[-1] + 3)
    assert seen == sorted(set(seen))
    browser.save_screenshot(str(tmp_path / "desktop.png"))


def test_the_chart_and_the_counters_move(browser, robot):
    def red():
        image = canvas(browser, "chart")[0].astype(int)
        return int(((image[..., 2] > 200) & (image[..., 0] < 140) & (image[..., 1] < 140)).sum())

    wait(browser, lambda: red() > 0)  # a missed deadline
    before, fused = canvas(browser, "chart")[0], text(browser, "counters")
    wait(browser, lambda: (canvas(browser, "chart")[0] != before).any() and text(browser, "counters") != fused)
    assert text(browser, "deadline") == "deadline 33 ms"
    assert "missed deadlines" in fused
    assert 20 <= float(text(browser, "latency")) <= 48


def test_the_slider_blends_from_infrared_over_fused_to_visible(browser, robot):
    pause(browser)
    pictures = {kind: canvas(browser, kind)[0].astype(float) for kind in KINDS}
    slide = """const s = document.getElementById('blend'); s.value = arguments[0];
        s.dispatchEvent(new Event('input', {bubbles: true})); return s.getAttribute('aria-valuetext')"""
    for value, side, says in [
        (0, "fused", "fused"),
        (-100, "infrared", "infrared"),
        (100, "visible", "visible"),
        (-50, "infrared", "50 % infrared, 50 % fused"),
        (25, "visible", "25 % visible, 75 % fused"),
    ]:
        assert browser.execute_script(slide, value) == says
        part = abs(value) / 100
        wanted = part * pictures[side] + (1 - part) * pictures["fused"]
        assert np.abs(canvas(browser, "blended")[0] - wanted).max() <= 2
    browser.find_element(By.CSS_SELECTOR, "[data-blend='100']").click()
    assert np.abs(canvas(browser, "blended")[0] - pictures["visible"]).max() <= 2


def test_the_snapshot_button_saves_the_frames_that_are_shown(browser, robot, tmp_path):
    pause(browser)
    index = canvas(browser, "fused")[1]
    browser.find_element(By.ID, "snapshot").click()
    wait(browser, lambda: list(tmp_path.glob("irvis_*.png")))
    image = cv2.imread(str(next(tmp_path.glob("irvis_*.png"))))
    np.testing.assert_array_equal(image[STRIP:, -640:], moved(index)[2])


def test_a_phone_scrolls_down_only(browser, robot, tmp_path):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    wide, inner = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert (wide, inner) == (390, 390)
    tops = [browser.find_element(By.ID, kind).rect["y"] for kind in KINDS]
    assert tops == sorted(set(tops))  # one under the other
    for name in ("pause", "snapshot"):
        box = browser.execute_script(f"return document.getElementById('{name}').getBoundingClientRect()")
        assert box["bottom"] <= 844  # in reach of the thumb
        assert box["height"] >= 44
    browser.save_screenshot(str(tmp_path / "phone.png"))


def test_what_is_wrong_is_said_in_words(browser, robot):
    assert text(browser, "infrared-state") == "infrared streaming"
    robot.states[:], robot.fusing = ["stalled", "reconnecting"], False
    wait(browser, lambda: text(browser, "connection") == "no frames")
    assert text(browser, "infrared-state") == "infrared stalled"
    assert text(browser, "visible-state") == "visible reconnecting"
    assert "bad" in browser.find_element(By.ID, "infrared-state").get_attribute("class")
    robot.fusing = True
    wait(browser, lambda: text(browser, "connection") == "live")


def test_the_page_comes_back_with_the_server(browser):
    with LiveView(0) as view:
        port = int(view.url.rpartition(":")[2].strip("/"))
        browser.get(view.url)
        wait(browser, lambda: text(browser, "connection") == "no frames")
    wait(browser, lambda: text(browser, "connection") == "no connection; trying again")
    with LiveView(port) as view:
        robot = Robot(view)
        wait(browser, lambda: text(browser, "connection") == "live")
        robot.end()


def test_a_viewer_too_many_reads_why(browser, monkeypatch):
    monkeypatch.setattr("irvis.runtime.web.live_view.MAX_VIEWERS", 0)
    with LiveView(0) as view:
        browser.get(view.url)
        wait(browser, lambda: text(browser, "connection") == "0 are watching already; trying again")


def test_irvis_run_is_seen_in_the_browser(browser):
    width, height = 160, 120
    scene = f"test://street?width={width}&height={height}&fps=10"
    program = [sys.executable, "-m", "irvis.runtime.cli", "run", "--infrared", scene, "--visible", scene, "--web", "0"]
    process = subprocess.Popen([*program, "--token", TOKEN], stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stdout.readline, "")
        url = next(line.split()[-1] for line in lines if line.startswith("live view: "))
        with urllib.request.urlopen(url.replace("?", "snapshot.png?"), timeout=10) as answer:  # while nobody watches
            snapshot = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
        assert snapshot.shape == (height + STRIP, 3 * width + 2 * GAP, 3)

        browser.get(url)
        infrared, visible = make_scene("street", height, width)
        seen = []
        for _ in range(2):
            wait(browser, lambda: canvas(browser, "fused")[1] not in (None, *seen))
            pause(browser)
            pictures = {kind: canvas(browser, kind)[0] for kind in KINDS}
            seen.append(canvas(browser, "fused")[1])
            for kind, half in (("infrared", infrared), ("visible", visible)):
                wide = np.concatenate([half, half[:, ::-1], half], axis=1)  # it drives past
                errors = [difference(pictures[kind], wide[:, left : left + width]) for left in range(2 * width)]
                assert min(errors) < 6 < np.median(errors)
            assert difference(pictures["fused"], pictures["visible"]) > 1
            browser.find_element(By.ID, "pause").click()
        assert seen[0] < seen[1]
        wait(browser, lambda: text(browser, "infrared-state") == "infrared streaming")
        wait(browser, lambda: text(browser, "latency") != "\N{EN DASH}")
        process.send_signal(signal.SIGINT)
        assert "deadline  of 33 ms missed by" in process.communicate(timeout=30)[0]
        assert process.returncode == 130
        wait(browser, lambda: text(browser, "connection") == "no connection; trying again")
    finally:
        process.kill()
