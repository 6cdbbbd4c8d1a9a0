"""A process that gets no more memory, under load: part of ``make rolling``.

Each request must be answered right, or with a 503 that says to come again: an image is not to blame,
and nothing is an internal error. The process stays alive, and serves again when there is memory.
"""

import argparse
import json
import resource
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

import models
from tests.long.process_usage import usage
from tests.service.process import Process, process
from tests.synthetic import draw_lesion, encoded
from training.markdown import table

_HEADERS = {"content-type": "image/jpeg"}


def starve(server: Process, megabytes: int, *, clients: int, requests: int) -> Counter[tuple[str, int]]:
    """Allow ``megabytes`` more addresses, and ask; returns sizes of images and statuses with how often."""
    lesion = draw_lesion(np.random.default_rng(0))
    # A progressive one of 27 megapixels: its codec wants all coefficients in memory.
    large = encoded(lesion.resize((6000, 4500)), "JPEG", progressive=True, subsampling=0)
    images = {"small": encoded(lesion, "JPEG"), "large": large}
    outcomes: Counter[tuple[str, int]] = Counter()
    lock = threading.Lock()
    pid = server.process.pid
    for _ in range(8):  # until all is loaded that is loaded on first use
        _ask(server, images["small"])
    resource.prlimit(
        pid, resource.RLIMIT_AS, (usage(pid).addresses + megabytes * 1_000_000, resource.RLIM_INFINITY)
    )

    def client(number: int) -> None:
        for index in range(requests):
            size = "large" if (number + index) % 3 == 0 else "small"
            status = _ask(server, images[size])
            with lock:
                outcomes[size, status] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for size, image in images.items():
        outcomes[f"{size}, afterwards", _ask(server, image)] += 1
    return outcomes


def _ask(server: Process, image: bytes) -> int:
    """The status of one request; 0 if it got none."""
    try:
        response = httpx.post(
            server.url + "/predict?gradcam=true", content=image, headers=_HEADERS, timeout=90
        )
    except httpx.TransportError:
        return 0
    return response.status_code


def main() -> int:
    """Run the command line; the exit status is 1 when something else than 200 or 503 came."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.out_of_memory", description=__doc__)
    parser.add_argument(
        "--megabytes", type=int, nargs="+", default=[300, 60, 5], help="that it may still take"
    )
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=12, help="of each client")
    parser.add_argument("--bundle", type=Path, default=Path(models.__file__).parent / "ham10000-ensemble")
    options = parser.parse_args()
    rows, wrong = [], 0
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory() as folder, process(Path(folder), options.bundle) as server:
            server.wait_ready()
            outcomes = starve(server, megabytes, clients=options.clients, requests=options.requests)
            for (size, status), times in sorted(outcomes.items()):
                fit = status == 200 or (status == 503 and "afterwards" not in size)
                wrong += not fit
                rows.append([f"{megabytes} MB", size, status, times, "" if fit else "WRONG"])
            if server.process.poll() is not None or server.status("/readyz") != 200:
                wrong += 1
                print("the process did not survive", file=sys.stderr)
            for line in sorted(set(_exceptions(server.output()))):
                print(f"{megabytes} MB: {line}", file=sys.stderr)
    print(*table(["memory left", "image", "status", "times", ""], rows), sep="\n")
    return 1 if wrong else 0


def _exceptions(log: str) -> list[str]:
    """The last two lines of each stack trace in the log."""
    lines = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    return [" / ".join(line["exception"].split("\n")[-2:]) for line in lines if "exception" in line]


if __name__ == "__main__":
    sys.exit(main())
