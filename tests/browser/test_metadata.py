"""The page's optional fields for age, sex and body site."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser.test_accessibility import assert_accessible
from tests.browser.test_result import percent
from tests.browser.visitor import TAB, Visitor
from tests.service.process import Process, process
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Return a server whose model reads metadata."""
    folder = tmp_path_factory.mktemp("metadata")
    bundle = write_tiny_bundle(folder / "bundle", metadata=True).path
    with process(folder, bundle) as server:
        server.wait_ready()
        yield server


def figures(server: Process, path: Path, **data: str) -> list[str]:
    """Return the probabilities of the API, in the order and the format of the page."""
    answer = httpx.post(f"{server.url}/predict", files={"file": path.read_bytes()}, data=data, timeout=40)
    body: dict[str, Any] = answer.json()
    return [percent(p) for p in sorted(body["probabilities"].values(), reverse=True)]


def shown(visitor: Visitor) -> list[str]:
    return [figure.text for figure in visitor.find_all("#bars .figure")]


def pick(visitor: Visitor, name: str, value: str) -> None:
    visitor.find(f"#{name} option[value='{value}']").click()


def test_a_result_uses_the_fields_and_says_which(visitor: Visitor, reader: Process, lesion: Path) -> None:
    visitor.visit(reader.url)
    visitor.wait_for(lambda: visitor.sees("#known"))
    assert [option.text for option in visitor.find_all("#site option")] == ["not known", "back", "face"]
    visitor.find("#age").send_keys("55")
    pick(visitor, "site", "back")
    visitor.choose(lesion)
    visitor.wait_for_result()
    assert visitor.reads("#used") == "Metadata used: age 55, site back."
    assert shown(visitor) == figures(reader, lesion, age="55", site="back")
    assert "25.0 %" in visitor.reads("#flag-figures"), "the threshold for images with metadata"


def test_a_change_classifies_again_and_leaves_the_visitor_at_the_fields(
    visitor: Visitor, reader: Process, lesion: Path
) -> None:
    visitor.visit(reader.url)
    visitor.choose(lesion)
    visitor.wait_for_result()
    assert visitor.reads("#used") == "Metadata used: none."
    assert shown(visitor) == figures(reader, lesion)
    visitor.find("#age").send_keys("70" + TAB)
    visitor.wait_for(lambda: visitor.sees("#used") and "age 70" in visitor.reads("#used"))
    assert visitor.focused() == "sex"
    assert shown(visitor) == figures(reader, lesion, age="70")
    visitor.find("#known button").click()
    visitor.wait_for(lambda: visitor.sees("#used") and "none" in visitor.reads("#used"))
    assert shown(visitor) == figures(reader, lesion)


def test_another_image_begins_without_the_values_of_the_one_before(
    visitor: Visitor, reader: Process, lesion: Path
) -> None:
    visitor.visit(reader.url)
    visitor.wait_for(lambda: visitor.sees("#known"))
    visitor.find("#age").send_keys("55")
    visitor.choose(lesion)
    visitor.wait_for_result()
    assert visitor.reads("#used") == "Metadata used: age 55."
    visitor.choose(lesion)
    visitor.wait_for(lambda: visitor.sees("#used") and "none" in visitor.reads("#used"))
    assert shown(visitor) == figures(reader, lesion)


def test_another_class_is_explained_with_the_same_metadata(
    visitor: Visitor, reader: Process, lesion: Path
) -> None:
    visitor.visit(reader.url)
    visitor.wait_for(lambda: visitor.sees("#known"))
    pick(visitor, "sex", "male")
    visitor.choose(lesion)
    visitor.wait_for_result()
    before = visitor.find("#overlay").get_attribute("src")
    other = next(o for o in visitor.find_all("#class option") if not o.is_selected())
    other.click()
    visitor.wait_for(lambda: visitor.find("#overlay").get_attribute("src") != before)
    assert visitor.reads("#used") == "Metadata used: sex male."


def test_an_impossible_age_is_not_sent(visitor: Visitor, reader: Process, lesion: Path) -> None:
    visitor.visit(reader.url)
    visitor.wait_for(lambda: visitor.sees("#known"))
    visitor.find("#age").send_keys("130")
    visitor.choose(lesion)
    visitor.wait_for_trouble()
    assert visitor.reads("#trouble-title") == "Check the age"
    visitor.find("#age").clear()
    visitor.find("#age").send_keys("13" + TAB)
    visitor.wait_for_result()
    assert visitor.reads("#used") == "Metadata used: age 13."


def test_a_model_that_reads_only_images_has_no_fields(
    visitor: Visitor, server: Process, lesion: Path
) -> None:
    if httpx.get(f"{server.url}/model").json().get("metadata") is not None:
        pytest.skip("the shipped model reads metadata")
    visitor.visit(server.url)
    visitor.choose(lesion)
    visitor.wait_for_result()
    assert not visitor.sees("#known")
    assert not visitor.sees("#used")


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (360, "dark"), (1200, "light")])
def test_the_fields_have_names_contrast_and_room(
    visitor: Visitor, reader: Process, lesion: Path, width: int, scheme: str
) -> None:
    visitor.look(width=width, scheme=scheme)
    visitor.visit(reader.url)
    visitor.wait_for(lambda: visitor.sees("#known"))
    visitor.find("#age").send_keys("55")
    pick(visitor, "site", "face")
    visitor.choose(lesion)
    visitor.wait_for_result()
    assert_accessible(visitor)
    assert visitor.js("return document.documentElement.scrollWidth") <= width
    names = [field.accessible_name for field in visitor.find_all("#known input, #known select")]
    assert names == ["Age in years", "Sex", "Body site"]
    assert visitor.js("return Math.min(...[...document.querySelectorAll('#known :is(input, select, button)')]"
                      ".map((e) => e.getBoundingClientRect().height))") >= 24  # fmt: skip
