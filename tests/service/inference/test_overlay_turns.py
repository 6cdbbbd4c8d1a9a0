"""Overlays are drawn in turn by client, as images are decoded and classified."""

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.inference.classifier import Classification
from service.inference.overlay import Overlay, draw_overlay
from service.system.fair_queue import Rank
from tests.service.app_client import running


def test_the_overlay_of_one_client_waits_for_one_of_anothers_at_a_time(
    tiny: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    drawn: list[int] = []

    def draw(pixels: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> Overlay:
        assert go.wait(20)
        drawn.append(int(pixels[0, 0, 0]))
        return draw_overlay(pixels, heatmap)

    monkeypatch.setattr("service.inference.classifier.draw_overlay", draw)
    with running(tiny, decode_workers=1) as client:
        classifier = client.runtime.classifier
        code = classifier.manifest.codes[0]

        async def result() -> Classification:
            deadline = time.monotonic() + 20
            image, quality = await classifier.decode(jpeg, deadline=deadline)
            return await classifier.classify(image, quality, deadline=deadline)

        async def draw_all() -> None:
            found = await result()

            def begin(number: int, of: str) -> asyncio.Task[Overlay]:
                numbered = found._replace(pixels=np.full_like(found.pixels, number))
                return asyncio.create_task(classifier.overlay(numbered, code, rank=Rank(of, 0.0)))

            crowd = [begin(number, "crowd") for number in range(20)]
            await asyncio.sleep(0)  # all of them wait, but for the first
            one = begin(100, "one")
            await asyncio.sleep(0)
            go.set()
            await asyncio.gather(one, *crowd)

        client.call(draw_all())
    assert drawn[0] == 0
    assert drawn.index(100) <= 2
    assert len(drawn) == 21
