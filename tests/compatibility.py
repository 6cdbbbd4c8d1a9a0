"""Breaking changes between two OpenAPI 3.1 documents of one API.

What an old client sends must still be accepted, and what it receives must still be what it expects.
Descriptions and examples are ignored, and so are keywords that this API does not use, such as ``allOf``.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

Schema = dict[str, Any]

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_METHODS = ("get", "put", "post", "delete", "head", "options", "patch", "trace")


class _Side(NamedTuple):
    """A schema with the document that resolves its references."""

    document: Schema
    schema: Schema

    def at(self, schema: Any) -> "_Side":
        """The schema within the same document, its reference resolved. ``True`` allows anything."""
        schema = schema if isinstance(schema, dict) else {}
        while "$ref" in schema:
            found: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return _Side(self.document, schema)

    def variants(self) -> "list[_Side]":
        """The alternatives of the schema, one for each type."""
        for keyword in ("anyOf", "oneOf"):
            if keyword in self.schema:
                return [one for part in self.schema[keyword] for one in self.at(part).variants()]
        types = self.schema.get("type")
        if isinstance(types, list):
            return [_Side(self.document, {**self.schema, "type": one}) for one in types]
        return [self]


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Describe every change from ``old`` to ``new`` that breaks a client of ``old``.

    A new major version (``info.version``) may change anything.
    """
    if old["info"]["version"].split(".")[0] != new["info"]["version"].split(".")[0]:
        return []
    return list(_operations(old, new))


def _operations(old: Schema, new: Schema) -> Iterator[str]:
    for path, item in old["paths"].items():
        for method in filter(item.__contains__, _METHODS):
            where = f"{method.upper()} {path}"
            replaced = new["paths"].get(path, {}).get(method)
            if replaced is None:
                yield f"{where}: removed"
                continue
            before, after = _Side(old, item[method]), _Side(new, replaced)
            yield from _security(before, after, where)
            yield from _parameters(before, after, where)
            yield from _request_body(before, after, where)
            yield from _responses(before, after, where)


def _security(old: _Side, new: _Side, where: str) -> Iterator[str]:
    """Each set of credentials that sufficed must still suffice. The empty one is a request without any."""

    def alternatives(side: _Side) -> list[dict[str, list[str]]]:
        found: list[dict[str, list[str]]] = (side.document | side.schema).get("security") or [{}]
        return found

    def scheme(side: _Side, name: str) -> Schema:
        found = side.at(side.document["components"]["securitySchemes"][name]).schema
        return {key: value for key, value in found.items() if key != "description"}

    def suffices(sent: dict[str, list[str]], required: dict[str, list[str]]) -> bool:
        return all(
            name in sent and set(scopes) <= set(sent[name]) and scheme(old, name) == scheme(new, name)
            for name, scopes in required.items()
        )

    for sent in alternatives(old):
        if not any(suffices(sent, required) for required in alternatives(new)):
            yield f"{where}: security: {' and '.join(sent) or 'nothing'} no longer suffices"


def _parameters(old: _Side, new: _Side, where: str) -> Iterator[str]:
    def by_name(side: _Side) -> dict[tuple[str, str], Schema]:
        found = [side.at(parameter).schema for parameter in side.schema.get("parameters", [])]
        return {(parameter["in"], parameter["name"]): parameter for parameter in found}

    before, after = by_name(old), by_name(new)
    for key, parameter in before.items():
        name = f"{where}: {key[0]} parameter {key[1]}"
        if key not in after:
            yield f"{name}: removed"
            continue
        yield from _contained(old.at(parameter["schema"]), new.at(after[key]["schema"]), name, request=True)
    for key, parameter in after.items():
        if parameter.get("required") and not before.get(key, {}).get("required"):
            yield f"{where}: {key[0]} parameter {key[1]}: newly required"


def _request_body(old: _Side, new: _Side, where: str) -> Iterator[str]:
    before, after = old.schema.get("requestBody", {}), new.schema.get("requestBody", {})
    if after.get("required") and not before.get("required"):
        yield f"{where}: request body: newly required"
    yield from _contents(old.at(before), new.at(after), f"{where}: request body", request=True)


def _responses(old: _Side, new: _Side, where: str) -> Iterator[str]:
    before, after = old.schema["responses"], new.schema["responses"]
    for status in before:
        if status in after:
            name = f"{where}: response {status}"
            replies = old.at(before[status]), new.at(after[status])
            yield from _headers(*replies, name)
            yield from _contents(*replies, name, request=False)
        elif status.startswith("2"):
            yield f"{where}: response {status}: removed"


def _headers(old: _Side, new: _Side, where: str) -> Iterator[str]:
    def by_name(side: _Side) -> dict[str, Schema]:
        headers = side.schema.get("headers", {})
        return {name.lower(): side.at(header).schema for name, header in headers.items()}

    after = by_name(new)
    for key, header in by_name(old).items():
        name = f"{where}: header {key}"
        if key not in after:
            yield f"{name}: removed"
            continue
        if header.get("required") and not after[key].get("required"):
            yield f"{name}: no longer always there"
        yield from _contained(
            old.at(header.get("schema")), new.at(after[key].get("schema")), name, request=False
        )


def _contents(old: _Side, new: _Side, where: str, *, request: bool) -> Iterator[str]:
    before, after = old.schema.get("content", {}), new.schema.get("content", {})
    for media_type, content in before.items():
        if media_type not in after:
            yield f"{where}: {media_type}: removed"
            continue
        schemas = old.at(content.get("schema")), new.at(after[media_type].get("schema"))
        yield from _contained(*schemas, f"{where}: {media_type}", request=request)


def _contained(
    old: _Side, new: _Side, where: str, *, request: bool, seen: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str]:
    """Describe what the new schema of a request refuses of the old, or that of a response adds to it."""
    key = id(old.schema), id(new.schema)
    if key in seen:  # a schema that refers to itself
        return
    seen |= {key}
    inner, outer = (old, new) if request else (new, old)
    if len(inner.variants()) == len(outer.variants()) == 1:
        yield from _one(old.variants()[0], new.variants()[0], where, request=request, seen=seen)
        return
    for part in inner.variants():
        found = [
            list(_one(*((part, other) if request else (other, part)), where, request=request, seen=seen))
            for other in outer.variants()
        ]
        if all(found):
            yield from min(found, key=len)


def _one(
    old: _Side, new: _Side, where: str, *, request: bool, seen: frozenset[tuple[int, int]]
) -> Iterator[str]:
    """``_contained`` of schemas without alternatives."""
    inner, outer = (old.schema, new.schema) if request else (new.schema, old.schema)
    type_, allowed = inner.get("type"), outer.get("type")
    if allowed is not None and type_ != allowed and (type_, allowed) != ("integer", "number"):
        yield f"{where}: type {old.schema.get('type')} became {new.schema.get('type')}"
        return
    values, choices = _values(inner), _values(outer)
    if choices is not None and (values is None or not values <= choices):
        yield f"{where}: values {_names(old)} became {_names(new)}"
    for bound in _LOWER:
        if outer.get(bound, float("-inf")) > inner.get(bound, float("-inf")):
            yield f"{where}: {bound} {old.schema.get(bound)} became {new.schema.get(bound)}"
    for bound in _UPPER:
        if outer.get(bound, float("inf")) < inner.get(bound, float("inf")):
            yield f"{where}: {bound} {old.schema.get(bound)} became {new.schema.get(bound)}"
    for keyword in ("pattern", "format", "contentMediaType"):
        if keyword in outer and outer[keyword] != inner.get(keyword):
            yield f"{where}: {keyword} {old.schema.get(keyword)} became {new.schema.get(keyword)}"
    for name in sorted(set(outer.get("required", ())) - set(inner.get("required", ()))):
        yield f"{where}.{name}: {'newly required' if request else 'no longer always there'}"
    before, after = old.schema.get("properties", {}), new.schema.get("properties", {})
    for name, schema in before.items():
        if name not in after:
            yield f"{where}.{name}: removed"
            continue
        yield from _contained(
            old.at(schema), new.at(after[name]), f"{where}.{name}", request=request, seen=seen
        )
    for keyword, sign in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(old.schema.get(keyword), dict):
            sides = old.at(old.schema[keyword]), new.at(new.schema.get(keyword))
            yield from _contained(*sides, where + sign, request=request, seen=seen)


def _values(schema: Schema) -> set[Any] | None:
    return {schema["const"]} if "const" in schema else set(schema["enum"]) if "enum" in schema else None


def _names(side: _Side) -> str:
    values = _values(side.schema)
    return "any" if values is None else ", ".join(sorted(map(str, values)))
