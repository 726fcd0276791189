"""Every page of the site opens, whole, and asks for nothing from elsewhere."""

import html.parser
import re
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from paths import ROOT

pytestmark = pytest.mark.docs

PAGES = sorted(
    path.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
    for path in (ROOT / "docs").rglob("*.md")
)
MAIN = ["index", "concepts", "knobs", "explorer", "tutorial", "coming_from_bop", "methods"]
MAIN += ["export", "scaling_out", "results", "benchmark", "api/index", "api/filters"]


class Parts(html.parser.HTMLParser):
    """Links, ids, and what a page loads by itself."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.loaded = set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and "href" in attributes:
            self.links.add(attributes["href"])
        for name in ("src", "srcset", "poster", "data"):
            if tag != "a" and attributes.get(name):
                self.loaded.append(attributes[name])
        if tag == "link" and attributes.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(attributes["href"])


@pytest.fixture(scope="module")
def parts(site):
    files = site.rglob("*.html")
    return {path.relative_to(site).as_posix(): Parts(path.read_text()) for path in files}


def test_there_is_a_page_for_each_source(parts):
    assert set(parts) == {*PAGES, "404.html"}


def test_no_link_is_broken(parts, site):
    """Those in docstrings and in HTML too, which the build does not look at."""
    broken = []
    for page, found in parts.items():
        for link in sorted(found.links):
            target, anchor = urldefrag(link)
            if urlsplit(link).scheme or page == "404.html":  # that one has absolute addresses
                continue
            path = ((site / page).parent / unquote(urlsplit(target).path)).resolve()
            to = path.relative_to(site.resolve()).as_posix() if target else page
            if not (path.exists() or not target):
                broken.append((page, link))
            elif anchor and to in parts and unquote(anchor) not in parts[to].ids:
                broken.append((page, link))
    assert not broken


def test_links_elsewhere_are_to_papers_and_to_larq(parts):
    hosts = {urlsplit(link).netloc for found in parts.values() for link in found.links} - {""}
    assert hosts <= {"arxiv.org", "docs.larq.dev", "keepachangelog.com", "larq.dev", "semver.org"}


def test_no_file_names_something_to_load_from_elsewhere(parts, site):
    loaded = {url for found in parts.values() for url in found.loaded}
    assert not [url for url in loaded if urlsplit(url).netloc]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text()), sheet


@pytest.mark.parametrize("page", PAGES)
def test_page(browser, address, page):
    asked_for = browser.open(f"{address}/{page}")
    browser.run("for (const i of document.images) i.loading = 'eager'")
    asked_for += browser.asked_for()
    assert {url for url in asked_for if not url.startswith(address)} == set()
    assert browser.complaints() == []
    headings, pictures = browser.run("""
        return [[...document.querySelectorAll("article h1")].map((h) => h.innerText.trim()),
                [...document.images].map((i) => [i.src, i.alt, i.complete && i.naturalWidth])]
    """)
    assert len(headings) == 1 and headings[0]
    assert all(alt and width for _, alt, width in pictures), pictures


@pytest.mark.parametrize("page", MAIN)
def test_page_fits_a_phone(browser, address, page):
    """Tables and code scroll by themselves; the page does not."""
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.open(f"{address}/{page}.html")
        assert browser.run("return document.documentElement.scrollWidth") <= 400
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme, name", [("light", "default"), ("dark", "slate")])
def test_scheme_of_the_reader(browser, address, scheme, name):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.prefers(scheme)
    try:
        browser.driver.get("about:blank")  # so that no page writes down again what it shows
        browser.forget(address)
        browser.open(f"{address}/concepts.html")
        chosen = "return document.body.dataset.mdColorScheme"
        WebDriverWait(browser.driver, 30).until(lambda driver: browser.run(chosen) == name)
        ground = browser.run("""
            return getComputedStyle(document.querySelector("article img")).backgroundColor
        """)
        assert ground == "rgb(255, 255, 255)"  # black lines are drawn on it
    finally:
        browser.prefers("light")


def test_search(browser, address):
    """From an index of the site's own, in the page."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.open(f"{address}/index.html")
    found = WebDriverWait(browser.driver, 30)
    browser.driver.find_element(By.CSS_SELECTOR, ".md-search__input").send_keys("butterworth")
    links = found.until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, ".md-search-result__link")
    )
    assert any("api/filters.html" in link.get_attribute("href") for link in links)
    assert {url for url in browser.asked_for() if not url.startswith(address)} == set()
