"""Prediction drift: the index, its window, and what counts."""

import math

import numpy as np
import pytest

from models.bundle import CONFIDENCE_BINS, DriftReference
from service.observability.drift import MIN_IMAGES, Drift, population_stability_index
from tests.service.api.test_operations import samples
from tests.service.app_client import Client, running
from tests.service.conftest import JPEG

LABELS = {"mel": 0.25, "nv": 0.75}
EVEN = tuple([1 / CONFIDENCE_BINS] * CONFIDENCE_BINS)


def drift(window: int = 1000, images: int = 1000) -> Drift:
    return Drift(DriftReference(images=images, labels=LABELS, confidence=EVEN), window=window)


def test_the_index_is_the_sum_over_bins_of_both_divergences() -> None:
    # By hand, without the half image added to each bin: (0.3 - 0.5) ln(0.3 / 0.5) + (0.7 - 0.5) ln(0.7 / 0.5)
    expected = -0.2 * math.log(0.6) + 0.2 * math.log(1.4)
    assert population_stability_index([300_000, 700_000], [500_000, 500_000]) == pytest.approx(expected, 1e-4)
    assert population_stability_index([5, 5], [500, 500]) == 0
    assert population_stability_index([3, 7], [5, 5]) == population_stability_index([5, 5], [3, 7])


def test_an_empty_bin_counts_as_half_an_image() -> None:
    p, q = 0.5 / 101, 50.5 / 101
    expected = (p - q) * math.log(p / q) + ((1 - p) - (1 - q)) * math.log((1 - p) / (1 - q))
    assert population_stability_index([0, 100], [50, 50]) == pytest.approx(expected)


def test_chance_alone_gives_what_the_least_number_of_images_was_chosen_by() -> None:
    rng = np.random.default_rng(0)
    shares, images = np.full(10, 0.1), 1500

    def sample(images: int) -> list[float]:
        return [float(count) for count in rng.multinomial(images, shares)]

    found = [population_stability_index(sample(MIN_IMAGES), sample(images)) for _ in range(1000)]
    scale = 1 / MIN_IMAGES + 1 / images
    assert np.mean(found) == pytest.approx(9 * scale, rel=0.1)
    assert np.std(found) == pytest.approx(math.sqrt(2 * 9) * scale, rel=0.15)
    assert np.mean(np.array(found) > 0.1) < 0.05
    assert max(found) < 0.25


def test_nothing_is_said_of_few_images() -> None:
    found = drift()
    for _ in range(MIN_IMAGES - 1):
        found.add("nv", 0.95)
    assert math.isnan(found.index("label"))
    assert math.isnan(found.index("confidence"))
    found.add("nv", 0.95)
    assert found.index("label") > 0.25
    assert found.index("confidence") > 0.25


def test_images_leave_the_window_after_its_size() -> None:
    found = drift(window=MIN_IMAGES)
    for _ in range(1000):
        found.add("mel", 1.0)
    assert found.images == MIN_IMAGES
    strange = found.index("label"), found.index("confidence")
    for index in range(MIN_IMAGES):  # spread as the reference
        found.add("mel" if index % 4 == 0 else "nv", (index % CONFIDENCE_BINS + 0.5) / CONFIDENCE_BINS)
    assert found.images == MIN_IMAGES
    assert min(strange) > 0.25
    assert found.index("label") < 1e-3
    assert found.index("confidence") < 1e-3


def test_the_edges_of_confidence_fall_in_the_bins_of_the_reference() -> None:
    reference = DriftReference(images=1000, labels=LABELS, confidence=(0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0.5))
    found = Drift(reference, window=1000)
    for index in range(MIN_IMAGES):
        found.add("nv", 0.5 if index % 2 else 1.0)
    assert found.index("confidence") < 0.05


def test_no_image_is_lost_or_counted_twice_while_the_window_moves() -> None:
    found = drift(window=300)
    for index in range(2000):
        found.add("mel" if index % 4 == 0 else "nv", (index % CONFIDENCE_BINS + 0.5) / CONFIDENCE_BINS)
    assert found.images == 300
    assert not math.isnan(found.index("label"))
    for _ in range(300):  # every count of before must leave again
        found.add("nv", 0.95)
    exact = drift(window=300)
    for _ in range(300):
        exact.add("nv", 0.95)
    assert found.index("label") == exact.index("label")
    assert found.index("confidence") == exact.index("confidence")


def test_images_of_every_route_count_and_images_refused_do_not(client: Client, jpeg: bytes) -> None:
    before = samples(client)
    client.post("/predict", content=jpeg, headers=JPEG)
    client.post("/gradcam", content=jpeg, headers=JPEG)
    client.post("/predict/batch", files=[("files", jpeg), ("files", b"no image"), ("files", jpeg)])
    client.post("/predict", content=b"no image", headers=JPEG)
    after = samples(client)

    def grown(name: str) -> float:
        return after[name] - before[name]

    assert grown("dermaserve_drift_images") == 4
    assert grown("dermaserve_confidence_count") == 4
    assert math.isnan(after["dermaserve_drift_psi of=label"])
    shares = [after[name] for name in after if name.startswith("dermaserve_reference_share")]
    assert sum(shares) == pytest.approx(1)


def test_the_service_shows_drift_as_soon_as_there_are_enough_images(client: Client, jpeg: bytes) -> None:
    with running(client.runtime.settings.bundle, drift_window=MIN_IMAGES) as door:
        confidence = max(door.post("/predict", content=jpeg, headers=JPEG).json()["probabilities"].values())
        for _ in range(MIN_IMAGES // 20):
            answer = door.post("/predict/batch", files=[("files", jpeg)] * 20)
            assert answer.status_code == 200
        found = samples(door)
    assert found["dermaserve_drift_images"] == MIN_IMAGES
    # Always the same image: nothing could be further from the reference.
    assert found["dermaserve_drift_psi of=label"] > 1
    assert found["dermaserve_drift_psi of=confidence"] > 1
    edge = math.ceil(confidence * CONFIDENCE_BINS) / CONFIDENCE_BINS
    assert found[f"dermaserve_confidence_bucket le={edge}"] == MIN_IMAGES + 1
    assert found.get(f"dermaserve_confidence_bucket le={edge - 0.1:.1f}", 0) == 0
