import queue
import threading

import cv2
import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("selenium")
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from irvis.runtime.errors import IrvisError
from irvis.runtime.samples import make_scene
from irvis.runtime.web.click import click_points

pytestmark = pytest.mark.system

INFRARED, VISIBLE = make_scene("street", 480, 640)
INFRARED = cv2.resize(INFRARED, (320, 240), interpolation=cv2.INTER_AREA)
SPOTS = [
    (40, 30),
    (280, 42),
    (270, 200),
    (50, 210),
    (150, 120),
    (200, 90),
]  # in the infrared; twice that in the visible


class Page:
    """The page of a call of click_points, opened in the browser."""

    def __init__(self, browser, **options):
        announced, self.result = queue.Queue(), queue.Queue()

        def body():
            try:
                options.update(port=0, token="t0ken-t0ken", announce=announced.put)
                self.result.put(click_points(INFRARED, VISIBLE, **options))
            except IrvisError as error:
                self.result.put(error)

        self.thread = threading.Thread(target=body, daemon=True)
        self.thread.start()
        self.browser = browser
        browser.get(announced.get(timeout=10).split()[-1])
        self.wait(lambda: self.text("hint").startswith("pair"))

    def wait(self, condition):
        WebDriverWait(self.browser, 15, poll_frequency=0.05).until(lambda _: condition())

    def text(self, name):
        return self.browser.find_element(By.ID, name).text

    def press(self, name):
        self.browser.find_element(By.ID, name).click()

    def click(self, kind, x, y):
        """Click at a pixel of an image, as near as the screen's pixels allow."""
        element = self.browser.find_element(By.ID, kind)
        scale = element.rect["width"] / (320 if kind == "infrared" else 640)
        across, down = (round((value + 0.5) * scale) for value in (x, y))
        middle = [round(element.rect[side] / 2) for side in ("width", "height")]
        ActionChains(self.browser, duration=20).move_to_element_with_offset(
            element, across - middle[0], down - middle[1]
        ).click().perform()

    def rows(self):
        script = (
            "return [...document.querySelectorAll('#rows tr')].map((row) => [...row.cells].map((c) => c.innerText))"
        )
        return [row[:4] for row in self.browser.execute_script(script)]


def test_pairs_are_clicked_and_saved(browser, tmp_path):
    page = Page(browser)
    assert not browser.find_element(By.ID, "save").is_enabled()
    for x, y in SPOTS:
        page.click("infrared", x, y)
        page.wait(lambda: "now the same point in the visible image" in page.text("hint"))
        page.click("visible", 2 * x, 2 * y)
        page.wait(lambda: "click a point in either image" in page.text("hint"))
    page.wait(lambda: ": error " in page.text("fit"))
    assert all(row[3].endswith(" px") for row in page.rows())
    browser.save_screenshot(str(tmp_path / "click.png"))
    page.press("save")
    page.wait(lambda: page.text("hint") == "saved 6 pairs; you can close this page")
    pairs = page.result.get(timeout=10)
    wanted = [(x, y, 2 * x, 2 * y) for x, y in SPOTS]
    np.testing.assert_allclose(pairs, wanted, atol=2)  # Selenium rounds the middle and the offset to whole pixels


def test_points_are_moved_undone_and_deleted(browser):
    page = Page(browser, existing=[(40, 30, 80, 60), (280, 42, 560, 84), (270, 200, 540, 400)])
    assert page.rows()[0][1:3] == ["40.0, 30.0", "80.0, 60.0"]
    marker = browser.find_element(By.CSS_SELECTOR, "#infrared .marker[data-i='0']")
    marker.send_keys(Keys.ARROW_RIGHT)
    page.wait(lambda: page.rows()[0][1] == "41.0, 30.0")
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_UP).key_up(Keys.SHIFT).perform()
    page.wait(lambda: page.rows()[0][1] == "41.0, 29.9")  # the marker has kept the focus
    page.press("undo")
    page.wait(lambda: page.rows()[0][1] == "41.0, 30.0")
    marker = browser.find_element(By.CSS_SELECTOR, "#visible .marker[data-i='1']")
    scale = browser.find_element(By.ID, "visible").rect["width"] / 640
    ActionChains(browser).drag_and_drop_by_offset(marker, -50, 20).perform()
    page.wait(lambda: page.rows()[1][2] != "560.0, 84.0")
    moved = [float(value) for value in page.rows()[1][2].split(", ")]
    np.testing.assert_allclose(moved, [560 - 50 / scale, 84 + 20 / scale], atol=0.1)
    browser.find_element(By.CSS_SELECTOR, "#rows button[aria-label='delete pair 1']").click()
    page.wait(lambda: len(page.rows()) == 2)
    page.press("save")
    pairs = page.result.get(timeout=10)
    np.testing.assert_allclose(pairs, [(280, 42, *moved), (270, 200, 540, 400)], atol=0.06)


def test_a_glass_enlarges_what_is_under_the_pointer(browser):
    page = Page(browser)
    glass = browser.find_element(By.CSS_SELECTOR, "#infrared canvas.lens")
    assert not glass.is_displayed()
    ActionChains(browser).move_to_element(browser.find_element(By.ID, "infrared")).perform()
    page.wait(glass.is_displayed)
    middle = [float(value) for value in page.text("infrared-at").split(", ")]
    np.testing.assert_allclose(middle, (159.5, 119.5), atol=0.6)
    page.press("cancel")


def test_cancel_ends_the_call_with_nothing(browser):
    page = Page(browser)
    page.press("cancel")
    page.wait(lambda: page.text("hint") == "cancelled; you can close this page")
    assert str(page.result.get(timeout=10)) == "calibration cancelled on the page; nothing was written"


def test_a_phone_scrolls_down_only(browser, tmp_path):
    page = Page(browser, existing=[(x, y, 2 * x, 2 * y) for x, y in SPOTS])
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    box = browser.find_element(By.CSS_SELECTOR, ".list")
    assert browser.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", box)
    browser.save_screenshot(str(tmp_path / "phone.png"))
    page.press("cancel")
