"""Request ids, probes, metrics, logs."""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from models.bundle import Manifest
from service.api.schemas import RequestLimits, model_card_json
from service.http.middleware import new_request_id
from tests.service.app_client import Client, running
from tests.service.conftest import JPEG


def samples(client: Client, headers: dict[str, str] | None = None) -> dict[str, float]:
    families = text_string_to_metric_families(client.get("/metrics", headers=headers).text)
    return {
        sample.name + "".join(f" {k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_response_has_the_clients_request_id_if_it_is_valid(client: Client) -> None:
    for path in ("/livez", "/nothing", "/docs", "/predict"):
        assert client.get(path, headers={"x-request-id": "abc-1_2.3"}).headers["x-request-id"] == "abc-1_2.3"


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "<script>", "a/b", "a\tb"])
def test_other_request_ids_are_replaced(client: Client, sent: str) -> None:
    found = client.get("/livez", headers={"x-request-id": sent}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", found)


def test_generated_request_ids_differ_and_sort_by_time() -> None:
    ids = [new_request_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert [i[:10] for i in ids] == sorted(i[:10] for i in ids)


def test_probes_answer(client: Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {
        "status": "ready",
        "model": {"name": "tiny-test-bundle", "version": "0.0.1"},
        "provider": "CPUExecutionProvider",
    }


def test_metrics_count_what_happened_by_route_template_and_status(
    tiny: object, jpeg: bytes, client: Client
) -> None:
    before = samples(client)
    client.post("/predict", content=jpeg, headers=JPEG)
    client.post("/predict", content=b"nothing", headers=JPEG)
    client.get("/some/path/of/a/client")
    client.request("DELETE", "/predict")
    after = samples(client)

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown("dermaserve_requests_total route=/predict status=200") == 1
    assert grown("dermaserve_requests_total route=/predict status=415") == 1
    assert grown("dermaserve_requests_total route=unmatched status=404") == 1
    assert grown("dermaserve_request_duration_seconds_count route=/predict status=200") == 1
    assert grown("dermaserve_batch_size_count") == 1
    assert grown("dermaserve_inference_duration_seconds_count") == 1
    assert grown("dermaserve_queue_wait_seconds_count") == 1
    assert grown("dermaserve_receive_duration_seconds_count") == 2
    assert grown("dermaserve_decode_duration_seconds_count") == 2
    assert sum(grown(name) for name in after if name.startswith("dermaserve_predictions_total")) == 1
    assert after["dermaserve_ready"] == 1
    assert after["dermaserve_queue_depth"] == 0
    assert after["dermaserve_requests_limit"] == client.runtime.settings.max_queue_size
    assert after["dermaserve_gpu_demanded"] == after["dermaserve_gpu_used"] == 0
    info = "dermaserve_model_info name=tiny-test-bundle provider=CPUExecutionProvider version=0.0.1"
    assert after[info] == 1
    assert after["process_resident_memory_bytes"] > 0
    assert not [name for name in after if "path/of" in name]


def test_the_time_to_draw_overlays_is_measured(jpeg: bytes, client: Client) -> None:
    name = "dermaserve_overlay_duration_seconds_count"
    before = samples(client)[name]
    client.post("/predict", content=jpeg, headers=JPEG)
    client.post("/predict?gradcam=true", content=jpeg, headers=JPEG)
    client.post("/gradcam", content=jpeg, headers=JPEG)
    assert samples(client)[name] == before + 2


def test_two_apps_in_one_process_have_separate_metrics(tiny: object, jpeg: bytes, client: Client) -> None:
    with running(client.runtime.settings.bundle) as other:
        other.post("/predict", content=jpeg, headers=JPEG)
        name = "dermaserve_requests_total route=/predict status=200"
        assert samples(other)[name] == 1
        mine = samples(client).get(name, 0)
        other.post("/predict", content=jpeg, headers=JPEG)
        assert samples(client).get(name, 0) == mine


def test_an_unexpected_error_is_a_500_with_details_only_in_the_log(
    client: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is in /etc/secret")

    monkeypatch.setattr("service.api.job.read_image", broken)
    with caplog.at_level(logging.ERROR):
        response = client.post("/predict", content=jpeg, headers=JPEG)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == response.json()["request_id"]
    assert "the secret is in /etc/secret" in caplog.text
    assert response.json()["request_id"] in caplog.text


def test_requests_are_logged_with_route_and_status_but_not_their_path(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        client.get("/patients/Doe")
    # The client of this test, httpx, logs as well.
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("service"))
    assert re.search(r"GET unmatched 404 \d+\.\d ms", ours)
    assert "Doe" not in ours


def test_continuous_scrapes_leave_the_event_loop_time_for_requests(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    collect = CollectorRegistry.collect

    def counted(registry: CollectorRegistry) -> Iterator[Metric]:
        written.append(time.monotonic())
        yield from collect(registry)

    with running(tiny) as client:
        monkeypatch.setattr(CollectorRegistry, "collect", counted)
        asked = [client.begin("GET", "/metrics") for _ in range(100)]
        assert {future.result(20).status_code for future in asked} == {200}
        assert len(written) < 50
        begin = time.monotonic()
        assert client.get("/metrics").status_code == 200
        assert written[-1] >= begin  # never an older text than the question


def test_the_model_card_is_built_once_per_model(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def counted(manifest: Manifest, provider: str, limits: RequestLimits) -> bytes:
        written.append(provider)
        return model_card_json(manifest, provider, limits)

    monkeypatch.setattr("service.api.images.model_card_json", counted)
    with running(tiny) as client:
        assert len({client.get("/model").text for _ in range(3)}) == 1
    assert len(written) == 1


def test_the_model_card_says_what_this_server_accepts(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.schemas.ACCEPTED_FORMATS", {"JPEG": "image/jpeg"})
    with running(tiny, max_body_bytes=5_000_000, max_pixels=1_000_000, request_timeout=7.5) as client:
        card = client.get("/model").json()
    assert card["formats"] == ["image/jpeg"]
    assert card["request_limits"] == {
        "max_body_bytes": 5_000_000,
        "max_pixels": 1_000_000,
        "max_images": 32,
        "timeout_seconds": 7.5,
    }
