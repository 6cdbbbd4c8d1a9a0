"""Several images at once: the table, two results side by side, the CSV file, and a printed result."""

import base64
import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from tests.browser.test_result import answered, percent
from tests.browser.visitor import Visitor
from tests.service.process import Process
from tests.synthetic import draw_lesion

CODES = ("mel", "nv", "bkl")


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("lesions")
    paths = [folder / f"ward 3, {code}.jpg" for code in CODES]
    for number, path in enumerate(paths):
        draw_lesion(np.random.default_rng(number), code=CODES[number]).save(path, quality=90)
    return paths


def wait_for_rows(visitor: Visitor, number: int) -> None:
    visitor.wait_for(
        lambda: len(visitor.find_all("#rows tr")) == number and visitor.focused() == "list-title"
    )


def wait_for_result_of(visitor: Visitor, name: str) -> None:
    visitor.wait_for(lambda: visitor.sees("#result") and visitor.reads("#subject-name") == name)


def interrupt_second_request(visitor: Visitor, script: str) -> None:
    """Run ``script`` in place of sending the second request from now on."""
    visitor.js(
        f"""
        const send = XMLHttpRequest.prototype.send;
        let sent = 0;
        XMLHttpRequest.prototype.send = function (body) {{
          sent += 1;
          if (sent === 2) {{ {script} }} else send.call(this, body);
        }};
        """
    )


def cells(visitor: Visitor) -> list[list[str]]:
    """File, flag, malignancy, label and warnings of each row."""
    rows = visitor.find_all("#rows tr")
    return [[cell.text for cell in row.find_elements("css selector", "th, td")][2:] for row in rows]


def download(visitor: Visitor) -> list[dict[str, str]]:
    """Choose "Save as CSV", and return the rows of the file."""
    text: str = visitor.driver.execute_async_script(
        """
        const done = arguments[0];
        const create = URL.createObjectURL;
        URL.createObjectURL = (blob) => { blob.text().then(done); return create(blob); };
        HTMLAnchorElement.prototype.click = () => {};
        document.getElementById("save").click();
        """
    )
    assert text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text)))


def test_several_images_give_a_table_with_the_answers_of_the_api(
    visitor: Visitor, server: Process, lesions: list[Path], tmp_path: Path
) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear colleague")
    visitor.visit(server.url)
    visitor.choose(letter, *lesions)
    wait_for_rows(visitor, 4)
    assert not visitor.sees("#result")
    bodies = {path.name: answered(server, path, "") for path in lesions}
    expected = sorted(bodies, key=lambda name: -bodies[name]["malignancy"]["probability"])
    *rows, refused = cells(visitor)
    assert [row[0] for row in rows] == expected
    for name, flag, malignancy, label, warnings in rows:
        body = bodies[name]
        title = {"malignant": "▲ Flagged as malignant", "benign": "○ Not flagged"}
        assert flag == title[body["malignancy"]["flag"]]
        assert malignancy == percent(body["malignancy"]["probability"])
        assert label == body["prediction"]["name"]
        assert warnings == ", ".join(w["code"].replace("_", " ") for w in body["warnings"])
    assert refused[:2] == ["letter.txt", "Not an image of an accepted format"]

    saved = download(visitor)
    assert [row["file"] for row in saved] == [*expected, "letter.txt"]
    for row in saved[:-1]:
        body = bodies[row["file"]]
        assert {code: float(row[code]) for code in body["probabilities"]} == body["probabilities"]
        assert (row["flag"], row["label"]) == (body["malignancy"]["flag"], body["prediction"]["label"])
        assert row["model"] == "{name} {version}".format(**body["model"])
    assert saved[-1]["problem"] == "Not an image of an accepted format"
    assert saved[-1]["flag"] == ""


def test_a_row_opens_the_whole_result_under_its_file_name(
    visitor: Visitor, server: Process, lesions: list[Path]
) -> None:
    visitor.visit(server.url)
    visitor.choose(*lesions)
    wait_for_rows(visitor, 3)
    for row in visitor.find_all("#rows tr"):
        button = row.find_element("css selector", "button")
        name = button.text
        button.click()
        wait_for_result_of(visitor, name)
        (path,) = (path for path in lesions if path.name == name)
        figure = percent(answered(server, path)["malignancy"]["probability"])
        assert figure in visitor.reads("#flag-figures")
        assert visitor.js("return document.getElementById('subject-picture').width") > 50
    assert len(cells(visitor)) == 3


def test_two_results_stand_side_by_side(visitor: Visitor, server: Process, lesions: list[Path]) -> None:
    visitor.visit(server.url)
    visitor.choose(*lesions)
    wait_for_rows(visitor, 3)
    first, second, third = visitor.find_all("#rows input")
    assert not visitor.find("#compare").is_enabled()
    first.click()
    second.click()
    assert not third.is_enabled(), "only two can be compared"
    names = [row[0] for row in cells(visitor)][:2]
    visitor.find("#compare").click()
    visitor.wait_for(lambda: visitor.focused() == "comparison-title")
    cards = visitor.find_all("#pair article")
    assert [card.find_element("css selector", "h3").text for card in cards] == names
    for card, name in zip(cards, names, strict=True):
        (path,) = (path for path in lesions if path.name == name)
        body = answered(server, path)
        assert percent(body["malignancy"]["probability"]) in card.text
        assert len(card.find_elements("css selector", ".bars tr")) == len(body["probabilities"])
        source = str(card.find_element("css selector", "img").get_attribute("src"))
        assert base64.b64decode(source.partition(",")[2]) == base64.b64decode(body["gradcam"]["data"])


@pytest.mark.parametrize("changes", [1, 9])
def test_results_of_different_models_are_not_compared(
    visitor: Visitor, server: Process, lesions: list[Path], changes: int
) -> None:
    visitor.visit(server.url)
    visitor.choose(*lesions)
    wait_for_rows(visitor, 3)
    visitor.js(
        """
        const { get } = Object.getOwnPropertyDescriptor(XMLHttpRequest.prototype, "response");
        const answers = new WeakMap();
        let changes = arguments[0];
        window.asked = 0;
        Object.defineProperty(XMLHttpRequest.prototype, "response", { get() {
          if (!answers.has(this) && this.readyState === 4) {
            const found = get.call(this);
            answers.set(this, found);
            if (found?.probabilities) {
              window.asked += 1;
              if (changes-- > 0) found.model.version = `0.0.${changes}`;
            }
          }
          return answers.get(this) ?? get.call(this);
        } });
        """,
        changes,
    )
    for box in visitor.find_all("#rows input")[:2]:
        box.click()
    visitor.find("#compare").click()
    if changes == 1:
        visitor.wait_for(lambda: visitor.focused() == "comparison-title")
    else:
        visitor.wait_for_trouble()
        assert "different models" in visitor.reads("#trouble")
        assert not visitor.sees("#comparison")
    assert visitor.js("return window.asked") == 3


def test_after_a_failure_of_the_service_the_rest_is_classified_once(
    visitor: Visitor, server: Process, lesions: list[Path]
) -> None:
    visitor.visit(server.url)
    visitor.wait_for(lambda: visitor.reads("#model"))
    interrupt_second_request(visitor, "this.onerror()")
    visitor.choose(*lesions)
    visitor.wait_for_trouble()
    assert len(cells(visitor)) == 1
    visitor.find("#again").click()
    wait_for_rows(visitor, 3)
    assert {row[0] for row in cells(visitor)} == {path.name for path in lesions}


def test_results_are_collected_only_if_the_visitor_wants_it(
    visitor: Visitor, server: Process, lesions: list[Path], tmp_path: Path
) -> None:
    formula = tmp_path / "=1+1.jpg"
    formula.write_bytes(lesions[0].read_bytes())
    visitor.visit(server.url)
    visitor.choose(lesions[0])
    visitor.wait_for_result()
    assert not visitor.sees("#list")
    visitor.find("#keep").click()
    for path in (lesions[1], formula):
        visitor.choose(path)
        wait_for_result_of(visitor, path.name)
    assert {row[0] for row in cells(visitor)} == {lesions[1].name, "=1+1.jpg"}
    assert "'=1+1.jpg" in {row["file"] for row in download(visitor)}, "a spreadsheet must not run it"
    visitor.find("#clear").click()
    assert not visitor.sees("#list")
    visitor.visit(server.url)
    assert cells(visitor) == []


def test_a_printed_result_has_one_page_and_says_what_it_is_of(
    visitor: Visitor, server: Process, lesions: list[Path]
) -> None:
    visitor.visit(server.url)
    visitor.choose(lesions[0])
    visitor.wait_for_result()
    visitor.js("window.print = () => {}; document.getElementById('print').click()")
    visitor.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    body = answered(server, lesions[0])
    printed = visitor.reads("#printed")
    for text in (lesions[0].name, "{name} {version}".format(**body["model"]), "none", "Research use only"):
        assert text in printed
    assert re.search(r"Request id\n[0-9A-Z]{26}", printed)
    for selector in ("#flag", "#bars", "#overlay", "#original", ".notice"):
        assert visitor.sees(selector)
    for selector in ("#drop", "#list", "#about", "#print", "footer", ".controls"):
        assert not visitor.sees(selector)
    paper = {"printBackground": False, "paperWidth": 8.27, "paperHeight": 11.69}
    pdf = base64.b64decode(visitor.driver.execute_cdp_cmd("Page.printToPDF", paper)["data"])
    assert len(re.findall(rb"/Type */Page\b", pdf)) == 1


def test_a_row_keeps_the_metadata_it_was_made_with(
    visitor: Visitor, server: Process, lesions: list[Path]
) -> None:
    visitor.visit(server.url)
    visitor.wait_for(lambda: visitor.sees("#known"))
    visitor.find("#keep").click()
    visitor.choose(lesions[0])
    wait_for_result_of(visitor, lesions[0].name)
    visitor.js(
        "const age = document.getElementById('age'); age.value = '30';"
        "age.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    visitor.wait_for(lambda: "age 30" in visitor.reads("#used"))
    visitor.choose(lesions[1])
    wait_for_result_of(visitor, lesions[1].name)
    assert visitor.reads("#used") == "Metadata used: none.", "the next image may be of another patient"
    assert len(cells(visitor)) == 2
    saved = {row["file"]: row for row in download(visitor)}
    assert saved[lesions[0].name]["metadata_used"] == "age=30"
    assert saved[lesions[1].name]["metadata_used"] == ""

    (button,) = (b for b in visitor.find_all("#rows button") if b.text == lesions[0].name)
    button.click()
    wait_for_result_of(visitor, lesions[0].name)
    assert "age 30" in visitor.reads("#used")
    figure = float(saved[lesions[0].name]["malignancy"])
    assert percent(figure) in visitor.reads("#flag-figures")


def test_what_is_left_of_cancelled_images_is_in_the_table(
    visitor: Visitor, server: Process, lesions: list[Path]
) -> None:
    visitor.visit(server.url)
    visitor.wait_for(lambda: visitor.reads("#model"))
    interrupt_second_request(visitor, "/* it is never answered */")
    visitor.choose(*lesions)
    visitor.wait_for(lambda: len(cells(visitor)) == 1)
    visitor.find("#cancel").click()
    assert [row[1] for row in cells(visitor)][1:] == ["Not classified"] * 2


def test_the_browsers_own_print_command_prints_the_result_that_is_shown(
    visitor: Visitor, server: Process, lesions: list[Path]
) -> None:
    visitor.visit(server.url)
    for path in lesions[:2]:
        visitor.choose(path)
        wait_for_result_of(visitor, path.name)
    visitor.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert lesions[1].name in visitor.reads("#printed")
