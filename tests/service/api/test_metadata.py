"""Age, sex and body site in requests: used by models that read them, ignored by others, never logged."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.api.metadata import _BATCH
from service.observability.logs import JsonFormatter
from tests.service.app_client import Client, running
from tests.service.conftest import JPEG, assert_problem
from tests.tiny_bundle import write_tiny_bundle

KNOWN: dict[str, Any] = {"age": "55", "sex": "female", "site": "back"}
USED = {"age": 55.0, "sex": "female", "site": "back"}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Return a service whose model reads metadata; its image part is that of ``client``."""
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("metadata"), metadata=True)
    with running(bundle.path) as client:
        yield client


def predicted(client: Client, jpeg: bytes, query: Mapping[str, str] | None = None, **form: Any) -> Any:
    response = client.post("/predict", files={"file": jpeg}, params=query, data=form)
    assert response.status_code == 200, response.text
    return response.json()


def without_ids(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "request_id"}


def batch(client: Client, jpeg: bytes, metadata: str, images: int = 2) -> Any:
    return client.post("/predict/batch", files=[("files", jpeg)] * images, data={"metadata": metadata})


def test_without_metadata_answers_are_bit_identical_to_the_model_without_the_input(
    client: Client, reader: Client, jpeg: bytes
) -> None:
    plain, without = predicted(client, jpeg), predicted(reader, jpeg)
    assert without_ids(without) == without_ids(plain)
    pictures = [door.post("/gradcam", content=jpeg, headers=JPEG).content for door in (client, reader)]
    assert pictures[0] == pictures[1]
    results = [
        door.post("/predict/batch", files=[("files", jpeg)]).json()["results"][0] for door in (client, reader)
    ]
    assert without_ids(results[0]) == without_ids(results[1])


def test_form_fields_and_query_parameters_give_the_same_answer(reader: Client, jpeg: bytes) -> None:
    form, query = predicted(reader, jpeg, **KNOWN), predicted(reader, jpeg, KNOWN)
    raw = reader.post("/predict", content=jpeg, headers=JPEG, params=KNOWN).json()
    both = predicted(reader, jpeg, {"age": "55.0", "sex": "female"}, age="55", site="back")
    assert form["metadata_used"] == USED
    assert without_ids(form) == without_ids(query) == without_ids(raw) == without_ids(both)
    assert form["probabilities"] != predicted(reader, jpeg)["probabilities"]
    assert sum(form["probabilities"].values()) == pytest.approx(1, abs=1e-6)


def test_the_thresholds_for_images_with_metadata_apply_where_it_counted(reader: Client, jpeg: bytes) -> None:
    with_age, without = predicted(reader, jpeg, age="30"), predicted(reader, jpeg)
    assert with_age["malignancy"]["threshold"] == 0.25
    assert with_age["prediction_set"]["coverage"] == 0.8
    assert len(with_age["prediction_set"]["labels"]) == 7
    reached = with_age["malignancy"]["probability"] >= 0.25
    assert with_age["malignancy"]["flag"] == ("malignant" if reached else "benign")
    assert without["malignancy"]["threshold"] == 0.5
    assert without["prediction_set"]["coverage"] == 0.9


def test_a_value_that_the_model_does_not_know_is_not_used(reader: Client, jpeg: bytes) -> None:
    ear, plain = predicted(reader, jpeg, site="ear"), predicted(reader, jpeg)
    assert without_ids(ear) == without_ids(plain)
    assert predicted(reader, jpeg, site="ear", sex="male")["metadata_used"] == {"sex": "male"}


def test_a_model_that_reads_only_images_ignores_valid_metadata(client: Client, jpeg: bytes) -> None:
    assert without_ids(predicted(client, jpeg, **KNOWN)) == without_ids(predicted(client, jpeg))
    assert_problem(client.post("/predict", files={"file": jpeg}, data={"age": "old"}), 422, "invalid-request")
    result = batch(client, jpeg, json.dumps([USED, None])).json()["results"][0]
    assert result["metadata_used"] is None


def test_empty_fields_count_as_not_sent(reader: Client, jpeg: bytes) -> None:
    assert predicted(reader, jpeg, {"sex": ""}, age="", site="")["metadata_used"] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("age", "old"),
        ("age", "-1"),
        ("age", "120.5"),
        ("age", "nan"),
        ("age", "inf"),
        ("sex", "unknown"),
        ("sex", "Female"),
        ("site", "leg"),
        ("site", "back,face"),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/gradcam"])
def test_wrong_values_are_422_and_name_the_field(
    reader: Client, jpeg: bytes, path: str, name: str, value: str
) -> None:
    for options, place in (
        ({"data": {name: value}}, {"pointer": f"#/{name}"}),
        ({"params": {name: value}}, {"parameter": name}),
    ):
        response = reader.post(path, files={"file": jpeg}, **options)
        assert_problem(response, 422, "invalid-request")
        (fault,) = response.json()["errors"]
        assert fault.pop("detail").startswith(f"{name}: expected ")
        assert fault == place
        assert value not in response.json()["detail"].replace("female", "").split()


def test_every_wrong_field_is_named(reader: Client, jpeg: bytes) -> None:
    response = reader.post("/predict", files={"file": jpeg}, data={"age": "x", "sex": "male", "site": "y"})
    assert [fault["pointer"] for fault in response.json()["errors"]] == ["#/age", "#/site"]


def test_a_query_and_a_form_that_differ_are_422(reader: Client, jpeg: bytes) -> None:
    response = reader.post("/predict", files={"file": jpeg}, data={"sex": "male"}, params={"sex": "female"})
    assert_problem(response, 422, "invalid-request")
    (fault,) = response.json()["errors"]
    assert (fault["parameter"], fault["pointer"]) == ("sex", "#/sex")


def test_fields_that_are_large_repeated_or_not_text_are_422(reader: Client, jpeg: bytes) -> None:
    bad: list[tuple[str, list[tuple[str, Any]]]] = [
        ("#/age", [("age", (None, b"5" * 100_000))]),
        ("#/sex", [("sex", (None, b"male")), ("sex", (None, b"male"))]),
        ("#/site", [("site", (None, b"\xff\xfe"))]),
    ]
    for pointer, parts in bad:
        response = reader.post("/predict", files=[*parts, ("file", jpeg)])
        assert_problem(response, 422, "invalid-request")
        assert response.json()["errors"][0]["pointer"] == pointer
    assert_problem(batch(reader, jpeg, "[" + " " * 20_000 + "null]", images=1), 422, "invalid-request")


def test_a_long_array_of_metadata_is_not_checked_to_its_end(reader: Client, jpeg: bytes) -> None:
    array = "[" + "1," * 8000 + "1]"
    with pytest.raises(ValidationError) as caught:
        _BATCH.validate_json(array)
    assert caught.value.error_count() <= 101
    response = batch(reader, jpeg, array, images=1)
    assert_problem(response, 422, "invalid-request")
    assert response.json()["detail"] == (
        "metadata: expected one entry for each of the 1 images, got more than 100."
    )


def test_gradcam_takes_metadata_too(tmp_path: Path, reader: Client, jpeg: bytes) -> None:
    response = reader.post("/gradcam", files={"file": jpeg}, data=KNOWN)
    assert response.headers["x-gradcam-label"] == predicted(reader, jpeg, **KNOWN)["prediction"]["label"]


def test_each_image_of_a_batch_has_its_own_metadata(reader: Client, jpeg: bytes) -> None:
    response = batch(reader, jpeg, json.dumps([None, USED, {}, {"age": None, "sex": "male"}]), images=4)
    results = response.json()["results"]
    assert [result["metadata_used"] for result in results] == [None, USED, None, {"sex": "male"}]
    single = predicted(reader, jpeg, **KNOWN)
    assert results[1]["probabilities"] == pytest.approx(single["probabilities"], abs=1e-6)
    without = predicted(reader, jpeg)["probabilities"]
    assert results[0]["probabilities"] == pytest.approx(without, abs=1e-6)


@pytest.mark.parametrize(
    ("metadata", "pointers"),
    [
        ("{", ["#/metadata"]),
        ("{}", ["#/metadata"]),
        ("[null]", ["#/metadata"]),
        ("[null, null, null]", ["#/metadata"]),
        ("[" * 10_000, ["#/metadata"]),
        ('[null, "55"]', ["#/metadata/1"]),
        ('[{"localization": "back"}, null]', ["#/metadata/0"]),
        ('[null, {"site": "leg"}]', ["#/metadata/1/site"]),
        ('[{"age": "55"}, null]', ["#/metadata/0/age"]),
        ('[{"age": true}, null]', ["#/metadata/0/age"]),
        ('[{"age": NaN}, null]', ["#/metadata/0/age"]),
        (
            '[{"age": 1e400, "sex": 1}, {"site": ["back"]}]',
            ["#/metadata/0/age", "#/metadata/0/sex", "#/metadata/1/site"],
        ),
    ],
)
def test_wrong_metadata_of_a_batch_is_422_with_a_pointer(
    reader: Client, jpeg: bytes, metadata: str, pointers: list[str]
) -> None:
    response = batch(reader, jpeg, metadata)
    assert_problem(response, 422, "invalid-request")
    assert [fault["pointer"] for fault in response.json()["errors"]] == pointers


def test_metadata_is_never_logged_traced_or_counted(
    tmp_path: Path, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = write_tiny_bundle(tmp_path, metadata=True)
    caplog.set_level(logging.DEBUG)
    for audit in (False, True):
        with running(bundle.path, audit=audit) as client:
            predicted(client, jpeg, {"age": "87.5"}, site="back")
            batch(client, jpeg, '[{"age": 87.5}, {"site": "back"}]')
            client.post("/predict", files={"file": jpeg}, data={"site": "87.5 back"})
            client.post("/predict", files={"file": jpeg}, params={"age": "87.5 back"})
            client.post("/predict", files={"file": jpeg}, params={"age": "87.5"}, data={"age": "3"})
            metrics = client.get("/metrics").text
        assert "87.5" not in metrics
        assert 'back"' not in metrics
    logged = "\n".join(JsonFormatter().format(record) for record in caplog.records)
    ours = [line for line in logged.splitlines() if '"logger": "httpx' not in line]
    assert any("predict" in line for line in ours)
    for line in ours:
        assert "87.5" not in line
        assert '"back' not in line
