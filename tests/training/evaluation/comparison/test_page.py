"""The page is complete, self-contained, and sortable in a real browser (if one is installed)."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from training.evaluation.comparison.page import Section, card, missing, paragraph, render_page, sortable_table
from training.evaluation.comparison.results import Cell, Table

VOID = {"meta", "img"}
TABLE = Table(
    ("model", "accuracy"),
    (
        (Cell("beta", key="beta"), Cell("0.700", "[0.6, 0.8]", 0.7)),
        (Cell("alpha", key="alpha"), Cell("–")),
        (Cell("<i>gamma", key="<i>gamma"), Cell("0.900", key=0.9, strong=True)),
    ),
)


class Checked(HTMLParser):
    """Parses a page, checks that tags are closed in order, and collects links, ids and images."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        found = dict(attrs)
        self.links += [str(found[name]) for name in ("src", "href") if name in found]
        self.ids += [str(found["id"])] if "id" in found else []
        if tag == "img":
            self.images.append(found)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_self_contained(page: str) -> Checked:
    found = Checked(page)
    assert not re.search(r"https?://|@import|url\(", page)
    for link in found.links:
        assert link.startswith(("data:image/", "#"))
        assert link[0] != "#" or link[1:] in found.ids
    assert len(set(found.ids)) == len(found.ids)
    assert all(image["alt"] for image in found.images)
    assert 'querySelectorAll("table.sortable")' in page
    return found


@pytest.fixture
def page() -> str:
    inner = Section("A < B", [missing("Not shown: nothing & no one.")])
    sections = [
        Section("Table", [sortable_table(TABLE, "Press a title")]),
        Section("Pictures", [card(b"\x89PNG...", 'a "dot"', "caption", wide=True)], [inner]),
    ]
    return render_page("Title", [paragraph("1 < 2")], sections)


def test_the_page_is_complete_and_self_contained(page: str) -> None:
    found = check_self_contained(page)
    assert [link for link in found.links if link.startswith("#")] == ["#s1", "#s2", "#s2-1"]
    assert "<h2 " in page
    assert "<h3 " in page


def test_text_is_escaped(page: str) -> None:
    assert "<i>gamma" not in page
    assert "&lt;i&gt;gamma" in page
    assert "A &lt; B" in page
    assert 'alt="a &#34;dot&#34;"' in page


def test_markdown_and_page_emphasise_the_same_cells() -> None:
    assert TABLE.markdown().splitlines() == [
        "| model | accuracy |",
        "| --- | --- |",
        "| beta | 0.700 [0.6, 0.8] |",
        "| alpha | – |",
        "| <i>gamma | **0.900** |",
    ]
    assert TABLE.markdown([]).splitlines()[0] == "| model |"


def test_tables_sort_by_mouse_and_keyboard(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    webdriver = pytest.importorskip("selenium.webdriver")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no chromium with chromedriver: sorting is not tried in a browser")
    monkeypatch.setenv("SE_OFFLINE", "true")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        window.get((tmp_path / "page.html").as_uri())

        def names() -> list[str]:
            return [cell.text for cell in window.find_elements("css selector", "tbody th")]

        by_name, by_accuracy = window.find_elements("css selector", "thead button")
        titles = window.find_elements("css selector", "thead th")
        assert names() == ["beta", "alpha", "<i>gamma"]
        by_accuracy.click()
        assert names() == ["<i>gamma", "beta", "alpha"]
        assert titles[1].get_attribute("aria-sort") == "descending"
        by_accuracy.send_keys("\ue007")  # Enter
        assert names() == ["beta", "<i>gamma", "alpha"]  # what is unknown stays last
        assert titles[1].get_attribute("aria-sort") == "ascending"
        by_name.send_keys(" ")
        assert names() == ["<i>gamma", "alpha", "beta"]
        assert titles[1].get_attribute("aria-sort") is None
    finally:
        window.quit()
