"""The built site, served on the loopback, and a browser that reaches nothing else."""

import functools
import http.server
import json
import os
import shutil
import threading
from urllib.parse import urlsplit

import pytest

from paths import ROOT

SITE = ROOT / "site"
SOURCES = ("docs", "larq_filter", "mkdocs.yml", "README.md", "CHANGELOG.md", "SECURITY.md")
SOURCES += ("results/cifar10/PROTOCOL.md",)
ADDRESS = "127.0.0.1"


def program(*names):
    """Path of the first program that there is."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.exit(
            f"There is no {names[0]}: install Chromium and its driver (Debian: apt-get install "
            "chromium chromium-driver) or put them on the path.",
            returncode=1,
        )
    return found


def newest(path):
    files = path.rglob("*") if path.is_dir() else [path]
    files = (file for file in files if file.is_file() and "__pycache__" not in file.parts)
    return max(file.stat().st_mtime for file in files)


@pytest.fixture(scope="session")
def site():
    """The folder that `make docs` has built."""
    index = SITE / "index.html"
    if not index.exists() or index.stat().st_mtime < max(newest(ROOT / each) for each in SOURCES):
        pytest.exit("site/ is not there, or older than its sources: make docs", returncode=1)
    return SITE


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address(site):
    """URL of the served site, without a slash at its end."""
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer((ADDRESS, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{ADDRESS}:{server.server_port}"
        server.shutdown()
        thread.join()


class Browser:
    """Headless Chromium: ``open`` a page; ``driver`` is Selenium's."""

    def __init__(self):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = program("chromium", "chromium-browser", "google-chrome")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        arguments = ["--headless=new", "--disable-gpu", "--disable-background-networking"]
        arguments += ["--window-size=1300,1000", "--disable-dev-shm-usage"]
        arguments += [f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {ADDRESS}"]
        if os.getuid() == 0:
            arguments.append("--no-sandbox")  # Chromium's own refuses root
        for argument in arguments:
            options.add_argument(argument)
        self.driver = webdriver.Chrome(options, Service(program("chromedriver")))
        self.driver.set_page_load_timeout(60)

    def open(self, url: str) -> list[str]:
        """Loads a page; the addresses that it has asked for, and what went wrong in it."""
        for kind in ("performance", "browser"):
            self.driver.get_log(kind)  # those of the page before
        self.driver.get("about:blank")
        self.driver.get(url)
        return self.asked_for()

    def asked_for(self) -> list[str]:
        """Addresses that pages have asked for since the last call; data in the page is none."""
        messages = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        urls = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if urlsplit(url).scheme not in ("data", "blob", "about")]

    def complaints(self) -> list[str]:
        """Errors and warnings in the console since the last call."""
        entries = self.driver.get_log("browser")
        return [e["message"] for e in entries if e["level"] in ("SEVERE", "WARNING")]

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def forget(self, origin: str) -> None:
        """What a site has stored, such as the reader's choice of colours."""
        stored = {"origin": origin, "storageTypes": "local_storage"}
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", stored)

    def prefers(self, scheme: str) -> None:
        """Colours as the reader's system asks for: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture(scope="session")
def browser():
    made = Browser()
    yield made
    made.driver.quit()
