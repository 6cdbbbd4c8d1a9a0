"""A headless Chromium, and servers for it to visit."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from service.admission.api_keys import line_of, new_token
from tests.browser.visitor import Visitor
from tests.service.process import Process, process
from tests.synthetic import draw_lesion
from tests.tiny_bundle import write_tiny_bundle

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,1000",
    # As on a clinic's network: nothing but the service can be reached.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator["WebDriver"]:
    """The browser. Without one the tests are skipped."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing: no page was tested")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("chromium and chromedriver are not both installed: no page was tested in a browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def visitor(driver: "WebDriver") -> Iterator[Visitor]:
    """A visitor. The test fails if a script fails or another host gets a request."""
    visitor = Visitor(driver)
    yield visitor
    visitor.leave()
    assert visitor.complaints() == []
    assert visitor.strange_hosts() == set()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, shipped_bundle: Path) -> Iterator[Process]:
    """A server of the shipped bundle, for all tests that do not change it."""
    with process(tmp_path_factory.mktemp("server"), shipped_bundle) as server:
        server.wait_ready()
        yield server


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that loads quickly, for servers that a test starts."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle")).path


@pytest.fixture(scope="session")
def lesion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn lesion in a JPEG file."""
    path = tmp_path_factory.mktemp("images") / "Jane Doe.jpg"
    draw_lesion(np.random.default_rng(1), code="mel").save(path, quality=90)
    return path


@pytest.fixture
def key_file(tmp_path: Path) -> tuple[Path, str]:
    """A file with one API key, and the key."""
    path, token = tmp_path / "keys", new_token()
    path.write_text(line_of("nurse", token) + "\n")
    path.chmod(0o600)
    return path, token
