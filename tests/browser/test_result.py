"""The page shows for an image what the API returns."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageFilter

from models.labels import Label
from models.preprocess import decode
from tests.browser.visitor import END, HOME, Visitor
from tests.service.process import Process, process
from tests.tiny_bundle import write_tiny_bundle

TWO = (Label("benign", "Harmless thing", False), Label("malignant", "Bad thing", True))


def answered(server: Process, path: Path, query: str = "?gradcam=true") -> dict[str, Any]:
    """Return the response of the API for the same bytes."""
    answer = httpx.post(f"{server.url}/predict{query}", files={"file": path.read_bytes()}, timeout=40)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def percent(share: float) -> str:
    """Format a share as the page does: only 0 is 0 %, and only 1 is 100 %."""
    text = f"{100 * share:.1f} %"
    return {"0.0 %": "< 0.1 %", "100.0 %": "> 99.9 %"}.get(text, text) if 0 < share < 1 else text


def assert_shows(visitor: Visitor, body: dict[str, Any], model: dict[str, Any]) -> None:
    """Check that the page shows the whole response."""
    names = {entry["code"]: entry["name"] for entry in model["classes"]}
    malignant = {entry["code"] for entry in model["classes"] if entry["malignant"]}
    rows = visitor.find_all("#bars tr")
    figures = [figure.text for figure in visitor.find_all("#bars .figure")]
    codes = [str(row.get_attribute("data-code")) for row in rows]
    assert dict(zip(codes, figures, strict=True)) == {c: percent(p) for c, p in body["probabilities"].items()}
    assert codes == sorted(codes, key=lambda code: -body["probabilities"][code])
    assert all(row.text.startswith(names[code]) for code, row in zip(codes, rows, strict=True))
    assert {code for code, row in zip(codes, rows, strict=True) if "▲ malignant" in row.text} == malignant
    bars = visitor.js(
        "return [...document.querySelectorAll('#bars .fill')].map(e => parseFloat(e.style.width))"
    )
    assert bars == pytest.approx([100 * body["probabilities"][code] for code in codes], rel=1e-4, abs=1e-4)

    title = {"malignant": "▲ Flagged as malignant", "benign": "○ Not flagged"}[body["malignancy"]["flag"]]
    assert visitor.reads("#flag-title") == title
    assert percent(body["malignancy"]["probability"]) in visitor.reads("#flag-figures")
    assert percent(body["malignancy"]["threshold"]) in visitor.reads("#flag-figures")
    # How often the flag errs, on the test part where the bundle tells: not where the threshold was chosen.
    figure = {"malignant": "specificity", "benign": "sensitivity"}[body["malignancy"]["flag"]]
    measured = model["metrics"].get(f"malignancy_{figure}", model["operating_point"][figure])["value"]
    assert f"{100 * (1 - measured):.0f} of 100" in visitor.reads("#flag-meaning")
    assert_worth(visitor, body, model)
    bridge = [w["detail"] for w in body["warnings"] if w["code"] == "flag_label_disagree"]
    assert visitor.reads("#flag-disagree") == "".join(bridge)
    pick = f"{body['prediction']['name']} ({percent(body['prediction']['probability'])})"
    assert pick in visitor.reads("#pick")
    listed = [item.text.removesuffix(" ▲ malignant") for item in visitor.find_all("#set-list li")]
    assert listed == [names[code] for code in body["prediction_set"]["labels"]]
    least = min(body["probabilities"][code] for code in body["prediction_set"]["labels"])
    longer = [
        c for c in codes if body["probabilities"][c] > least and c not in body["prediction_set"]["labels"]
    ]
    assert all(names[code] in visitor.reads("#set-meaning") for code in longer)
    assert ("although the bar is longer" in visitor.reads("#set-meaning")) == bool(longer)
    elsewhere = ("empty_heatmap", "flag_label_disagree")  # at the picture, at the flag
    details = [w["detail"] for w in body["warnings"] if w["code"] not in elsewhere]
    assert [item.text for item in visitor.find_all("#warning-list li")] == details
    assert visitor.sees("#warnings") == bool(details)
    assert overlay(visitor) == base64.b64decode(body["gradcam"]["data"])
    assert visitor.js("return document.getElementById('class').value") == body["gradcam"]["label"]
    shown = visitor.reads("#shown")
    assert shown.startswith(f"Shown: evidence for {names[body['gradcam']['label']]}")
    for_the_flag = body["gradcam"]["label"] != body["prediction"]["label"]
    assert ("because the image is flagged" in shown) == for_the_flag
    assert (f"The class picked is {body['prediction']['name']}" in shown) == for_the_flag


def assert_worth(visitor: Visitor, body: dict[str, Any], model: dict[str, Any]) -> None:
    """Check that the page shows how many lesions with this flag are malignant, at each prevalence."""
    flagged = body["malignancy"]["flag"] == "malignant"
    assert model["predictive_values"][-1]["prevalence"] == 0.05
    for at in model["predictive_values"]:
        share = at["positive"] if flagged else 1 - at["negative"]
        count = f"{100 * share:.0f} of 100" if 100 * share >= 0.5 else "fewer than 1 of 100"
        place = f"{100 * at['prevalence']:.0f} of 100 lesions are malignant"
        assert f"{count} where {place}" in visitor.reads("#flag-worth")


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def overlay(visitor: Visitor) -> bytes:
    source = str(visitor.find("#overlay").get_attribute("src"))
    return base64.b64decode(source.removeprefix("data:image/png;base64,"))


def canvas(visitor: Visitor) -> np.ndarray:
    """Return the pixels under the overlay, uint8 RGB."""
    url = visitor.js("return document.getElementById('seen').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def screenshot(visitor: Visitor) -> np.ndarray:
    png = visitor.find("#stack").screenshot_as_png
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.float64)


@pytest.mark.parametrize("give", [Visitor.drop, Visitor.choose, Visitor.paste], ids=lambda g: g.__name__)
def test_an_image_dropped_chosen_or_pasted_gets_the_numbers_of_the_api(
    visitor: Visitor, server: Process, lesion: Path, give: Callable[[Visitor, Path], None]
) -> None:
    visitor.visit(server.url)
    give(visitor, lesion)
    visitor.wait_for_result()
    model = httpx.get(f"{server.url}/model").json()
    assert_shows(visitor, answered(server, lesion), model)
    assert f"{model['name']} {model['version']}" in visitor.reads("#model")


def test_a_real_image_gets_the_numbers_of_the_api(visitor: Visitor, server: Process, ham10000: Path) -> None:
    path = sorted(ham10000.glob("**/*.jpg"))[0]
    visitor.visit(server.url)
    visitor.drop(path)
    visitor.wait_for_result()
    assert_shows(visitor, answered(server, path), httpx.get(f"{server.url}/model").json())


def test_a_flag_over_a_benign_label_is_explained_in_text_and_overlay(
    visitor: Visitor, server: Process, ham10000: Path
) -> None:
    """Uses the first real lesion that is flagged although its label is benign."""
    model = httpx.get(f"{server.url}/model").json()
    for path in sorted(ham10000.glob("originals/*.jpg")):
        body = answered(server, path)
        if "flag_label_disagree" in [warning["code"] for warning in body["warnings"]]:
            break
    else:
        pytest.fail("no original is flagged over a benign class")
    malignant = [entry["code"] for entry in model["classes"] if entry["malignant"]]
    assert body["malignancy"]["flag"] == "malignant"
    assert body["gradcam"]["label"] == max(malignant, key=body["probabilities"].__getitem__)
    visitor.visit(server.url)
    visitor.choose(path)
    visitor.wait_for_result()
    assert_shows(visitor, body, model)
    assert "disagree" in visitor.reads("#flag-disagree")
    visitor.find(f"#class option[value={body['prediction']['label']}]").click()
    visitor.wait_for(lambda: "because the image is flagged" not in visitor.reads("#shown"))
    assert visitor.reads("#shown") == f"Shown: evidence for {body['prediction']['name']}."


def test_warnings_come_first(visitor: Visitor, server: Process, lesion: Path, tmp_path: Path) -> None:
    path = tmp_path / "blurred.jpg"
    opened(lesion).filter(ImageFilter.GaussianBlur(15)).resize((150, 110)).save(path)
    visitor.visit(server.url)
    visitor.choose(path)
    visitor.wait_for_result()
    body = answered(server, path)
    assert {w["code"] for w in body["warnings"]} >= {"blurred", "low_resolution"}
    assert_shows(visitor, body, httpx.get(f"{server.url}/model").json())
    assert visitor.find("#warnings").location["y"] < visitor.find("#flag").location["y"]


@pytest.mark.parametrize("kind", ["upright", "turned by the camera", "transparent"])
def test_the_overlay_lies_over_the_pixels_that_the_model_read(
    visitor: Visitor, server: Process, lesion: Path, tmp_path: Path, kind: str
) -> None:
    image = opened(lesion)
    path = lesion
    if kind == "turned by the camera":
        exif = Image.Exif()
        exif[0x0112] = 6
        path = tmp_path / "turned.jpg"
        image.save(path, exif=exif)
    elif kind == "transparent":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        path = tmp_path / "transparent.png"
        image.save(path)
    visitor.visit(server.url)
    visitor.choose(path)
    visitor.wait_for_result()
    expected = decode(path.read_bytes()).pixels
    assert canvas(visitor).shape == expected.shape
    assert np.abs(canvas(visitor).astype(int) - expected).mean() < 2


def test_the_slider_sets_the_opacity_of_the_overlay(visitor: Visitor, server: Process, lesion: Path) -> None:
    visitor.visit(server.url)
    visitor.choose(lesion)
    visitor.wait_for_result()
    slider = visitor.find("#strength")
    full = screenshot(visitor)
    slider.send_keys(HOME)
    assert visitor.reads("#strength-value") == "0 %"
    none = screenshot(visitor)
    slider.send_keys(END)
    assert np.abs(screenshot(visitor) - full).max() <= 1
    visitor.js("arguments[0].value = 50; arguments[0].dispatchEvent(new Event('input'))", slider)
    half = screenshot(visitor)
    assert visitor.reads("#strength-value") == "50 %"
    whole = np.abs(full - none).mean()
    assert whole > 2
    assert np.abs(half - none).mean() == pytest.approx(whole / 2, rel=0.1)


def test_another_class_can_be_explained(visitor: Visitor, server: Process, lesion: Path) -> None:
    visitor.visit(server.url)
    visitor.choose(lesion)
    visitor.wait_for_result()
    before, table = overlay(visitor), visitor.reads("#bars")
    code = answered(server, lesion)["gradcam"]["label"]
    other = next(c["code"] for c in httpx.get(f"{server.url}/model").json()["classes"] if c["code"] != code)
    visitor.find(f"#class option[value={other}]").click()
    visitor.wait_for(lambda: overlay(visitor) != before)
    body = answered(server, lesion, f"?gradcam=true&gradcam_class={other}")
    assert overlay(visitor) == base64.b64decode(body["gradcam"]["data"])
    assert visitor.reads("#bars") == table
    name = visitor.reads(f"#class option[value={other}]")
    assert name in str(visitor.find("#overlay").get_attribute("alt"))


def test_a_format_that_the_browser_cannot_show_is_shown_as_its_overlay(
    visitor: Visitor, server: Process, lesion: Path, tmp_path: Path
) -> None:
    path = tmp_path / "lesion.tif"
    opened(lesion).save(path)
    visitor.visit(server.url)
    visitor.choose(path)
    visitor.wait_for_result()
    assert_shows(visitor, answered(server, path), httpx.get(f"{server.url}/model").json())
    assert visitor.sees("#overlay")
    assert not visitor.sees("#strength")
    assert not visitor.sees("#original")
    assert "browser cannot show" in visitor.reads("#overlay-note")
    visitor.choose(lesion)  # and the next one is whole again
    visitor.wait_for(lambda: visitor.sees("#original"))
    assert visitor.sees("#strength")


def test_a_grey_bundle_with_two_classes_is_shown(visitor: Visitor, lesion: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "two", color="grey", height=28, width=28, classes=TWO).path
    with process(tmp_path, bundle) as server:
        server.wait_ready()
        visitor.visit(server.url)
        visitor.choose(lesion)
        visitor.wait_for_result()
        assert_shows(visitor, answered(server, lesion), httpx.get(f"{server.url}/model").json())
        assert visitor.reads("#malignant-names") == "Bad thing"
        assert canvas(visitor).shape == (28, 28, 3)
        visitor.find("#strength").send_keys(HOME)
        inside = screenshot(visitor)[20:-20, 20:-20]
        assert np.ptp(inside, axis=2).max() <= 1, "the model sees no colours"


def test_the_page_stores_nothing(visitor: Visitor, server: Process, lesion: Path) -> None:
    visitor.visit(server.url)
    assert "not stored anywhere" in visitor.reads("#drop")
    visitor.choose(lesion)
    visitor.wait_for_result()
    kept = visitor.driver.execute_async_script(
        """
        const done = arguments[0];
        Promise.all([caches.keys(), indexedDB.databases()]).then(([cached, databases]) =>
          done([localStorage.length, sessionStorage.length, document.cookie, cached, databases]));
        """
    )
    assert kept == [0, 0, "", [], []]
    assert "Jane" not in server.output()
