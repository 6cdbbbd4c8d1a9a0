"""Divides the images of a run on a cluster into parts. Each part becomes one Parquet file.

A part is the unit of work: its rows are written together, by one atomic rename or upload. The name of its
file is derived from its images and the model. So if a part is scored twice, because a worker or the whole run
was stopped, the second file replaces the first, and each image stays there once. This holds even if two runs
of the same command on the same images write to one folder at the same time.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from models.bundle import Metadata
from service.bulk.files import Input, path_text


class Part(NamedTuple):
    """Images that are scored and written together. ``file`` is the name of their Parquet file."""

    file: str
    inputs: list[Input]


def parts_to_score(
    inputs: Sequence[Input], finished: Collection[str], *, size: int, digest: str
) -> Iterable[Part]:
    """Divide ``inputs`` into parts of ``size``, then leave out those that have a row.

    In this order, so that the parts of a resumed run are those of the first run.

    Args:
        inputs: all images of the run.
        finished: the paths in the rows of earlier runs, from ``path_text``.
        size: largest number of images in a part.
        digest: of the model.
    """
    for number, start in enumerate(range(0, len(inputs), size)):
        part = [entry for entry in inputs[start : start + size] if path_text(entry.path) not in finished]
        if part:
            name = hashlib.sha256(digest.encode() + pack(part)).hexdigest()[:16]
            yield Part(f"part-{number:06}-{name}.parquet", part)


def pack(inputs: Iterable[Input]) -> bytes:
    """Return ``inputs`` as JSON. Unlike UTF-8, it holds every file name."""
    return json.dumps([[path, metadata.model_dump()] for path, metadata in inputs]).encode()


def unpack(data: bytes) -> list[Input]:
    """Return the inputs of ``pack``."""
    return [Input(path, Metadata.model_validate(known)) for path, known in json.loads(data)]
