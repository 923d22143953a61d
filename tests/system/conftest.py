"""A real browser, for the pages."""

import shutil

import pytest


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium that saves what it downloads in tmp_path, and whose console must stay empty."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium or chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for name in (
        "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync window-size=1440,1000"
    ).split():
        options.add_argument(f"--{name}")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield browser
        complaints = [entry["message"] for entry in browser.get_log("browser")]
    finally:
        browser.quit()
    # What the browser itself says of a server that a test has stopped.
    assert not [message for message in complaints if "ERR_CONNECTION" not in message]
