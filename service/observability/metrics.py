"""Prometheus metrics: one registry for each server, base units, one prefix."""

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from models.bundle import CONFIDENCE_BINS
from models.errors import ImageError
from service.errors import KINDS, Kind
from service.system.memory import total_memory

_LATENCY = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
_SHORT = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SHARE = tuple(edge / CONFIDENCE_BINS for edge in range(1, CONFIDENCE_BINS + 1))
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """All metrics of one server. Thread-safe."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"dermaserve_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"dermaserve_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"dermaserve_{name}", text, labels, buckets=buckets, registry=registry)

        self.ready = gauge("ready", "1 while the service accepts requests and its model is loaded.")
        memory = gauge("memory_bytes", "Resident memory of the service and its decoding processes.")
        memory.set_function(total_memory)
        self.model_info = gauge("model_info", "1 for the served model.", "name", "version", "provider")
        self.gpu_demanded = gauge("gpu_demanded", "1 if the settings require a GPU.")
        self.gpu_used = gauge("gpu_used", "1 while a GPU runs the model.")
        self.reloads = counter("reloads_total", "Reloads of the bundle, by outcome.", "outcome")
        for outcome in ("loaded", "refused"):  # start at 0: a rate needs a sample before the first event
            self.reloads.labels(outcome)
        self.requests_limit = gauge(
            "requests_limit", "Largest number of image requests in progress; more get 503."
        )
        self.connections = gauge("connections", "Open client connections.")
        self.requests_in_progress = gauge(
            "requests_in_progress", "Image requests accepted and not yet answered."
        )
        self.rejections = counter(
            "rejections_total", "Requests and connections refused, by reason.", "reason"
        )
        self.keys = gauge("keys", "Valid API keys; 0 if no keys are configured.")
        self.predictions = counter(
            "predictions_total", "Images classified, by predicted class and flag.", "label", "flag"
        )
        self._image_problems = counter(
            "image_problems_total",
            "Images that could not be classified, by problem and status.",
            "problem",
            "status",
        )
        for error, kind in KINDS.items():
            if issubclass(error, ImageError) or kind.status >= 500:
                self._image_problems.labels(kind.type, str(kind.status))
        self.confidence = histogram(
            "confidence", "Largest probability of an image, in the bins of the drift reference.", _SHARE
        )
        self.drift_images = gauge("drift_images", "Images in the window of the drift index.")
        self.drift_psi = gauge(
            "drift_psi",
            "Population stability index of recent images against the drift reference; NaN for few images.",
            "of",
        )
        self.reference_share = gauge(
            "reference_share", "Share of each predicted class in the bundle's drift reference.", "label"
        )
        self.warnings = counter("warnings_total", "Warnings in responses, by code.", "code")
        self._requests = counter("requests_total", "Requests, by route and status.", "route", "status")
        self._latency = histogram(
            "request_duration_seconds",
            "Time from request to response, by route and status.",
            _LATENCY,
            "route",
            "status",
        )
        self._queue = gauge("queue_depth", "Images waiting for inference.")
        self._wait = histogram(
            "queue_wait_seconds", "Time from queueing an image to the start of its batch.", _SHORT
        )
        self._batch = histogram("batch_size", "Images per inference.", _BATCH)
        self._inference = histogram("inference_duration_seconds", "Time of one inference of a batch.", _SHORT)
        self.receiving = histogram("receive_duration_seconds", "Time to receive one request body.", _LATENCY)
        self.decoding = histogram(
            "decode_duration_seconds", "Time to decode, crop and measure one image.", _SHORT
        )
        self._decoders = counter(
            "decoder_exits_total", "Decoding processes that were killed or crashed, by reason.", "reason"
        )
        for reason in ("timeout", "slow", "killed", "crashed", "cancelled"):
            self._decoders.labels(reason)
        self.overlaying = histogram("overlay_duration_seconds", "Time to draw one overlay.", _SHORT)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that matched ``route`` and was answered with ``status`` after ``seconds``."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route, str(status)).observe(seconds)

    def image_failed(self, kind: Kind) -> None:
        """Count an image that got a problem of this kind, alone or in a batch."""
        self._image_problems.labels(kind.type, str(kind.status)).inc()

    def refused(self, reason: str) -> None:
        """Count a request or a connection that was refused for ``reason``."""
        self.rejections.labels(reason).inc()

    def decoder_ended(self, reason: str) -> None:
        """Count a decoding process that was killed or crashed for ``reason``."""
        self._decoders.labels(reason).inc()

    def queue_depth(self, depth: int) -> None:
        """Set the number of images that wait for inference."""
        self._queue.set(depth)

    def batch_started(self, waits: Sequence[float]) -> None:
        """Record a batch whose images waited ``waits`` seconds."""
        self._batch.observe(len(waits))
        for wait in waits:
            self._wait.observe(wait)

    def batch_finished(self, seconds: float) -> None:
        """Record an inference that took ``seconds``."""
        self._inference.observe(seconds)
