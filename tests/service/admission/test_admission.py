"""Full, late, broken or abandoned: every request gets its answer, and nothing is computed in vain."""

import asyncio
import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.inference.onnx_session import OnnxSession
from tests.service.app_client import Client, running, said, wait_for
from tests.service.blocked_inference import BlockedInference
from tests.service.conftest import JPEG, assert_problem


def test_a_full_house_answers_503_with_retry_after_at_once(
    tiny: Path, blocked: BlockedInference, jpeg: bytes
) -> None:
    with running(tiny, max_queue_size=3) as client:
        blocked.patch()
        inside = [client.begin("POST", "/predict", content=jpeg, headers=JPEG) for _ in range(3)]
        wait_for(lambda: client.runtime.admission.requests == 3)
        refused = client.post("/predict", content=jpeg, headers=JPEG)
        assert_problem(refused, 503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 200
        blocked.released.set()
        assert [future.result(20).status_code for future in inside] == [200] * 3
        assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200
        assert 'rejections_total{reason="queue_full"} 1.0' in client.get("/metrics").text


class Upload:
    """A body that sends some bytes, then waits to be told to send the rest."""

    def __init__(
        self, client: Client, first: bytes, rest: bytes = b"", *, frees: int = 0, announced: int | None = None
    ) -> None:
        self._first, self._rest = first, rest
        self._go = threading.Event()
        headers = JPEG | ({"content-length": str(announced)} if announced is not None else {})
        before = client.runtime.admission.body_bytes
        self.answer = client.begin("POST", "/predict", content=self._body(), headers=headers)
        wait_for(lambda: client.runtime.admission.body_bytes == before + len(first) - frees)

    def _body(self) -> Iterator[bytes]:
        yield self._first
        while not self._go.is_set():
            yield b""
        yield self._rest

    def finish(self) -> Any:
        self._go.set()
        return self.answer.result(20)


def test_a_body_holds_the_memory_of_what_has_arrived_whatever_it_announces(tiny: Path, jpeg: bytes) -> None:
    with running(tiny, max_body_bytes=1_000_000, max_upload_memory=1_500_000) as client:
        announced = [Upload(client, jpeg[:100], jpeg[100:], announced=1_000_000) for _ in range(8)]
        assert client.runtime.admission.body_bytes == 800
        assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200
        assert [upload.finish().status_code for upload in announced] == [200] * 8
        assert client.runtime.admission.body_bytes == 0


def test_an_announced_size_over_the_limit_is_refused_before_anything_is_read(tiny: Path) -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("read")
        yield b""

    with running(tiny, max_body_bytes=1_000_000) as client:
        refused = client.post("/predict", content=body(), headers=JPEG | {"content-length": "1000001"})
        assert_problem(refused, 413, "body-too-large")


def test_when_bodies_fill_the_memory_the_slowest_is_refused_first(
    tiny: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]  # so that a busy machine makes no upload slower
    monkeypatch.setattr("service.admission.admission.time", SimpleNamespace(monotonic=lambda: now[0]))
    limits = {"max_body_bytes": 1_000_000, "max_upload_memory": 1_500_000, "min_upload_rate": 0}
    with running(tiny, **limits) as client:
        slowest = Upload(client, b"\xff" * 300_000)
        now[0] = 10.0
        slow = Upload(client, jpeg, b"\0" * 100)
        fast = client.post("/predict", content=jpeg + b"\0" * (999_000 - len(jpeg)), headers=JPEG)
        assert fast.status_code == 200
        assert client.runtime.admission.body_bytes == 300_000 + len(jpeg)
        full = jpeg + b"\0" * (500_000 - len(jpeg))
        more = [Upload(client, full), Upload(client, full), Upload(client, full[:300_000], frees=300_000)]
        refused = slowest.answer.result(20)
        assert_problem(refused, 503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert [upload.finish().status_code for upload in (slow, *more)] == [200] * 4
        assert client.runtime.admission.body_bytes == 0
        assert client.runtime.admission.requests == 0
        assert 'rejections_total{reason="upload_memory"} 1.0' in client.get("/metrics").text


def test_a_body_takes_its_place_when_it_is_whole(tiny: Path, blocked: BlockedInference, jpeg: bytes) -> None:
    with running(tiny, max_queue_size=1) as client:
        blocked.patch()
        sending = [Upload(client, jpeg[:100], jpeg[100:]) for _ in range(8)]
        inside = client.begin("POST", "/predict", content=jpeg, headers=JPEG)
        assert blocked.started.wait(20)
        late = sending.pop().finish()
        assert_problem(late, 503, "overloaded")
        assert int(late.headers["retry-after"]) >= 1
        blocked.released.set()
        assert inside.result(20).status_code == 200
        assert [upload.finish().status_code for upload in sending] == [200] * 7
        assert client.runtime.admission.requests == 0


@pytest.mark.parametrize(
    "call", ["service.api.job.read_image", "service.inference.classifier.Classifier.decode"]
)
def test_a_timeout_of_the_system_is_not_the_deadline(
    tiny: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def timed_out(*_: object, **__: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    with running(tiny) as client:
        monkeypatch.setattr(call, timed_out)
        assert_problem(client.post("/predict", content=jpeg, headers=JPEG), 500, "internal-error")


def test_a_passed_deadline_is_504_and_its_work_is_dropped(
    tiny: Path, blocked: BlockedInference, jpeg: bytes
) -> None:
    with running(tiny, request_timeout=2, max_batch_size=1) as client:
        blocked.patch()
        late = [client.begin("POST", "/predict", content=jpeg, headers=JPEG) for _ in range(3)]
        for future in late:
            assert_problem(future.result(20), 504, "deadline-passed")
        blocked.released.set()
        assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200
    assert len(blocked.sizes) == 2  # the one that was running, and the last: never the queued ones


def test_a_drip_feeding_client_is_cut_off_at_the_deadline(tiny: Path, jpeg: bytes) -> None:
    def drip() -> Iterator[bytes]:
        while True:
            yield b"\xff"

    with running(tiny, request_timeout=2) as client:
        response = client.post("/predict", content=drip(), headers=JPEG)
        assert_problem(response, 504, "deadline-passed")
        assert response.headers["connection"] == "close"
        assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200


def test_without_a_least_rate_only_the_deadline_counts(tiny: Path) -> None:
    def drip() -> Iterator[bytes]:
        while True:
            yield b"\xff"

    with running(tiny, min_upload_rate=0, upload_grace=0.01, request_timeout=0.3) as client:
        assert_problem(client.post("/predict", content=drip(), headers=JPEG), 504, "deadline-passed")


def test_a_failing_batch_fails_only_its_own(tiny: Path, blocked: BlockedInference, jpeg: bytes) -> None:
    with running(tiny, max_batch_size=1) as client:
        blocked.patch()
        blocked.released.set()
        blocked.fail_on = {1}
        assert_problem(client.post("/predict", content=jpeg, headers=JPEG), 500, "internal-error")
        blocked.fail_on = set()
        assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200


def test_a_failing_batch_of_several_is_tried_singly(
    tiny: Path, blocked: BlockedInference, jpeg: bytes
) -> None:
    with running(tiny, max_batch_size=4) as client:
        blocked.fail_on = {2, 3, 4}
        assert blocked.statuses(client, jpeg, waiting=4) == [200] * 5
    assert blocked.sizes == [1, 4, 1, 1, 1, 1]


def test_output_that_no_graph_may_give_is_500(
    tiny: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tiny) as client:
        for broken in (
            said([np.nan] * 7),
            said([np.inf] + [0.0] * 6),
            said([0.2] * 7),
            said([1.5, -0.5, 0, 0, 0, 0, 0]),
            said([1 / 7] * 7, disagreement=np.nan),
            said([1 / 7] * 7, disagreement=1.1),
            said([1 / 7] * 7, ood_score=np.inf),
        ):
            monkeypatch.setattr(OnnxSession, "run", lambda *_, found=broken: found)
            assert_problem(client.post("/predict", content=jpeg, headers=JPEG), 500, "internal-error")


def test_work_of_a_client_that_went_away_is_cancelled(
    tiny: Path, blocked: BlockedInference, jpeg: bytes
) -> None:
    with running(tiny, max_batch_size=1) as client:
        blocked.patch()
        busy = client.begin("POST", "/predict", content=jpeg, headers=JPEG)
        assert blocked.started.wait(20)
        gone = asyncio.run_coroutine_threadsafe(_post_and_leave(client, jpeg), client.loop)
        gone.result(20)
        wait_for(lambda: client.runtime.admission.requests == 1)
        blocked.released.set()
        assert busy.result(20).status_code == 200
        assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200
        assert 'requests_total{route="/predict",status="499"} 1.0' in client.get("/metrics").text
    assert len(blocked.sizes) == 2


async def _post_and_leave(client: Client, body: bytes) -> None:
    """Speak ASGI directly: send the body, wait for the work to be queued, disconnect."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        # Polled through the public door: nothing announces that an image was queued.
        while "queue_depth 1.0" not in (await client._client.get("/metrics")).text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        pass

    headers = [(b"content-type", b"image/jpeg"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b""}
    await client.app(scope | {"root_path": "", "http_version": "1.1"}, receive, send)


def test_of_64_clients_at_once_each_gets_an_answer_or_is_told_when_to_come_again(
    tiny: Path, jpeg: bytes
) -> None:
    with running(tiny, max_queue_size=16) as client:
        futures = [client.begin("POST", "/predict", content=jpeg, headers=JPEG) for _ in range(64)]
        answers = [future.result(60) for future in futures]
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert sum(answer.status_code == 200 for answer in answers) >= 16
        assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status_code == 503)


def test_accepted_batches_are_answered_whole_and_crowd_nobody_out(
    tiny: Path, blocked: BlockedInference, jpeg: bytes
) -> None:
    with running(tiny, max_queue_size=3, max_batch_size=8) as client:
        blocked.patch()
        parts = [("files", jpeg)] * 8
        batches = [client.begin("POST", "/predict/batch", files=parts) for _ in range(2)]
        wait_for(lambda: client.runtime.admission.requests == 2)
        single = client.begin("POST", "/predict", content=jpeg, headers=JPEG)
        wait_for(lambda: client.runtime.admission.requests == 3)
        blocked.released.set()
        for batch in batches:
            assert ["prediction" in r for r in batch.result(20).json()["results"]] == [True] * 8
        assert single.result(20).status_code == 200


def test_starting_and_draining_are_503_with_retry_after(
    tiny: Path, blocked: BlockedInference, jpeg: bytes
) -> None:
    blocked.patch()  # the warm-up hangs: the service is starting
    from service.lifecycle import Runtime
    from tests.service.app_client import settings_for

    client = Client(Runtime(settings_for(tiny)))
    client.start()
    try:
        assert client.get("/livez").json() == {"status": "alive"}
        for response in (
            client.get("/readyz"),
            client.get("/model"),
            client.post("/predict", content=jpeg, headers=JPEG),
        ):
            assert_problem(response, 503, "not-ready")
            assert int(response.headers["retry-after"]) >= 1
        blocked.released.set()
        wait_for(lambda: client.runtime.ready)
        client.runtime.drain()
        assert_problem(client.get("/readyz"), 503, "not-ready")
        assert client.get("/livez").status_code == 200
        draining = client.post("/predict", content=jpeg, headers=JPEG)
        assert draining.status_code == 200
        assert draining.headers["connection"] == "close"
        client.runtime.close_admission()
        refused = client.post("/predict", content=jpeg, headers=JPEG)
        assert_problem(refused, 503, "not-ready")
        assert int(refused.headers["retry-after"]) >= 1
    finally:
        blocked.released.set()
        client.stop()
