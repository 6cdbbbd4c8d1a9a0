"""Short of memory, of time to decode in, or of an inference that ends: the process goes on answering."""

import os
import signal
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from service.system.fair_queue import DEFAULT_RANK
from tests.service.app_client import running, wait_for
from tests.service.blocked_inference import BlockedInference
from tests.service.conftest import JPEG, assert_problem
from tests.service.decoders import Decoders


def test_an_image_that_waits_for_room_to_decode_gives_up_at_the_deadline(
    tiny: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.decoding.decoder.SMALL", 0)  # every image is a large one
    with running(tiny, request_timeout=0.5) as client:
        turn = client.runtime._models._decoder._large
        client.call(turn.acquire(DEFAULT_RANK))
        late = [client.begin("POST", "/predict", content=jpeg, headers=JPEG) for _ in range(3)]
        for future in late:
            assert_problem(future.result(20), 504, "deadline-passed")
        client.loop.call_soon_threadsafe(turn.release)
        assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200
        assert 'decoder_exits_total{reason="cancelled"} 0.0' in client.get("/metrics").text


def test_a_batch_that_memory_is_too_short_for_is_halved(
    tiny: Path, blocked: BlockedInference, jpeg: bytes
) -> None:
    blocked.error = MemoryError()
    with running(tiny, max_batch_size=4) as client:
        blocked.fail_on = {3, 4}
        assert blocked.statuses(client, jpeg, waiting=4) == [200] * 5
    assert blocked.sizes == [1, 4, 2, 2]


def test_an_image_that_memory_is_too_short_for_is_503_and_the_next_one_is_answered(
    tiny: Path, blocked: BlockedInference, jpeg: bytes
) -> None:
    blocked.error = MemoryError()
    blocked.released.set()
    with running(tiny) as client:
        blocked.patch()
        blocked.fail_on = {1}
        refused = client.post("/predict", content=jpeg, headers=JPEG)
        assert_problem(refused, 503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        blocked.fail_on = set()
        assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200
        assert client.get("/readyz").status_code == 200
        assert 'rejections_total{reason="memory"} 1.0' in client.get("/metrics").text


def test_when_onnx_runtime_runs_out_of_memory_smaller_batches_are_answered(
    tiny: Path, blocked: BlockedInference, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnxruntime.SessionOptions

    def limited() -> Any:
        options = real()
        options.add_session_config_entry("session.use_env_allocators", "1")
        return options

    monkeypatch.setattr(onnxruntime, "SessionOptions", limited)
    kind = (onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT)
    arena = onnxruntime.OrtArenaCfg({"max_mem": 8_000_000, "arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", *kind), arena)
    with running(tiny, max_batch_size=16) as client:
        assert blocked.statuses(client, jpeg, waiting=16) == [200] * 17
    assert blocked.sizes[:3] == [1, 16, 8]


def test_a_hanging_inference_fails_both_probes_until_it_ends(
    tiny: Path, blocked: BlockedInference, jpeg: bytes
) -> None:
    with running(tiny, stuck_after=0.3, max_batch_size=1) as client:
        blocked.patch()
        hanging = client.begin("POST", "/predict", content=jpeg, headers=JPEG)
        assert blocked.started.wait(20)
        wait_for(lambda: client.get("/livez").status_code == 503)
        for response in (
            client.get("/livez"),
            client.get("/readyz"),
            client.post("/predict", content=jpeg, headers=JPEG),
        ):
            assert_problem(response, 503, "not-ready")
            assert "stopped" in response.json()["detail"]
        assert "dermaserve_ready 0.0" in client.get("/metrics").text
        blocked.released.set()
        assert hanging.result(20).status_code == 200
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/livez").status_code == 200
        assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200


@pytest.mark.parametrize(
    ("path", "call", "error"),
    [
        ("/predict", "service.decoding.fork_server.socket.socketpair", OSError(24, "Too many open files")),
        ("/predict", "service.api.job.read_image", MemoryError()),
        ("/gradcam", "service.system.threads.Threads.submit", MemoryError("no thread could be started")),
    ],
)
def test_no_memory_for_an_image_is_503_and_says_nothing_against_the_image(
    path: str, call: str, error: Exception, tiny: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise error

    others = Decoders(os.getpid()).all
    with running(tiny) as client:
        decoders = Decoders(os.getpid(), others)
        decoders.send(signal.SIGKILL)  # another is needed
        wait_for(lambda: not decoders.decoding)
        with monkeypatch.context() as patched:
            patched.setattr(call, none_left)
            refused = client.post(path, content=jpeg, headers=JPEG)
        assert_problem(refused, 503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert client.post(path, content=jpeg, headers=JPEG).status_code == 200
