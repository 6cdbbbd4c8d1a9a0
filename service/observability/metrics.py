"""What Prometheus reads: one registry per app, base units, one prefix."""

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
from service.system.memory import memory_of_all

_LATENCY = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
_SHORT = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SHARE = tuple(edge / CONFIDENCE_BINS for edge in range(1, CONFIDENCE_BINS + 1))
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Every measure of one server.

    Client objects of prometheus_client are thread-safe, so any thread may call any method.
    """

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

        self.ready = gauge("ready", "1 while the service takes work and its model is loaded.")
        memory = gauge(
            "memory_bytes", "Resident memory of the service and of the processes that decode images."
        )
        memory.set_function(memory_of_all)
        self.model_info = gauge("model_info", "1 for the model being served.", "name", "version", "provider")
        self.gpu_demanded = gauge("gpu_demanded", "1 if the settings demand a GPU.")
        self.gpu_used = gauge("gpu_used", "1 while a GPU runs the model.")
        self.reloads = counter("reloads_total", "Reloads of the bundle, by outcome.", "outcome")
        for outcome in ("loaded", "refused"):  # from 0 on: a rate needs a sample before the first one
            self.reloads.labels(outcome)
        self.requests_limit = gauge("requests_limit", "Image requests accepted at once; more get 503.")
        self.connections = gauge("connections", "Open connections of clients.")
        self.inside = gauge("requests_in_progress", "Image requests accepted and not yet answered.")
        self.rejections = counter("rejections_total", "Requests refused at the door, by reason.", "reason")
        self.keys = gauge("keys", "API keys in force; 0 where everyone is let in, or nobody.")
        self.predictions = counter(
            "predictions_total", "Images answered, by predicted class and flag.", "label", "flag"
        )
        self._image_problems = counter(
            "image_problems_total", "Images that got a problem in place of an answer.", "problem", "status"
        )
        for error, kind in KINDS.items():
            if issubclass(error, ImageError) or kind.status >= 500:
                self._image_problems.labels(kind.type, str(kind.status))
        self.confidence = histogram(
            "confidence", "Largest probability of an image, in the bins of the drift reference.", _SHARE
        )
        self.drift_images = gauge("drift_images", "Images that drift is computed from.")
        self.drift_psi = gauge(
            "drift_psi",
            "Population stability index of recent images against the drift reference; NaN until enough.",
            "of",
        )
        self.reference_share = gauge(
            "reference_share", "Share of each predicted class in the bundle's drift reference.", "label"
        )
        self.warnings = counter("warnings_total", "Warnings in answers, by code.", "code")
        self._requests = counter("requests_total", "Requests, by route and status.", "route", "status")
        self._latency = histogram(
            "request_duration_seconds", "From request to answer, by route.", _LATENCY, "route", "status"
        )
        self._queue = gauge("queue_depth", "Images waiting for inference.")
        self._wait = histogram("queue_wait_seconds", "From queueing an image to its batch's start.", _SHORT)
        self._batch = histogram("batch_size", "Images per inference.", _BATCH)
        self._inference = histogram("inference_duration_seconds", "One inference of a batch.", _SHORT)
        self.receiving = histogram(
            "receive_duration_seconds", "Reading one request's body, at the client's pace.", _LATENCY
        )
        self.decoding = histogram(
            "decode_duration_seconds", "Decoding, cropping and measuring one image.", _SHORT
        )
        self._decoders = counter(
            "decoder_exits_total", "Decoding processes that were killed or died, by reason.", "reason"
        )
        for reason in ("timeout", "slow", "killed", "crashed", "cancelled"):
            self._decoders.labels(reason)
        self.overlaying = histogram("overlay_duration_seconds", "Drawing one overlay.", _SHORT)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request to the template ``route`` was answered with ``status``."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route, str(status)).observe(seconds)

    def image_failed(self, kind: Kind) -> None:
        """An image, alone or in a batch, got a problem of this kind."""
        self._image_problems.labels(kind.type, str(kind.status)).inc()

    def refused(self, reason: str) -> None:
        """A request, or a connection, was turned away for ``reason``."""
        self.rejections.labels(reason).inc()

    def decoder_ended(self, reason: str) -> None:
        """A process that decodes images was killed, or died, for ``reason``."""
        self._decoders.labels(reason).inc()

    def queue_depth(self, depth: int) -> None:
        """``depth`` images wait for inference."""
        self._queue.set(depth)

    def batch_started(self, waits: Sequence[float]) -> None:
        """A batch goes, after its images waited ``waits`` seconds."""
        self._batch.observe(len(waits))
        for wait in waits:
            self._wait.observe(wait)

    def batch_finished(self, seconds: float) -> None:
        """The batch took ``seconds``."""
        self._inference.observe(seconds)
