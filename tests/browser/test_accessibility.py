"""The page without a mouse, without sight, enlarged, in the dark and on a phone."""

from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter

from tests.browser.visitor import DOWN, ENTER, LEFT, TAB, Visitor
from tests.service.process import Process

AXE = (resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}

RUN = """
const [options, done] = arguments;
axe.run(document, options).then((found) => done({
  passes: found.passes.map((rule) => rule.id),
  violations: found.violations.map((rule) => [rule.id, rule.nodes.map((node) => node.failureSummary)]),
}), (error) => done({passes: [], violations: [["axe", String(error)]]}));
"""


@pytest.fixture
def blurred(lesion: Path, tmp_path: Path) -> Path:
    """An image that gets warnings."""
    path = tmp_path / "blurred.png"
    with Image.open(lesion) as image:
        image.filter(ImageFilter.GaussianBlur(15)).resize((150, 110)).save(path)
    return path


def assert_accessible(visitor: Visitor) -> None:
    """Check the visible page against the rules of axe-core, the contrast of texts (WCAG 1.4.3) among them."""
    visitor.js(AXE)
    found: dict[str, Any] = visitor.driver.execute_async_script(RUN, RULES)
    assert found["violations"] == []
    assert "color-contrast" in found["passes"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_names_roles_structure_and_contrast_in_every_state(
    visitor: Visitor, server: Process, lesion: Path, blurred: Path, tmp_path: Path, scheme: str
) -> None:
    text = tmp_path / "letter.txt"
    text.write_text("Dear colleague")
    visitor.look(scheme=scheme)
    visitor.visit(server.url)
    for path in (lesion, blurred):
        visitor.choose(path)
        visitor.wait_for_result()
        visitor.js("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
        assert_accessible(visitor)
    dark = visitor.js("return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 128")
    assert dark == (scheme == "dark")
    visitor.choose(text)
    visitor.wait_for_trouble()
    visitor.js("document.getElementById('key-form').hidden = false")
    assert_accessible(visitor)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_table_and_a_comparison_are_accessible_and_fit(
    visitor: Visitor, server: Process, lesion: Path, blurred: Path, scheme: str, width: int
) -> None:
    visitor.look(scheme=scheme, width=width)
    visitor.visit(server.url)
    visitor.choose(lesion, blurred)
    visitor.wait_for(lambda: len(visitor.find_all("#rows tr")) == 2 and visitor.focused() == "list-title")
    assert_accessible(visitor)
    assert visitor.js("return document.documentElement.scrollWidth") <= width
    for box in visitor.find_all("#rows input"):
        box.click()
    visitor.find("#compare").click()
    visitor.wait_for(lambda: visitor.focused() == "comparison-title")
    assert_accessible(visitor)
    assert visitor.js("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [320, 360, 600, 1200])
def test_the_page_fits_a_phone_and_200_percent_zoom(
    visitor: Visitor, server: Process, blurred: Path, width: int
) -> None:
    visitor.look(width=width)
    visitor.visit(server.url)
    visitor.choose(blurred)
    visitor.wait_for_result()
    assert visitor.js("return document.documentElement.scrollWidth") <= width
    small = visitor.js(
        "return [...document.querySelectorAll('button, .button, select, #strength, summary')]"
        ".filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 24).map((e) => e.outerHTML)"
    )
    assert small == [], "too small for a thumb (WCAG 2.2, 2.5.8)"


def test_everything_works_by_keyboard_in_reading_order(
    visitor: Visitor, server: Process, lesion: Path
) -> None:
    visitor.visit(server.url)
    visitor.wait_for(lambda: visitor.reads("#model"))
    visitor.press(TAB)
    assert visitor.focused() == "file"
    assert visitor.find(".button").value_of_css_property("outline-style") == "solid", "the focus is not seen"
    visitor.choose(lesion)  # what the system's own dialogue would do
    visitor.wait_for_result()
    assert visitor.focused() == "result-title", "a screen reader begins with the result"

    visitor.press(TAB)
    assert visitor.focused() == "class"
    before = visitor.find("#overlay").get_attribute("src")
    visitor.press(DOWN)
    visitor.wait_for(lambda: visitor.find("#overlay").get_attribute("src") != before)
    assert visitor.focused() == "class"
    visitor.press(TAB)
    assert visitor.focused() == "strength"
    visitor.press(LEFT)
    assert visitor.find("#overlay").value_of_css_property("opacity") == "0.95"
    visitor.press(TAB)
    assert visitor.focused() == "print"
    for details in ("#facts", "#limits"):
        visitor.press(TAB)
        assert visitor.focused() == "summary"
        assert not visitor.sees(details)
        visitor.press(ENTER)
        assert visitor.sees(details)
    visitor.press(TAB)
    assert visitor.js("return document.activeElement.getAttribute('href')") == "model"
    visitor.press(TAB)
    assert visitor.js("return document.activeElement.getAttribute('href')") == "docs"


def test_a_screen_reader_finds_names_roles_and_headings(
    visitor: Visitor, server: Process, lesion: Path
) -> None:
    visitor.visit(server.url)
    visitor.choose(lesion)
    visitor.wait_for_result()
    assert visitor.js("return document.documentElement.lang") == "en"
    named = {
        element.get_attribute("id"): (element.aria_role, element.accessible_name)
        for element in visitor.find_all("main input, main select, main canvas, main img, main table")
        if visitor.js("return arguments[0].checkVisibility() && !arguments[0].ariaHidden", element)
    }
    assert named["file"][1] == "Choose images …"
    assert named["class"] == ("combobox", "Show the evidence for")
    assert named["strength"] == ("slider", "Strength of the colours")
    assert named["overlay"][0] in ("image", "img")
    assert "evidence for" in named["overlay"][1]
    assert named["original"][1] == "Your image"
    assert all(name for _, name in named.values()), named
    regions = {
        element.accessible_name for element in visitor.find_all("main section") if element.is_displayed()
    }
    assert {"Choose images", "Result", "Probability of each class"} <= regions
    levels = visitor.js(
        "return [...document.querySelectorAll('h1, h2, h3, h4')].filter((e) => e.checkVisibility())"
        ".map((e) => Number(e.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels)), levels
    assert visitor.find("#status").aria_role == "status"
    assert visitor.find("#overlay-note").aria_role == "status"
    assert visitor.js("return document.getAnimations()") == [], "nothing moves by itself"
