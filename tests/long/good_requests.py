"""Good requests, and what their answers must say: what was answered before the trouble began."""

import base64
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.long.drawn_files import MEDIA_TYPES, drawn_files

TOLERANCE = 1e-5
"""Of a probability: the same image in a batch of another size differs in the last digits."""

_PATIENCE = 20
"""Times that a client comes again when told to."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file with its reference answer.

    Attributes:
        answer: of ``/predict`` with an overlay.
        overlay: of that answer, uint8 ``[height, width, 3]``.
    """

    data: bytes
    media_type: str
    answer: dict[str, Any]
    overlay: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Asked:
    """One good request: how it was made, the last status, what was wrong with it, how long it took.

    Attributes:
        waits: times that the client was told to come again, and did.
        ended: when, on the clock of ``time.monotonic``.
    """

    kind: str
    status: int
    wrong: str
    seconds: float
    waits: int
    ended: float = field(default_factory=time.monotonic)


def image_files(seed: int, folder: Path | None, *, small: bool = False) -> list[tuple[str, bytes]]:
    """Media types and files: drawn ones in all formats and some sizes, real ones from ``folder``."""
    sizes = [(120, 90)] if small else [(120, 90), (600, 450), (1600, 1200)]
    found = []
    for index, (width, height) in enumerate(sizes):
        for name, data in drawn_files(seed + index, width, height).items():
            # Of the large ones some; all variants of a format are alike in what they cost.
            if index < 1 or name in ("jpeg-baseline", "jpeg-progressive", "png-rgb", "webp-lossy"):
                found.append((MEDIA_TYPES[name.partition("-")[0]], data))
    if folder is not None:
        paths = (
            sorted((folder / "images").glob("*.jpg"))[:40] + sorted((folder / "originals").glob("*.jpg"))[:10]
        )
        found += [("image/jpeg", path.read_bytes()) for path in paths]
    return found


def references(client: httpx.Client, files: Sequence[tuple[str, bytes]]) -> list[Sample]:
    """Ask for each file once, one after the other, before anything else goes on.

    Raises:
        AssertionError: one was not answered.
    """
    samples = []
    for media_type, data in files:
        response = client.post(
            "/predict?gradcam=true", content=data, headers={"content-type": media_type}, timeout=60
        )
        assert response.status_code == 200, response.text
        answer = response.json()
        assert abs(sum(answer["probabilities"].values()) - 1) < TOLERANCE
        samples.append(
            Sample(data, media_type, answer, _picture(base64.b64decode(answer["gradcam"]["data"])))
        )
    return samples


def samples_of(url: str) -> list[Sample]:
    """Some drawn samples with the answers of the server at ``url``."""
    with httpx.Client(base_url=url) as client:
        return references(client, image_files(1, None)[::3])


class Asker:
    """Asks for samples in all ways that the API offers, over one kept connection."""

    def __init__(self, url: str, samples: Sequence[Sample], key: str = "", *, timeout: float = 60) -> None:
        self._client = httpx.Client(base_url=url, timeout=timeout, headers={"X-API-Key": key} if key else {})
        self._samples = samples

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ask(self, rng: Random, *, shares: Sequence[float] = (5, 4, 2, 1, 2, 1)) -> Asked:
        """Make one request, drawn from ``rng``, and compare its answer with the reference.

        Args:
            rng: decides on everything.
            shares: of raw, form, with overlay, with a class, overlay only, batch.
        """
        kind = rng.choices(["raw", "form", "overlay", "class", "gradcam", "batch"], shares)[0]
        sample = rng.choice(self._samples)
        raw: dict[str, Any] = {"content": sample.data, "headers": {"content-type": sample.media_type}}
        form: dict[str, Any] = {"files": {"file": ("lesion", sample.data, sample.media_type)}}
        either = rng.choice([raw, form])
        several = rng.choices(self._samples, k=rng.randint(2, 4))
        broken = rng.choice([None, *range(len(several))])
        options: tuple[str, dict[str, Any]] = {
            "raw": ("/predict", raw),
            "form": ("/predict", form),
            "overlay": ("/predict?gradcam=true", either),
            "class": ("/predict?gradcam=true&gradcam_class=mel", either),
            "gradcam": ("/gradcam", either),
            "batch": ("/predict/batch", {"files": _batch(several, broken)}),
        }[kind]
        start, waits = time.monotonic(), 0
        try:
            while True:
                response = self._client.post(options[0], **options[1])
                if response.status_code not in (429, 503) or waits == _PATIENCE:
                    break
                waits += 1
                time.sleep(min(5.0, float(response.headers["retry-after"])))
        except httpx.HTTPError as error:
            return Asked(kind, 0, f"{type(error).__name__}: {error}", time.monotonic() - start, waits)
        seconds = time.monotonic() - start
        if response.status_code != 200:
            wrong = response.text[:300]
        elif kind == "batch":
            wrong = _wrong_batch(response.json(), several, broken)
        elif kind == "gradcam":
            wrong = _wrong_overlay(response.content, sample)
        else:
            wrong = _wrong_answer(response.json(), sample)
            if kind == "overlay" and not wrong:
                wrong = _wrong_overlay(base64.b64decode(response.json()["gradcam"]["data"]), sample)
        return Asked(kind, response.status_code, wrong, seconds, waits)


def _batch(samples: Sequence[Sample], broken: int | None) -> list[tuple[str, tuple[str, bytes]]]:
    """The parts of a batch, one of which may be no image."""
    return [("files", ("x", b"no image" if i == broken else s.data)) for i, s in enumerate(samples)]


def _wrong_batch(body: dict[str, Any], samples: Sequence[Sample], broken: int | None) -> str:
    if len(body["results"]) != len(samples):
        return f"{len(body['results'])} results for {len(samples)} images"
    for index, (result, sample) in enumerate(zip(body["results"], samples, strict=True)):
        kind = "problem" if index == broken else "prediction"
        found = (result.pop("kind"), result.pop("index"), result.pop("filename"))
        if found != (kind, index, "x"):
            wrong = f"is {found}"
        else:
            wrong = "" if index == broken else _wrong_answer(result, sample)
        if wrong:
            return f"result {index}: {wrong}"
    return ""


def _wrong_answer(body: dict[str, Any], sample: Sample) -> str:
    """What differs from the reference, in words; empty if nothing does."""
    expected = sample.answer
    if body.keys() != expected.keys():
        return f"has {', '.join(body)}"
    for code, probability in expected["probabilities"].items():
        if not abs(body["probabilities"][code] - probability) <= TOLERANCE:
            return f"{code} is {body['probabilities'][code]}, was {probability}"
    for name, key in (("model", "name"), ("prediction", "label"), ("malignancy", "flag")):
        if body[name][key] != expected[name][key]:
            return f"{key} is {body[name][key]}, was {expected[name][key]}"
    # Whether there is anything to see depends on the class that was asked for.
    codes, were = ({w["code"] for w in x["warnings"]} - {"empty_heatmap"} for x in (body, expected))
    return "" if codes == were else f"warnings are {codes}, were {were}"


def _wrong_overlay(data: bytes, sample: Sample) -> str:
    difference = np.abs(_picture(data) - sample.overlay).max()
    return "" if difference <= 3 else f"the overlay differs by {difference} of 255"


def _picture(data: bytes) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int16)
