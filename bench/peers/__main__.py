"""``python -m bench.peers``: run every peer for real and compare its answers with the graph's.

Takes the peers whose environment is installed (``make .venv-bench-<name>/.installed``), each with one copy
of the model and with two, batched and not: it has to get ready, answer for a 600 x 450 JPEG and for a
12-megapixel one, several at once, and leave no process when it is stopped.
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
from bench.servers import Server, ServerError, free_port
from bench.vitals import family
from models.bundle import MODEL_NAME

TOLERANCE = 1e-4
"""Of a probability: batches of another size are summed up in another order."""

CASES = ((Shape(1, 2), 1), (Shape(1, 2), 8), (Shape(2, 1), 1), (Shape(2, 1), 8))
"""Shapes and batch caps."""

_STOPPED = 15.0  # seconds after which nothing may be left of a server
_AT_ONCE = 8


def main() -> int:
    """Run the command line; returns its exit status, 1 where a peer failed or none is installed."""
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
                problem = check(peer, options.model.absolute(), images, shape, cap, Path(folder, "log"))
                failed |= bool(problem)
                fine = "as the graph" if peer.onnx else "answers"
                print(f"{peer.title}, {shape}, batch cap {cap}: {problem or fine}", flush=True)
    return int(failed)


def check(peer: Peer, model: Path, images: Sequence[bytes], shape: Shape, cap: int, log: Path) -> str:
    """What is wrong with ``peer``; nothing if it answers as the graph in ``model`` and stops."""
    port = free_port()
    command = peer.command(
        peer.python, model=model, port=port, shape=shape, max_batch_size=cap, batch_timeout=0.005
    )
    server = Server(command, port=port, ready_path=peer.ready_path, log=log, environment=peer.environment)
    try:
        with server, ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda image: ask(port, image), images))
            members = family(server.leader)
    except (ServerError, httpx.HTTPError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    if left := _left(members):
        return f"processes are left after {_STOPPED:.0f} s: {left}"
    return _difference(model, images, found) if peer.onnx else ""


def ask(port: int, image: bytes) -> dict[str, float]:
    """The probabilities a server answers with, by code.

    Raises:
        httpx.HTTPError, ValueError: it does not.
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


def _left(members: Sequence[int]) -> list[int]:
    deadline = time.monotonic() + _STOPPED
    while (left := [pid for pid in members if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


if __name__ == "__main__":
    sys.exit(main())
