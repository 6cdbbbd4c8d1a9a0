"""HEIC files that are damaged, lie or cost much, beside ordinary images."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.heif_files import tiled_heif, with_size
from tests.service.decoders import peak_memory
from tests.service.decoding.test_decoder import MAX_PIXELS, PLAN, Server, pool
from tests.synthetic import draw_lesion, encoded

pytest.importorskip("pillow_heif", reason="the extra 'heif' is not installed: HEIC is NOT tested")

from tests.long.drawn_files import drawn_heifs

import_module("models.heif")  # so that Pillow can write them

__all__ = ["pool"]  # a fixture

FLAT = Image.new("RGB", (2048, 2048), (200, 150, 120))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Server]:
    """Its deadline is far: on a busy machine, the limit of processor time is reached late."""
    limits: dict[str, Any] = {"DECODE_WORKERS": 2, "DECODE_TIMEOUT": 1, "MAX_PIXELS": MAX_PIXELS}
    server = Server(tmp_path_factory.mktemp("heif"), tiny, REQUEST_TIMEOUT=300, STUCK_AFTER=300, **limits)
    try:
        server.wait_ready()
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def heic() -> bytes:
    return drawn_heifs(4, 320, 240)["heif-rgb"]


@pytest.fixture(scope="module")
def large() -> bytes:
    """Nearly the most pixels that are accepted."""
    lesion = draw_lesion(np.random.default_rng(1), code="mel", width=400, height=300)
    return encoded(lesion.resize((3600, 2700)), "HEIF", enc_params={"preset": "ultrafast"})


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition(":")[2]


def test_a_small_file_of_many_tiles_is_killed_and_its_neighbours_lose_nothing(
    server: Server, jpeg: bytes, pool: ThreadPoolExecutor
) -> None:
    bomb = tiled_heif(FLAT, 24, 24, 100, 100)
    assert len(bomb) < 20_000
    right = pytest.approx(server.predict(jpeg).json()["probabilities"], abs=1e-6)
    killed = server.exits("timeout")
    with peak_memory(server.process.pid) as peak:
        attack = pool.submit(server.predict, bomb, 300)
        answers = [server.predict(jpeg)]
        while not attack.done():
            answers.append(server.predict(jpeg))
    assert problem(attack.result()) == (422, "image-too-costly")
    assert server.exits("timeout") == killed + 1
    assert all(answer.json()["probabilities"] == right for answer in answers)
    assert 0 < peak() < PLAN
    assert server.status("/readyz") == 200


def test_a_large_one_is_answered_and_takes_no_more_than_planned(server: Server, large: bytes) -> None:
    with peak_memory(server.process.pid) as peak:
        assert server.predict(large, 300).status_code == 200
    assert 0 < peak() < PLAN


@pytest.mark.parametrize("kind", ["half", "head", "header bit", "small size", "few tiles", "large tile"])
def test_damaged_and_lying_files_are_422(server: Server, heic: bytes, large: bytes, kind: str) -> None:
    flipped = bytearray(heic)
    flipped[heic.index(b"pitm") + 9] ^= 0x10  # the number of the primary image
    data = {
        "half": large[: len(large) // 2],
        "head": heic[:60],
        "header bit": bytes(flipped),
        "small size": with_size(large, 96, 72),
        "few tiles": tiled_heif(FLAT.crop((0, 0, 64, 64)), 2, 2, 3000, 3000),
        "large tile": with_size(tiled_heif(FLAT, 2, 2, 128, 128), 64, 64),
    }[kind]
    with peak_memory(server.process.pid) as peak:
        assert problem(server.predict(data, 300)) == (422, "corrupt-image")
    assert 0 < peak() < PLAN
    assert server.predict(heic).status_code == 200


def test_a_size_above_the_limit_is_413_before_anything_is_decoded(server: Server, heic: bytes) -> None:
    spent = server.metric("dermaserve_decoder_exits_total")
    for size in ((MAX_PIXELS, 2), (20_000, 20_000), (100_000, 100_000)):
        assert problem(server.predict(with_size(heic, *size))) == (413, "image-too-large")
    assert problem(server.predict(tiled_heif(FLAT, 2, 2, 4096, 4096))) == (413, "image-too-large")
    assert server.metric("dermaserve_decoder_exits_total") == spent


def test_in_a_batch_only_the_damaged_one_fails(server: Server, heic: bytes, jpeg: bytes) -> None:
    batch = [("files", each) for each in (heic, heic[:-200], jpeg, with_size(heic, 20_000, 20_000))]
    results = httpx.post(server.url + "/predict/batch", files=batch, timeout=300).json()["results"]
    assert [result.get("status") for result in results] == [None, 422, None, 413]
