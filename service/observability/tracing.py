"""Traces by OpenTelemetry, whose SDK is an optional extra, imported only if they are asked for.

Spans are made from the record of a request once it is over, so the work itself is not instrumented.
Names and attributes are those of OpenTelemetry's conventions for HTTP servers, without the paths,
queries and addresses that clients send. Where spans go is set by the standard ``OTEL_...`` variables.
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
    """Turns records into spans and sends them off, in batches and from a thread of its own.

    A collector that is slow or dead costs spans, never a request.
    """

    def __init__(self, version: str) -> None:
        """Start the exporter, by OTLP over HTTP; ``version`` is the service's."""
        ours = Resource.create({"service.name": "dermaserve", "service.version": version})
        # The environment's own words, OTEL_SERVICE_NAME for one, go before ours.
        self._provider = TracerProvider(
            resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        # Of a collector that is gone, one line for each lost batch, not one for each attempt.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        self._tracer = self._provider.get_tracer("dermaserve", version)
        self._propagator = TraceContextTextMapPropagator()

    def finish(self, record: RequestRecord, headers: "Mapping[str, str]", scheme: str) -> None:
        """Make the spans of a request that is over, and set ``record.trace_id``.

        Args:
            record: complete.
            headers: of the request; ``traceparent`` and ``tracestate`` name the parent.
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

        def moment(seconds: float) -> int:
            """Of the monotonic clock, as nanoseconds of Unix time."""
            return record.began + round((seconds - record.started) * 1e9)

        for stage in record.stages:
            child = self._tracer.start_span(stage.name, context=context, start_time=moment(stage.start))
            child.end(moment(stage.end))
        if record.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(moment(record.started + record.duration))
        record.trace_id = format_trace_id(span.get_span_context().trace_id)

    def close(self) -> None:
        """Send what waits, for a bounded time. Blocks."""
        done = in_thread(self._provider.shutdown)
        try:
            done.result(_FLUSH_SECONDS)
        except TimeoutError:
            return  # the thread ends with the process


def _attributes(record: RequestRecord, scheme: str) -> "dict[str, AttributeValue]":
    found: dict[str, AttributeValue | None] = {
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
    return {name: value for name, value in found.items() if value is not None}
