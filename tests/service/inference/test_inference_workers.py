"""The numbers of inference workers and of their threads, by settings and by default."""

from pathlib import Path

import pytest

from service.inference.loader import load, verify
from tests.service.app_client import running, settings_for, wait_for
from tests.service.blocked_inference import BlockedInference
from tests.service.conftest import JPEG


@pytest.mark.parametrize(
    ("workers", "threads", "expected"),
    [(None, None, (6, 1)), (1, None, (1, 6)), (2, None, (2, 3)), (9, None, (9, 1)), (None, 2, (6, 2))],
)
def test_the_cores_are_divided_among_the_workers(
    workers: int | None,
    threads: int | None,
    expected: tuple[int, int],
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.inference.loader.usable_cpus", lambda: 6)
    settings = settings_for(tiny, inference_workers=workers, intra_op_threads=threads)
    loaded = load(verify(settings), settings)
    assert (loaded.inference_workers, loaded.intra_op_threads) == expected
    assert (loaded.max_batch_size, loaded.batch_timeout) == (2, 0.0)


@pytest.mark.parametrize("threads", [None, 1])
def test_an_image_that_is_alone_uses_more_threads(
    threads: int | None,
    tiny: Path,
    blocked: BlockedInference,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.inference.loader.usable_cpus", lambda: 2)
    blocked.released.set()
    with running(tiny, intra_op_threads=threads, inference_workers=2) as client:
        blocked.patch()
        alone = client.post("/predict", content=jpeg, headers=JPEG).json()["probabilities"]
        blocked.released.clear()
        futures = [client.begin("POST", "/predict", content=jpeg, headers=JPEG) for _ in range(2)]
        wait_for(lambda: len(blocked.sizes) == 3)
        blocked.released.set()
        together = [future.result(20).json()["probabilities"] for future in futures]
        assert together == [pytest.approx(alone, abs=1e-6)] * 2
    # The second of three may have begun before the third arrived.
    assert (blocked.alone[0], blocked.alone[2]) == (True, False)


def test_an_image_that_is_alone_has_its_own_session_unless_a_setting_says_how_many_threads(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.inference.loader.usable_cpus", lambda: 2)
    for threads, workers, expected in ((None, None, True), (None, 1, False), (1, None, False)):
        settings = settings_for(tiny, intra_op_threads=threads, inference_workers=workers)
        session = load(verify(settings), settings).session
        assert (session._lone_session is not session._session) == expected


def test_each_worker_runs_its_own_image(tiny: Path, blocked: BlockedInference, jpeg: bytes) -> None:
    with running(tiny, inference_workers=3) as client:
        blocked.patch()
        futures = [client.begin("POST", "/predict", content=jpeg, headers=JPEG) for _ in range(5)]
        wait_for(lambda: len(blocked.sizes) == 3 and "queue_depth 2.0" in client.get("/metrics").text)
        blocked.released.set()
        assert [future.result(20).status_code for future in futures] == [200] * 5
        metrics = client.get("/metrics").text
    assert blocked.sizes == [1] * 5
    assert "batch_size_count 5.0" in metrics
    assert "inference_duration_seconds_count 5.0" in metrics


def test_a_batch_of_images_keeps_all_workers_busy(tiny: Path, blocked: BlockedInference, jpeg: bytes) -> None:
    with running(tiny, inference_workers=2, decode_workers=2) as client:
        blocked.patch()
        files = [("files", (f"{number}.jpg", jpeg, "image/jpeg")) for number in range(4)]
        future = client.begin("POST", "/predict/batch", files=files)
        wait_for(lambda: len(blocked.sizes) == 2)
        blocked.released.set()
        assert len(future.result(20).json()["results"]) == 4
