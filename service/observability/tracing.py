"""OpenTelemetry traces. The SDK is an optional extra, imported only if traces are on.

Spans are created from the record of a finished request, so the code of the request is not instrumented. Names
and attributes follow OpenTelemetry's semantic conventions for HTTP servers, without the paths, queries and
addresses that clients send. The standard ``OTEL_...`` variables configure the exporter.
"""

import logging
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.observability.request_record import UNMATCHED, RequestRecord
from service.system.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.util.types import AttributeValue

_FLUSH_SECONDS = 3.0


class Tracing:
    """Converts records to spans, and exports them in batches in a thread.

    If the collector is slow or down, spans are lost, but requests are not affected.
    """

    def __init__(self, version: str) -> None:
        """Start the exporter (OTLP over HTTP). ``version`` is the version of the service."""
        defaults = Resource.create({"service.name": "dermaserve", "service.version": version})
        # Variables such as OTEL_SERVICE_NAME override the defaults.
        self._provider = TracerProvider(
            resource=defaults.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        # Log one line for each lost batch, not for each attempt to send it.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        self._tracer = self._provider.get_tracer("dermaserve", version)
        self._propagator = TraceContextTextMapPropagator()

    def finish(self, record: RequestRecord, headers: "Mapping[str, str]", scheme: str) -> None:
        """Create the spans of a finished request, and set ``record.trace_id``.

        Args:
            record: of the request.
            headers: of the request. ``traceparent`` and ``tracestate`` name the parent span.
            scheme: ``http`` or ``https``.
        """
        matched = record.route != UNMATCHED
        span = self._tracer.start_span(
            f"{record.method} {record.route}" if matched else record.method,
            context=self._propagator.extract(headers),
            kind=SpanKind.SERVER,
            start_time=record.began,
            attributes=_attributes(record, scheme),
        )
        context = set_span_in_context(span)

        def unix_nanoseconds(seconds: float) -> int:
            """Convert a time on the clock of ``time.monotonic``."""
            return record.began + round((seconds - record.started) * 1e9)

        for stage in record.stages:
            child = self._tracer.start_span(
                stage.name, context=context, start_time=unix_nanoseconds(stage.start)
            )
            child.end(unix_nanoseconds(stage.end))
        if record.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(unix_nanoseconds(record.started + record.duration))
        record.trace_id = format_trace_id(span.get_span_context().trace_id)

    def close(self) -> None:
        """Send the remaining spans, for at most a few seconds. Blocks."""
        shutdown = in_thread(self._provider.shutdown)
        try:
            shutdown.result(_FLUSH_SECONDS)
        except TimeoutError:
            return  # the thread ends with the process


def _attributes(record: RequestRecord, scheme: str) -> "dict[str, AttributeValue]":
    attributes: dict[str, AttributeValue | None] = {
        "http.request.method": record.method,
        "http.request.body.size": record.bytes_received,
        "http.response.body.size": record.bytes_sent,
        "url.scheme": scheme,
        "http.response.status_code": record.status or None,
        "http.route": record.route if record.route != UNMATCHED else None,
        "error.type": (record.problem or str(record.status)) if record.status >= 500 else None,
        "dermaserve.request_id": record.request_id,
        "dermaserve.images": record.images,
        "dermaserve.model": record.model,
        "dermaserve.key": record.key,
        "dermaserve.problem": record.problem,
    }
    return {name: value for name, value in attributes.items() if value is not None}
