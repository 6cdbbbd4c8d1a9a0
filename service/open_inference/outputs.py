"""The outputs: what the model gave, and what the decision rule of ``POST /predict`` made of it."""

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bundle import Manifest
from service.inference.classifier import Classification
from service.open_inference.request import malformed


class Output(NamedTuple):
    """An output of the model in the protocol.

    Attributes:
        name: of the output.
        datatype: ``FP32``, ``FP64`` or ``BYTES``.
        shape: of the output for one image. -1 stands for any size.
        value: returns the output for one image: a number, an array, or a text.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    value: Callable[[Classification], Any]


def outputs_of(manifest: Manifest) -> dict[str, Output]:
    """Return all outputs by name.

    Probabilities are the numbers of ``POST /predict``, which has them in double precision.
    """
    classes = len(manifest.classes)
    outputs = (
        Output(
            "probabilities", "FP64", (classes,), lambda found: list(found.decision.probabilities.values())
        ),
        Output("cams", "FP32", (classes, -1, -1), lambda found: found.cams),
        Output("disagreement", "FP32", (), lambda found: found.uncertainty.disagreement),
        Output("ood_score", "FP32", (), lambda found: found.uncertainty.ood_score),
        Output("label", "BYTES", (), lambda found: found.decision.label),
        Output("malignancy", "FP64", (), lambda found: found.decision.malignancy),
        Output("flag", "BYTES", (), lambda found: found.decision.flag),
        Output("warnings", "BYTES", (), lambda found: ",".join(warning.code for warning in found.warnings)),
    )
    return {output.name: output for output in outputs}


def wanted_outputs(outputs: dict[str, Output], names: Sequence[str]) -> list[Output]:
    """Return the outputs with these names, or all if there are no names.

    Raises:
        InvalidRequest: there is no such output, or a name is repeated.
    """
    if len(set(names)) < len(names) or not outputs.keys() >= set(names):
        raise malformed(f"outputs: expected some of {', '.join(outputs)}, each once.")
    return [outputs[name] for name in names] or list(outputs.values())


class Result(NamedTuple):
    """The values of an output for N images.

    Attributes:
        output: its name and datatype.
        values: for ``BYTES`` objects ``[N]``, else numbers ``[N, ...]``.
    """

    output: Output
    values: NDArray[Any]

    def elements(self) -> list[Any]:
        """Return the elements in row-major order, for JSON."""
        return list(self.values.reshape(-1).tolist())

    def raw(self) -> bytes:
        """Return the binary form, little endian. Each element of ``BYTES`` comes after its length."""
        if self.output.datatype != "BYTES":
            return self.values.tobytes()
        texts = [text.encode() for text in self.values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)


_DTYPES = {"FP32": "<f4", "FP64": "<f8", "BYTES": "O"}


def results_of(outputs: Sequence[Output], found: Sequence[Sequence[Any]]) -> list[Result]:
    """Build the results from the values of ``outputs`` for each image."""
    return [
        Result(output, np.array(values, _DTYPES[output.datatype]))
        for output, values in zip(outputs, zip(*found, strict=True), strict=True)
    ]
