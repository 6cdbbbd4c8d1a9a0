"""Run every peer and compare its answers with the graph's: ``python -m bench.peers``.

Takes the peers whose environment is installed (``make .venv-bench-<name>/.installed``), each with one copy
of the model and with two, batched and not. A peer has to get ready, answer for 600 x 450 and 12-megapixel
JPEG files, several at once, and leave no process when it is stopped.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from bench.images import prepare_images, read_images
from bench.load import fault
from bench.peers import PEERS, ROOT, Peer, Shape
from bench.peers.common import CODES, Classifier, Options, decode
from bench.processes import family, is_alive
from bench.servers import ServerError, peer_server
from models.bundle import MODEL_NAME

TOLERANCE = 1e-4
"""Of a probability: batches of different sizes sum up in different orders."""

CASES = ((Shape(1, 2), 1), (Shape(1, 2), 8), (Shape(2, 1), 1), (Shape(2, 1), 8))
"""Shapes and batch caps."""

_STOPPED = 15.0  # seconds for all processes of a server to end
_AT_ONCE = 8


def main() -> int:
    """Run the command line; returns its exit status, 1 if a peer failed or none is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", nargs="*", choices=[peer.name for peer in PEERS], help="those installed")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "ham10000-ensemble" / MODEL_NAME)
    options = parser.parse_args()
    peers = [peer for peer in PEERS if peer.name in (options.peers or [peer.name]) and peer.python.exists()]
    for peer in PEERS:
        if not peer.python.exists():
            print(f"{peer.title}: not installed, left out (make .venv-bench-{peer.name}/.installed)")
    failed = not peers
    with tempfile.TemporaryDirectory() as folder:
        images = [data for path in prepare_images(Path(folder)).values() for data in read_images(path)[:4]]
        for peer in peers:
            for shape, cap in CASES:
                problem = check(peer, options.model, images, shape, cap, Path(folder, "log"))
                failed |= bool(problem)
                fine = "as the graph" if peer.onnx else "answers"
                print(f"{peer.title}, {shape}, batch cap {cap}: {problem or fine}", flush=True)
    return int(failed)


def check(peer: Peer, model: Path, images: Sequence[bytes], shape: Shape, cap: int, log: Path) -> str:
    """What is wrong with ``peer``; empty if it answers as the graph in ``model`` and stops."""
    server = peer_server(peer, model=model, log=log, max_batch_size=cap, batch_timeout=0.005, shape=shape)
    try:
        with server, ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda image: ask(server.port, image), images))
            members = family(server.leader)
    except (ServerError, httpx.HTTPError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    deadline = time.monotonic() + _STOPPED
    while (left := [each.pid for each in members if is_alive(each)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    if left:
        return f"processes are left after {_STOPPED:.0f} s: {left}"
    return _difference(model, images, found) if peer.onnx else ""


def ask(port: int, image: bytes) -> dict[str, float]:
    """The probabilities in a server's answer, by code.

    Raises:
        httpx.HTTPError, ValueError: the server does not answer with probabilities.
    """
    answer = httpx.post(f"http://127.0.0.1:{port}/predict", files={"file": image}, timeout=60)
    if problem := fault(answer.status_code, answer.content):
        raise ValueError(problem)
    probabilities: dict[str, float] = answer.json()["probabilities"]
    return probabilities


def _difference(model: Path, images: Sequence[bytes], found: list[dict[str, float]]) -> str:
    options = Options(model, port=0, workers=1, threads=2, max_batch_size=1, batch_timeout=0)
    classify = Classifier(options)
    expected = np.concatenate([classify.probabilities([decode(image)]) for image in images])
    answered = np.array([[one[code] for code in CODES] for one in found])
    difference = float(np.abs(answered - expected).max())
    return f"differs from the graph by up to {difference:.2g}" if difference > TOLERANCE else ""


if __name__ == "__main__":
    sys.exit(main())
