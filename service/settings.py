"""Everything an operator can set, from environment variables named ``DERMASERVE_...``.

A wrong value stops the program at start, naming the variable, what was expected and what came.
"""

import ipaddress
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import models
from models.preprocess import DEFAULT_MAX_PIXELS, HIGHEST_MAX_PIXELS
from service.environment import read_environment
from service.origins import parse_origins
from service.proxies import parse_proxies
from service.service_links import service_links
from service.system.cpus import usable_cpus

PREFIX = "DERMASERVE_"

BRIDGE_PREFIX = "DERMASERVE_BRIDGE_"
"""Of the settings of the DICOM bridge, a program of its own (``service.bridge.settings``)."""

_NOT_OURS = {"DERMASERVE_HAM10000"}
"""Read by the tests only: where real images lie."""

HIGHEST_RATE = 1_000_000
"""Images a minute; what is more is no limit."""

MIN_DRIFT_IMAGES = 200
"""Below so many images, prediction drift is not computed; ``service.observability.drift`` says why."""

_EXTRAS = {
    "traces": ("otel", ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")),
    "grpc_port": ("grpc", ("grpc", "google.protobuf")),
}
"""Settings that need an extra: its name, and the modules that it installs."""

Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


def _shipped_bundle() -> Path:
    return Path(models.__file__).parent / "ham10000-ensemble"


def _decode_workers() -> int:
    """As many as there are cores, but two where there is one: else a file made to take long holds up all."""
    return max(2, usable_cpus())


class Settings(BaseSettings):
    """The settings of one server; frozen, with a default for everything."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    bundle: Path = Field(
        default_factory=_shipped_bundle,
        description="folder of the model bundle; default: the shipped bundle",
    )
    bundle_digest: str | None = Field(
        default=None,
        description="SHA-256 that the bundle's manifest.json must have, at start and at reload; default: any",
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address to listen on; any but a loopback address requires API keys",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port; 0 picks a free one")
    api_keys_file: Path | None = Field(
        default=None,
        description="file of API keys, read again when it changes; without it no request needs a key; "
        "default: none",
    )
    allow_anonymous: bool = Field(
        default=False, description="true serves every client without a key, on any address"
    )
    rate_limit: int | None = Field(
        default=None,
        ge=1,
        le=HIGHEST_RATE,
        description="images per minute for a key whose line has no rate=; above it 429; default: no limit",
    )
    rate_burst: int = Field(
        default=32,
        ge=1,
        le=100_000,
        description="images that a key may send at once; its rate holds in the long run",
    )
    max_concurrent_per_key: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="image requests of one key in progress at once; above it 429; default: no limit",
    )
    operations_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="second TCP port, for /metrics, /admin and the probes; the public port then answers "
        "neither /metrics nor /admin; default: none",
    )
    operations_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address of the operations port; every client that reaches it reads the metrics without "
        "a key",
    )
    grpc_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="TCP port for the Open Inference Protocol over gRPC, on the address of the public port; "
        "needs the extra grpc; default: none",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="auto uses a working GPU, or else the CPU; cuda refuses to start without a working GPU",
    )
    inference_workers: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="inferences that run at the same time; default: usable cores on a CPU, 1 on a GPU",
    )
    intra_op_threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="threads of one inference; default: 1, or usable cores / INFERENCE_WORKERS where that is "
        "set, and up to 4 for an image that is alone",
    )
    max_batch_size: int | None = Field(
        default=None, ge=1, le=1024, description="images in one inference; default: 2 on a CPU, 32 on a GPU"
    )
    batch_timeout: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = Field(
        default=None,
        description="seconds that an image may wait for its batch to fill; default: 0 on a CPU, 0.005 on a "
        "GPU",
    )
    max_queue_size: int = Field(
        default=128,
        ge=1,
        le=100_000,
        description="image requests in progress at once, counted from the end of their bodies; above it 503",
    )
    request_timeout: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds from the first byte of a request, upload included, to its answer; then 504",
    )
    max_connections: int = Field(
        default=512,
        ge=1,
        le=100_000,
        description="open connections; one more closes the connection of the slowest client, idle or sending",
    )
    header_timeout: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds for the request line and headers to arrive; then 408",
    )
    upload_grace: Seconds = Field(default=5.0, description="seconds before the rate of a body is checked")
    min_upload_rate: int = Field(
        default=4096,
        ge=0,
        le=1_000_000_000,
        description="bytes per second at which a body must arrive, else 408; 0 allows any rate",
    )
    write_timeout: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds for a client to read one whole answer; then the connection is closed",
    )
    stuck_after: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="seconds of one inference, or of decoding one image, after which /readyz and /livez fail",
    )
    max_body_bytes: int = Field(
        default=20_000_000,
        ge=1024,
        le=1_000_000_000,
        description="size of a request body in bytes; above it 413",
    )
    max_upload_memory: int = Field(
        default=160_000_000,
        ge=1024,
        description="bytes that all bodies being received or decoded and all overlays of batches may hold "
        "together, as far as they are in memory; above it the slowest upload gets 503. Overlays get at most "
        "half of it",
    )
    max_pixels: int = Field(
        default=DEFAULT_MAX_PIXELS,
        ge=1,
        le=HIGHEST_MAX_PIXELS,
        description="width x height of an image; above it 413",
    )
    decode_workers: int = Field(
        default_factory=_decode_workers,
        ge=1,
        le=256,
        description="processes that decode images, and threads that draw overlays; default: usable cores, "
        "at least 2",
    )
    decode_timeout: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds of processor time for decoding one image; above it 422",
    )
    drain_pause: Seconds = Field(
        default=5.0,
        description="seconds between failing readiness and refusing work, for load balancers to notice",
    )
    shutdown_grace: Seconds = Field(
        default=30.0, description="seconds that accepted requests have to finish after DRAIN_PAUSE"
    )
    drift_window: int = Field(
        default=1000,
        ge=MIN_DRIFT_IMAGES,
        le=1_000_000,
        description="most recent images that are compared with the drift reference of the bundle",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest severity that is logged"
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="json writes one object a line, for programs; text is for people"
    )
    audit: bool = Field(default=False, description="true adds to the log what was predicted for each image")
    traces: bool = Field(
        default=False,
        description="true sends OpenTelemetry traces to where the OTEL_... variables say; needs the extra "
        "otel",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="origins of other sites whose pages may call the service, comma separated, or *; "
        "default: none",
    )

    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="addresses, networks or host names of proxies, comma separated, whose X-Forwarded-For "
        "names the client; default: none",
    )

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, value: object, info: ValidationInfo) -> object:
        parse = parse_origins if info.field_name == "cors_origins" else parse_proxies
        return parse(value) if isinstance(value, str) else value

    @field_validator("bundle_digest")
    @classmethod
    def _sha256(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("64 digits of lower-case hexadecimal, as sha256sum prints them")
        return value

    @field_validator("port", "operations_port", "grpc_port", mode="before")
    @classmethod
    def _no_service_link(cls, value: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        link = isinstance(value, str) and service_links({PREFIX + name.upper(): value}, PREFIX)
        return cls.model_fields[name].default if link else value

    @field_validator("traces", "grpc_port")
    @classmethod
    def _extra_installed(cls, value: object, info: ValidationInfo) -> object:
        extra, modules = _EXTRAS[str(info.field_name)]
        if value and not _installed(*modules):
            off = "false" if value is True else "none"
            raise ValueError(
                f"{off}, as the extra '{extra}' is not installed (make serve EXTRAS={extra} installs it)"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_upload_memory < self.max_body_bytes:
            raise ValueError(
                f"{PREFIX}MAX_UPLOAD_MEMORY: expected at least {PREFIX}MAX_BODY_BYTES "
                f"({self.max_body_bytes}), got {self.max_upload_memory}"
            )
        return self

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.allow_anonymous:
            if self.api_keys_file is not None:
                raise ValueError(
                    f"{PREFIX}ALLOW_ANONYMOUS: expected false where {PREFIX}API_KEYS_FILE is set, got true"
                )
            return self
        for name in ("host", "operations_host"):
            host = getattr(self, name)
            used = name == "host" or self.operations_port is not None
            if used and self.api_keys_file is None and not is_loopback(host):
                raise ValueError(
                    f"{PREFIX}{name.upper()}: expected a loopback address, as there are no API keys, got "
                    f"{host!r}; set {PREFIX}API_KEYS_FILE, or {PREFIX}ALLOW_ANONYMOUS=true to let everyone in"
                )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``; of names, ``localhost`` only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _installed(*modules: str) -> bool:
    try:
        return all(find_spec(module) is not None for module in modules)
    except ModuleNotFoundError:  # a package that one of them should be in
        return False


def load_settings(*checks: Callable[["Settings"], object]) -> Settings:
    """Read the settings from the environment and check them.

    Args:
        checks: called with the settings; each may raise SettingsError for what only its owner can judge.

    Raises:
        SettingsError: with one line for every wrong or unknown variable.
    """
    return read_environment(Settings, *checks, ignore=_is_not_ours)


def _is_not_ours(name: str) -> bool:
    return name in _NOT_OURS or name.upper().startswith(BRIDGE_PREFIX)
