"""Swagger UI: an upload with its form, the overlay as an image, examples of all responses."""

import json
from pathlib import Path

import httpx
import pytest

from tests.browser.prefix_proxy import prefixed
from tests.browser.visitor import Visitor
from tests.service.process import Process


def unfold(visitor: Visitor, url: str, operation: str) -> None:
    visitor.visit(f"{url}/docs")
    summary = f"{operation} .opblock-summary-control"
    visitor.wait_for(lambda: visitor.sees(summary))
    visitor.find(summary).click()
    visitor.wait_for(lambda: visitor.sees(f"{operation} .execute"))


@pytest.mark.parametrize("media_type", ["multipart/form-data", "image/jpeg"])
def test_swagger_ui_shows_the_overlay_of_an_image(
    visitor: Visitor, server: Process, lesion: Path, media_type: str
) -> None:
    operation = "#operations-images-gradcam"
    unfold(visitor, server.url, operation)
    option = f"{operation} .body-param-content-type option[value='{media_type}']"
    visitor.wait_for(lambda: visitor.find_all(option))
    visitor.find(option).click()
    visitor.wait_for(lambda: visitor.find_all(f"{operation} input[type=file]"))
    visitor.find(f"{operation} input[type=file]").send_keys(str(lesion))
    visitor.find(f"{operation} .execute").click()
    picture = f"{operation} .live-responses-table img"
    visitor.wait_for(lambda: visitor.sees(picture))
    visitor.wait_for(lambda: visitor.find(picture).get_property("naturalWidth") == 224)


def test_swagger_ui_shows_the_numbers_of_the_api(visitor: Visitor, server: Process, lesion: Path) -> None:
    operation = "#operations-images-predict"
    unfold(visitor, server.url, operation)
    visitor.find(f"{operation} input[type=file]").send_keys(str(lesion))
    visitor.find(f"{operation} .execute").click()
    shown = f"{operation} .live-responses-table .response-col_description .microlight"
    visitor.wait_for(lambda: visitor.sees(shown))
    body = json.loads(visitor.reads(shown))
    direct = httpx.post(f"{server.url}/predict", files={"file": lesion.read_bytes()}, timeout=40).json()
    assert body["metadata_used"] is None, "nothing is sent that the visitor did not enter"
    assert body["probabilities"] == direct["probabilities"]


def test_swagger_ui_works_under_a_path_prefix(visitor: Visitor, server: Process) -> None:
    operation = "#operations-model-model"
    with prefixed(server.url, "/clinic/skin") as url:
        unfold(visitor, url, operation)
        visitor.find(f"{operation} .execute").click()
        status = f"{operation} .live-responses-table tr.response .response-col_status"
        visitor.wait_for(lambda: visitor.sees(status) and visitor.reads(status).strip()[:3].isdecimal())
        assert visitor.reads(status).strip().startswith("200")
        visitor.leave()


def test_every_answer_and_every_error_has_an_example(visitor: Visitor, server: Process) -> None:
    visitor.visit(f"{server.url}/docs")
    visitor.wait_for(lambda: visitor.sees(".opblock-summary-control"))
    visitor.js("document.querySelectorAll('.opblock-summary-control').forEach((node) => node.click())")
    operations = visitor.find_all(".opblock")
    assert len(operations) >= 7
    assert not visitor.find_all("[id$=-reload]"), "nobody may use it, as there are no keys"
    visitor.wait_for(lambda: len(visitor.find_all(".opblock .responses-inner")) == len(operations))
    rows = visitor.js(
        "return [...document.querySelectorAll('.opblock .response')].map((row) => ["
        "row.closest('.opblock').id, row.dataset.code, row.querySelector('.example')?.textContent ?? ''])"
    )
    assert len(rows) > len(operations)
    empty = [f"{block} {code}" for block, code, text in rows if text.strip(' \n"') in ("", "string")]
    assert empty == ["operations-model-model 304"], "which has no body"


def test_examples_of_errors_are_folded_and_the_page_is_one_click_away(
    visitor: Visitor, server: Process
) -> None:
    operation = "#operations-images-predict"
    unfold(visitor, server.url, operation)
    refused, answer = f"{operation} tr[data-code='415']", f"{operation} tr[data-code='200']"
    visitor.wait_for(lambda: visitor.sees(f"{answer} .example"))
    assert visitor.sees(f"{refused} summary")
    hidden = [f"{refused} {part}" for part in (".example", ".response-controls", ".headers-wrapper")]
    assert not any(visitor.sees(part) for part in hidden)
    visitor.find(f"{refused} summary").click()
    visitor.wait_for(lambda: all(visitor.sees(part) for part in hidden))
    visitor.find("nav a").click()
    visitor.wait_for(lambda: visitor.sees("#drop"))
