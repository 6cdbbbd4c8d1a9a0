"""Compares a manifest with what a model read of it, and damages manifests. Needs no package.

Models of custom resources ignore fields that they do not know, and convert ``"2"`` to 2. Kubernetes drops or
refuses both.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

Object = dict[str, Any]

KEDA, OPERATOR, KSERVE = "keda.sh/", "monitoring.coreos.com/", "serving.kserve.io/"
"""What the ``apiVersion`` of custom resources starts with."""

_FREE = ("labels", "matchLabels", "annotations", "requests", "limits", "triggers[0].metadata")
"""Fields whose keys are anybody's choice."""


def faults(manifest: Object, read: Callable[[Object], Object]) -> list[str]:
    """Return what is wrong with a manifest, none if it is right.

    Args:
        manifest: the object.
        read: returns what a model reads of an object, as JSON. May raise ``LookupError``, ``TypeError`` or
            ``ValueError``.
    """
    try:
        return list(_differences(manifest, read(copy.deepcopy(manifest)), ""))
    except (LookupError, TypeError, ValueError) as error:
        return [f"{type(error).__name__}: {error}"]


def _differences(written: Any, read: Any, path: str) -> Iterator[str]:
    if isinstance(written, dict) and isinstance(read, dict):
        for name in sorted(written.keys() | read.keys()):
            if name in written and name in read:
                yield from _differences(written[name], read[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}: {'unknown' if name in written else 'added'}"
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for at, pair in enumerate(zip(written, read, strict=True)):
            yield from _differences(*pair, f"{path}[{at}]")
    elif type(written) is not type(read) or written != read:
        yield f"{path}: {written!r} was read as {read!r}"


def misspelt(manifest: Object) -> Iterator[tuple[str, Object]]:
    """Yield the path of each field of a manifest, and a copy of the manifest with this field misspelt."""
    damaged = copy.deepcopy(manifest)
    for path, parent, name in list(_fields(damaged, "")):
        kept = dict(parent)
        parent[f"{name}x"] = parent.pop(name)
        yield path, damaged
        parent.clear()
        parent.update(kept)


def _fields(value: Any, path: str) -> Iterator[tuple[str, Object, str]]:
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from _fields(item, f"{path}[{at}]")
    elif isinstance(value, dict) and not path.endswith(_FREE):
        for name in tuple(value):
            yield f"{path}.{name}", value, name
            yield from _fields(value[name], f"{path}.{name}")


def without(manifest: Object, path: str) -> Object:
    """Return a copy of a manifest without a field, such as ``.spec.triggers[0].type``."""
    damaged = copy.deepcopy(manifest)
    (found,) = ((parent, name) for each, parent, name in _fields(damaged, "") if each == path)
    del found[0][found[1]]
    return damaged
