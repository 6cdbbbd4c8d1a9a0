"""Rates of keys and of anonymous clients, and how many requests a key has at one time."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from service.admission.api_keys import line_of
from tests.service.admission.keyed import NORTH, SOUTH, STRANGER, metric, sent, with_clock, write
from tests.service.admission.test_api_keys import SECOND, Clock
from tests.service.app_client import running, wait_for
from tests.service.blocked_inference import BlockedInference
from tests.service.conftest import JPEG, assert_problem


def test_a_key_may_send_its_burst_and_then_its_rate(
    tiny: Path, tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", line_of("north", NORTH), line_of("south", SOUTH, rate=6))
    limits = {"rate_limit": 40, "rate_burst": 2}
    with with_clock(monkeypatch, clock), running(tiny, api_keys_file=path, **limits) as door:

        def predict(token: str) -> httpx.Response:
            return door.post("/predict", content=jpeg, headers=JPEG | sent(token))

        assert [predict(NORTH).status_code for _ in range(2)] == [200, 200]
        refused = predict(NORTH)
        assert_problem(refused, 429, "rate-limited")
        assert refused.headers["retry-after"] == "2"  # 1.5, in whole seconds
        clock.now += 3 * SECOND // 2 - 1
        assert predict(NORTH).status_code == 429
        clock.now += 1
        assert [predict(NORTH).status_code for _ in range(2)] == [200, 429]
        # Another key has an account of its own, and its line's rate.
        assert [predict(SOUTH).status_code for _ in range(2)] == [200, 200]
        assert predict(SOUTH).headers["retry-after"] == "10"
        # What is no image costs nothing; metrics and model neither.
        assert door.get("/model", headers=sent(NORTH)).status_code == 200
        assert metric(door, 'rejections_total{reason="rate_limit"}', headers=sent(NORTH)) == 4
        # A new token of the same name inherits the account.
        write(path, line_of("south", STRANGER, rate=6))
        clock.now += SECOND
        assert predict(STRANGER).headers["retry-after"] == "9"


def test_a_batch_counts_its_images(
    tiny: Path, tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    path = write(tmp_path / "keys", line_of("north", NORTH, rate=60))
    with with_clock(monkeypatch, clock), running(tiny, api_keys_file=path, rate_burst=4) as door:

        def batch(images: int) -> httpx.Response:
            files = [("files", jpeg)] * images
            return door.post("/predict/batch", files=files, headers=sent(NORTH))

        assert batch(3).status_code == 200
        refused = batch(3)
        assert_problem(refused, 429, "rate-limited")
        # One image's worth was there. It paid for receiving this body, or it could be sent again and again.
        assert refused.headers["retry-after"] == "3"
        assert_problem(batch(1), 429, "rate-limited")
        clock.now += 3 * SECOND
        assert batch(3).status_code == 200
        clock.now += 4 * SECOND
        assert batch(6).status_code == 200  # more than fit: from a full bucket, owing two
        assert batch(1).headers["retry-after"] == "3"


def test_anonymous_clients_share_one_account(
    tiny: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with with_clock(monkeypatch, Clock()), running(tiny, rate_limit=1, rate_burst=1) as door:
        statuses = [door.post("/predict", content=jpeg, headers=JPEG).status_code for _ in range(2)]
        assert statuses == [200, 429]


def test_a_key_has_so_many_requests_in_the_house_at_once(
    tiny: Path, tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "keys", line_of("north", NORTH), line_of("south", SOUTH))
    blocked = BlockedInference(monkeypatch)
    with running(tiny, api_keys_file=path, max_concurrent_per_key=2) as door:
        blocked.patch()
        try:
            options: dict[str, Any] = {"content": jpeg, "headers": JPEG | sent(NORTH)}
            inside = [door.begin("POST", "/predict", **options) for _ in range(2)]
            wait_for(lambda: door.runtime.admission.requests == 2)
            refused = door.post("/predict", **options)
            assert_problem(refused, 429, "rate-limited")
            assert refused.headers["retry-after"] == "1"
            assert metric(door, 'rejections_total{reason="concurrency"}', headers=sent(NORTH)) == 1
            other = door.begin("POST", "/predict", content=jpeg, headers=JPEG | sent(SOUTH))
            wait_for(lambda: door.runtime.admission.requests == 3)
        finally:
            blocked.released.set()
        assert [future.result(20).status_code for future in (*inside, other)] == [200] * 3
        # One after the other: the place is free before the answer is there.
        assert [door.post("/predict", **options).status_code for _ in range(3)] == [200] * 3
        # A refused body gives its place back too.
        for _ in range(3):
            bad = door.post("/predict", content=b"nothing", headers=JPEG | sent(NORTH))
            assert bad.status_code == 415
