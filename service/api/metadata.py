"""Reads age, sex and body site from query parameters and form fields.

The messages never contain the values: they are data of patients.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from models.bundle import NO_METADATA, Metadata
from models.manifest.metadata import MAX_AGE, SEXES, SITES
from service.errors import Fault, InvalidRequest

FIELDS = tuple(Metadata.model_fields)
"""Names of the query parameters and form fields: ``age``, ``sex`` and ``site``."""

_EXPECTED = {
    "age": f"a number of years from 0 to {MAX_AGE:g}",
    "sex": " or ".join(SEXES),
    "site": f"one of {', '.join(SITES)}",
}
_MAX_FAULTS = 32
_MAX_ENTRIES = 100
"""More than a batch may have images. It ends the checks of a long array, each of which may fail."""

_BATCH = TypeAdapter(Annotated[list[Metadata | None], Field(max_length=_MAX_ENTRIES)])


def field_schemas() -> dict[str, Any]:
    """Return the JSON schemas of the form fields, by name.

    Without examples: Swagger UI fills them in, and would send them as facts about the patient.
    """
    properties = Metadata.model_json_schema()["properties"]
    return {
        name: {key: value for key, value in schema.items() if key not in ("default", "title", "examples")}
        for name, schema in properties.items()
    }


_SCHEMAS = field_schemas()


def _parameter(name: str) -> Any:
    described = _SCHEMAS[name].get("description", "").strip()
    description = f"{described} Prefer the form field: proxies log the query.".strip()
    return Query(description=description, max_length=64)


def _text(name: str) -> WithJsonSchema:
    hidden = ("description",)
    return WithJsonSchema({key: value for key, value in _SCHEMAS[name].items() if key not in hidden})


async def _read_query(
    age: Annotated[Annotated[str, _text("age")] | SkipJsonSchema[None], _parameter("age")] = None,
    sex: Annotated[Annotated[str, _text("sex")] | SkipJsonSchema[None], _parameter("sex")] = None,
    site: Annotated[Annotated[str, _text("site")] | SkipJsonSchema[None], _parameter("site")] = None,
) -> Metadata:
    sent = {"age": age, "sex": sex, "site": site}
    return parse_texts({name: text for name, text in sent.items() if text is not None}, "parameter")


QueryMetadata = Annotated[Metadata, Depends(_read_query)]
"""The metadata in the query of a request. InvalidRequest if a value is not accepted."""


def parse_texts(texts: Mapping[str, str], place: Literal["parameter", "pointer"]) -> Metadata:
    """Parse the texts of fields by name. An empty text counts as not sent.

    Args:
        texts: texts of some of ``FIELDS``.
        place: whether a fault is in a query parameter or in a form field.

    Raises:
        InvalidRequest: a value is not accepted.
    """
    try:
        return Metadata.model_validate({name: text for name, text in texts.items() if text})
    except ValidationError as error:
        names = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors(include_input=False))
        faults = [
            Fault(f"{name}: expected {_EXPECTED[name]}.", parameter=name)
            if place == "parameter"
            else Fault(f"{name}: expected {_EXPECTED[name]}.", pointer=f"#/{name}")
            for name in names
        ]
    # Outside the handler: the cause would hold the values.
    raise _refused(faults)


def parse_batch(data: bytes, images: int) -> list[Metadata]:
    """Parse the form field ``metadata`` of a batch.

    Args:
        data: a JSON array with an object or null for each image.
        images: number of images.

    Raises:
        InvalidRequest: it is not such an array, or a value is not accepted.
    """
    try:
        found = _BATCH.validate_json(data, strict=True)
    except ValidationError as error:
        errors = error.errors(include_input=False)
        if any(fault["type"] == "too_long" for fault in errors):
            raise _wrong_length(images, f"more than {_MAX_ENTRIES}") from None
        places = [fault["loc"] for fault in errors]
        faults = list(dict.fromkeys(_fault_at(place) for place in places))[:_MAX_FAULTS]
        found = None
    if found is None:
        raise _refused(faults)
    if len(found) != images:
        raise _wrong_length(images, str(len(found)))
    return [entry or NO_METADATA for entry in found]


def _wrong_length(images: int, got: str) -> InvalidRequest:
    text = f"metadata: expected one entry for each of the {images} images, got {got}."
    return InvalidRequest(text, pointer="#/metadata")


def merge(query: Metadata, form: Metadata) -> Metadata:
    """Combine what the query and the form say of one image.

    Raises:
        InvalidRequest: they differ in a value.
    """
    faults = []
    for name in FIELDS:
        in_query, in_form = getattr(query, name), getattr(form, name)
        if None not in (in_query, in_form) and in_query != in_form:
            detail = f"{name}: the query parameter and the form field differ."
            faults.append(Fault(detail, parameter=name, pointer=f"#/{name}"))
    if faults:
        raise _refused(faults)
    return Metadata.model_validate(query.model_dump() | form.model_dump())


def _fault_at(place: tuple[int | str, ...]) -> Fault:
    """Describe an error of ``_BATCH`` at ``place``."""
    match place:
        case (int(index), str(name), *_) if name in _EXPECTED:
            return Fault(f"{name}: expected {_EXPECTED[name]}.", pointer=f"#/metadata/{index}/{name}")
        case (int(index), *_):
            detail = f"metadata: expected null or an object with some of {', '.join(FIELDS)}."
            return Fault(detail, pointer=f"#/metadata/{index}")
        case _:
            detail = "metadata: expected a JSON array with one object or null for each image."
            return Fault(detail, pointer="#/metadata")


def _refused(faults: Sequence[Fault]) -> InvalidRequest:
    return InvalidRequest(" ".join(dict.fromkeys(fault.detail for fault in faults)), faults=faults)
