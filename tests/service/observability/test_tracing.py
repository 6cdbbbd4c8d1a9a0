"""Traces: spans are built from the record of a request and exported by OTLP, without affecting requests."""

import gzip
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id

from service.errors import SettingsError
from service.settings import load_settings
from tests.service.app_client import Client, running
from tests.service.conftest import JPEG
from tests.service.process import ROOT, free_port

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@pytest.fixture(scope="module")
def memory() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(scope="module")
def traced(tiny: Path, memory: InMemorySpanExporter) -> Iterator[Client]:
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "service.observability.tracing.BatchSpanProcessor", lambda _: SimpleSpanProcessor(memory)
            )
            door = stack.enter_context(running(tiny, traces=True))
        yield door


@pytest.fixture(autouse=True)
def _forgetful(memory: InMemorySpanExporter) -> None:
    memory.clear()


def one_trace(memory: InMemorySpanExporter) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """Return the only root span, and its children in the order of their start."""
    spans = memory.get_finished_spans()
    (root,) = [span for span in spans if span.kind is SpanKind.SERVER]
    children = sorted((span for span in spans if span is not root), key=lambda span: span.start_time or 0)
    assert all(c.parent and c.parent.span_id == root.context.span_id for c in children)
    return root, children


def test_a_request_is_a_child_span_of_the_caller_with_spans_for_its_stages(
    traced: Client, memory: InMemorySpanExporter, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "service")
    response = traced.post(
        "/predict?gradcam=true", content=jpeg, headers=JPEG | PARENT | {"x-request-id": "mine"}
    )
    root, stages = one_trace(memory)
    assert root.name == "POST /predict"
    assert format_trace_id(root.context.trace_id) == TRACE
    assert root.parent
    assert root.parent.span_id == 0xB7AD6B7169203331
    assert dict(root.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "http.request.body.size": len(jpeg),
        "http.response.body.size": len(response.content),
        "url.scheme": "http",
        "dermaserve.request_id": "mine",
        "dermaserve.images": 1,
        "dermaserve.model": "tiny-test-bundle/0.0.1",
    }
    assert [stage.name for stage in stages] == ["receive", "decode", "queue", "inference", "overlay"]
    moments = [moment or 0 for stage in stages for moment in (stage.start_time, stage.end_time)]
    moments = [root.start_time or 0, *moments, root.end_time or 0]
    assert moments == sorted(moments)
    logged = next(record for record in caplog.records if getattr(record, "event", "") == "request")
    assert vars(logged)["fields"]["trace_id"] == TRACE


def test_calls_over_grpc_have_spans_too(traced: Client, memory: InMemorySpanExporter, jpeg: bytes) -> None:
    pytest.importorskip("google.protobuf")
    from service.app import create_grpc_app
    from tests.service.open_inference.test_grpc import infer_request

    app = create_grpc_app(traced.runtime, traced.app.state.tracing)

    async def call() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client:
            path = "/inference.GRPCInferenceService/ModelInfer"
            return await client.post(path, content=infer_request(jpeg), headers=PARENT)

    assert traced.call(call()).status_code == 200
    root, stages = one_trace(memory)
    assert root.name == "POST /inference.GRPCInferenceService/ModelInfer"
    assert format_trace_id(root.context.trace_id) == TRACE
    assert [stage.name for stage in stages] == ["receive", "decode", "queue", "inference"]


def test_only_server_errors_set_the_error_status_of_a_span(
    traced: Client, memory: InMemorySpanExporter, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced.post("/predict", content=b"nothing", headers=JPEG)
    refused, _ = one_trace(memory)
    assert refused.status.status_code is StatusCode.UNSET
    assert (refused.attributes or {})["dermaserve.problem"] == "unsupported-image"
    memory.clear()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("service.api.job.read_image", broken)
    traced.post("/predict", content=jpeg, headers=JPEG)
    failed, _ = one_trace(memory)
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == "internal-error"
    assert "secret" not in failed.to_json()


def test_paths_queries_and_addresses_of_clients_are_in_no_span(
    traced: Client, memory: InMemorySpanExporter
) -> None:
    traced.request("BREW", "/patients/Doe?of=Jane", headers={"user-agent": "spy", "traceparent": "00-x-y"})
    root, _ = one_trace(memory)
    assert root.name == "_OTHER"
    for told in ("Doe", "Jane", "spy", "BREW", "127.0.0.1"):
        assert told not in root.to_json()


def test_a_caller_that_does_not_sample_gets_no_spans(traced: Client, memory: InMemorySpanExporter) -> None:
    traced.get("/livez", headers={"traceparent": PARENT["traceparent"].removesuffix("01") + "00"})
    assert not memory.get_finished_spans()


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A receiver of OTLP over HTTP: its address and the received spans."""
    got: list[ExportTraceServiceRequest] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_spans_reach_a_collector_at_the_latest_when_the_service_stops(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as (address, got):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=clinic,site=north")
        with running(tiny, traces=True) as door:
            door.get("/livez", headers=PARENT)
    spans = [
        (group.resource, span)
        for request in got
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]
    ((resource, span),) = spans
    assert span.name == "GET /livez"
    assert span.trace_id.hex() == TRACE
    named = {attribute.key: attribute.value.string_value for attribute in resource.attributes}
    assert (named["service.name"], named["site"]) == ("clinic", "north")


def test_a_dead_collector_affects_neither_requests_nor_the_exit(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, jpeg: bytes
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with running(tiny, traces=True) as door:
        for _ in range(20):
            assert door.post("/predict", content=jpeg, headers=JPEG).status_code == 200


def test_traces_without_the_extra_are_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DERMASERVE_TRACES", "true")
    monkeypatch.setattr("service.settings.find_spec", lambda _: None)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    (line,) = caught.value.problems
    assert line.startswith("DERMASERVE_TRACES: expected false")
    assert "make serve EXTRAS=otel" in line


def test_the_sdk_is_imported_only_with_traces() -> None:
    program = """
import sys
from service.app import create_app
from service.settings import Settings
create_app(Settings())
sys.exit(any(name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")) for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0


def test_the_telemetry_of_fastapi_stays_off() -> None:
    program = """
import asyncio, sys
import httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from service.app import create_app
from service.settings import Settings
memory = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)
client = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(Settings())))
assert asyncio.run(client.get("http://service/livez")).status_code == 200
sys.exit(len(memory.get_finished_spans()))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0
