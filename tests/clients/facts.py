"""What the tests of real clients share: the facts of the running service, and what is right."""

import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACTS: dict[str, Any] = json.loads(Path(os.environ["FACTS"]).read_text())
FOLDER = Path(FACTS["folder"])
MODEL, VERSION = FACTS["model"]
ADDRESS = f"127.0.0.1:{FACTS['port']}"
GRPC_ADDRESS = f"127.0.0.1:{FACTS['grpc_port']}"
KEY = {"x-api-key": FACTS["key"]}
LIMITED_KEY = {"x-api-key": FACTS["limited_key"]}

PIXELS: NDArray[np.uint8] = np.load(FOLDER / "pixels.npy")
FILES = [(FOLDER / str(index)).read_bytes() for index in range(len(PIXELS))]
DAMAGED = (FOLDER / "damaged").read_bytes()

TOO_LARGE = np.zeros((1, 1000, 1000, 3), np.uint8)
REFUSALS: dict[str, tuple[str, Any, str, str]] = {
    "too large": ("image", TOO_LARGE, "UINT8", "larger than the limit of 2,000,000 bytes"),
    "damaged": ("image_bytes", [DAMAGED], "BYTES", "truncated or damaged"),
    "wrong shape": ("image", np.moveaxis(PIXELS, -1, 1), "UINT8", "expected the shape [N, H, W, 3]"),
    "wrong datatype": ("image", np.zeros((1, 2, 2, 3), np.float32), "FP32", "expected the datatype UINT8"),
    "too many": ("image", np.zeros((33, 1, 1, 3), np.uint8), "UINT8", "N from 1 to 32"),
    "another input": ("picture", PIXELS, "UINT8", "expected one of image and image_bytes"),
}
"""Name of the input, tensor, datatype, and what the error says."""


def objects(files: Sequence[bytes]) -> NDArray[np.object_]:
    """Return a tensor of BYTES."""
    return np.array([*files, None], np.object_)[:-1]


def text(value: Any) -> str:
    """Return an element of BYTES as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def check(outputs: Mapping[str, Any], count: int) -> None:
    """Check that the outputs for the first ``count`` images say what ``POST /predict`` says.

    Numbers may differ in their last digits: ONNX Runtime rounds differently in batches of another size.
    """
    for index, right in enumerate(FACTS["predictions"][:count]):
        probabilities = np.reshape(outputs["probabilities"], (count, -1))[index]
        assert np.allclose(probabilities, list(right["probabilities"].values()), rtol=0, atol=1e-6)
        malignancy = np.ravel(outputs["malignancy"])[index]
        assert np.isclose(malignancy, right["malignancy"]["probability"], rtol=0, atol=1e-6)
        assert text(np.ravel(outputs["flag"])[index]) == right["malignancy"]["flag"]
        assert text(np.ravel(outputs["label"])[index]) == right["prediction"]["label"]
    assert np.size(outputs["label"]) == count


@contextmanager
def full_queue(infer: Callable[[], Any]) -> Iterator[None]:
    """Let ``infer`` take the only place of the service's queue while the block runs."""
    hold, failed = Path(FACTS["hold"]), []

    def run() -> None:
        try:
            infer()
        except Exception as error:
            failed.append(error)

    hold.touch()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        while _in_progress() < 1:
            assert not failed, failed
            time.sleep(0.02)
        yield
    finally:
        hold.unlink()
        thread.join()
    assert not failed, failed


def _in_progress() -> float:
    request = urllib.request.Request(f"http://{ADDRESS}/metrics", headers=KEY)
    with urllib.request.urlopen(request) as answer:
        lines = answer.read().decode().splitlines()
    (line,) = (line for line in lines if line.startswith("dermaserve_requests_in_progress "))
    return float(line.split()[1])
