"""``POST /predict/batch`` where the service fails: an outage looks like one, and nothing is uncounted."""

from pathlib import Path
from typing import Any

import pytest

from service.errors import InferenceFailed, NoMemory, NotReady, Stuck
from service.inference.classifier import Classifier
from tests.service.api.test_operations import samples
from tests.service.app_client import Client, running
from tests.service.conftest import JPEG, assert_problem

METRIC = "dermaserve_image_problems_total problem={} status={}"


def failing(monkeypatch: pytest.MonkeyPatch, *errors: Exception | None) -> None:
    """Make each image in turn fail with an error, or succeed for None."""
    real, turns = Classifier.classify, iter(errors)

    async def classify(self: Classifier, *args: Any, **options: Any) -> Any:
        if (error := next(turns)) is not None:
            raise error
        return await real(self, *args, **options)

    monkeypatch.setattr(Classifier, "classify", classify)


def batch(client: Client, *images: bytes) -> Any:
    return client.post("/predict/batch", files=[("files", image) for image in images])


@pytest.fixture
def fresh(tiny: Path) -> Any:
    with running(tiny) as client:
        yield client


@pytest.mark.parametrize(
    ("errors", "status", "kind", "wait"),
    [
        ([Stuck(), Stuck()], 503, "not-ready", 60),
        ([NoMemory(), NoMemory()], 503, "overloaded", 1),
        ([NoMemory(), Stuck()], 503, "not-ready", 60),  # the longest wait helps both
        ([InferenceFailed("x"), NoMemory()], 503, "overloaded", 1),
        ([InferenceFailed("x"), InferenceFailed("y")], 500, "internal-error", None),
    ],
)
def test_a_batch_gets_the_failure_if_the_service_fails_on_every_image(
    fresh: Client,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
    errors: list[Exception],
    status: int,
    kind: str,
    wait: int | None,
) -> None:
    failing(monkeypatch, *errors)
    answer = batch(fresh, jpeg, jpeg)
    assert_problem(answer, status, kind)
    assert answer.headers.get("retry-after") == (None if wait is None else str(wait))
    counted = samples(fresh)
    assert sum(v for k, v in counted.items() if k.startswith("dermaserve_image_problems_total")) == 2


def test_a_batch_that_fails_in_part_has_predictions_and_counted_problems(
    fresh: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, NoMemory(), None, NotReady("Later.", reason="draining", retry_after=5))
    answer = batch(fresh, jpeg, b"no image", jpeg, jpeg)
    assert answer.status_code == 200, answer.text
    statuses = sorted(result.get("status", 200) for result in answer.json()["results"])
    assert statuses == [200, 415, 503, 503]
    counted = samples(fresh)
    for kind, status in (("overloaded", 503), ("not-ready", 503), ("unsupported-image", 415)):
        assert counted[METRIC.format(kind, status)] == 1


def test_a_batch_with_a_damaged_image_and_failures_has_a_result_for_each(
    fresh: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, NoMemory())
    answer = batch(fresh, jpeg[:500], jpeg)
    assert answer.status_code == 200
    assert [result["status"] for result in answer.json()["results"]] == [422, 503]


def test_failures_of_single_images_and_of_batches_are_counted_alike(
    fresh: Client, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert samples(fresh)[METRIC.format("overloaded", 503)] == 0  # from 0 on, for rates
    failing(monkeypatch, NoMemory())
    assert_problem(fresh.post("/predict", content=jpeg, headers=JPEG), 503, "overloaded")
    assert_problem(fresh.post("/gradcam", content=b"x", headers=JPEG), 415, "unsupported-image")
    counted = samples(fresh)
    assert counted[METRIC.format("overloaded", 503)] == 1
    assert counted[METRIC.format("unsupported-image", 415)] == 1
