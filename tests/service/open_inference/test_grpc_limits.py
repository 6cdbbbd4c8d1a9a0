"""gRPC: calls whose message does not come, calls that are cancelled, and calls during a shutdown."""

import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

grpc = pytest.importorskip("grpc")

from service.open_inference.grpc_messages import MESSAGES, SERVICE  # noqa: E402 - needs grpc
from tests.service.app_client import wait_for  # noqa: E402
from tests.service.open_inference.test_grpc import infer_request  # noqa: E402
from tests.service.process import Process, free_port, process  # noqa: E402


@pytest.fixture
def server(tiny: Path, tmp_path: Path) -> Iterator[tuple[Process, int]]:
    port = free_port()
    with process(tmp_path, tiny, GRPC_PORT=port, HEADER_TIMEOUT=1, DRAIN_PAUSE=0) as running:
        running.wait_ready()
        yield running, port


def metric(running: Process) -> float:
    """Return how many image requests are in progress."""
    text = httpx.get(f"{running.url}/metrics", timeout=60).text
    (value,) = re.findall(r"^dermaserve_requests_in_progress (.*)$", text, re.MULTILINE)
    return float(value)


def silent(channel: Any, call: str, until: threading.Event) -> Any:
    """Begin a call that sends no message."""

    def messages() -> Iterator[bytes]:
        until.wait(60)
        yield from ()

    return channel.stream_unary(f"/{SERVICE}/{call}").future(messages())


def test_a_call_whose_message_does_not_come_ends_and_holds_up_no_image(
    server: tuple[Process, int], jpeg: bytes
) -> None:
    done = threading.Event()
    with grpc.insecure_channel(f"127.0.0.1:{server[1]}") as channel:
        stalled = [silent(channel, "ModelReady", done) for _ in range(9)]
        answer = channel.unary_unary(f"/{SERVICE}/ModelInfer")(infer_request(jpeg), timeout=60)
        assert MESSAGES["ModelInferResponse"].FromString(answer).model_name == "tiny-test-bundle"
        codes = {call.exception(timeout=60).code() for call in stalled}
        done.set()
    assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}


def test_a_cancelled_call_is_no_fault_of_the_service(server: tuple[Process, int]) -> None:
    running, port = server
    done = threading.Event()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stalled = silent(channel, "ModelMetadata", done)
        live = channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=60)  # so the first call has begun
        assert MESSAGES["ServerLiveResponse"].FromString(live).live
        stalled.cancel()
        done.set()
        wait_for(lambda: "ModelMetadata" in running.output())
    assert "Traceback" not in running.output()


def test_an_accepted_call_is_answered_after_a_signal(server: tuple[Process, int], jpeg: bytes) -> None:
    running, port = server
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        infer(infer_request(jpeg), timeout=60)
        calls = [infer.future(infer_request(*[jpeg] * 16), timeout=60) for _ in range(4)]
        wait_for(lambda: metric(running) > 0 or all(call.done() for call in calls))
        running.process.send_signal(signal.SIGTERM)
        codes = [call.code() for call in calls]
    # Those that the service had not begun may be told to come again; those that it had are answered.
    assert grpc.StatusCode.OK in codes
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert "shutting down" not in running.output()
