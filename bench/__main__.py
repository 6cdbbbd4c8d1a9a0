"""The whole benchmark: ``make bench``, or ``python -m bench``.

Writes results.json, report.md and report.png into the output folder after each part, so that an interrupted
run has its tables too.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.images import prepare_images
from bench.machine import describe_machine, versions
from bench.peers import PEERS, ROOT, Peer
from bench.report import plot, report
from bench.results import Results
from bench.rounds import CLIENTS, Plan, Rounds
from models.bundle import MODEL_NAME

_SHIPPED = ROOT / "models" / "ham10000-ensemble"
_PEER_PACKAGES = ("litserve", "bentoml", "ray", "mlserver", "fastapi", "keras", "tensorflow", "onnxruntime")
PARTS = ("limit", "service", "peers", "memory")


def main(arguments: Sequence[str] | None = None, *, known: Sequence[Peer] = PEERS) -> int:
    """Run the command line with the peers ``known``; returns 1 if something could not be measured."""
    options = _parser(known).parse_args(arguments)
    out: Path = options.out.absolute()
    peers = [peer for peer in known if peer.name in options.peers]
    plan = Plan(
        model=(options.bundle or _SHIPPED).absolute() / MODEL_NAME,
        bundle=options.bundle and options.bundle.absolute(),
        python=options.python.absolute(),
        images=prepare_images(out / "images"),
        peers=peers,
        parts=frozenset(options.only),
        repetitions=options.repetitions,
        seconds=options.seconds,
        clients=options.clients,
        requests=options.requests,
        logs=out / "logs",
    )
    settings = {
        "repetitions": plan.repetitions,
        "seconds of a cell": plan.seconds,
        "requests before memory is measured": plan.requests,
        "service": versions(plan.python),
        **{
            peer.title: versions(peer.python, _PEER_PACKAGES)
            for peer in peers
            if "peers" in plan.parts and peer.python.exists()
        },
    }
    results = Results(describe_machine(), settings)

    def save() -> None:
        results.save(out / "results.json")
        write(results, known, out)

    Rounds(plan, results, save=save).run()
    print((out / "report.md").read_text(encoding="utf-8"))
    return 1 if results.failures() else 0


def write(results: Results, peers: Sequence[Peer], out: Path) -> None:
    """Write tables and plot of ``results``, with the peers that were measured."""
    measured = {entry.subject for entry in results.entries}
    titles = {peer.name: peer.title for peer in peers if peer.name in measured}
    (out / "report.md").write_text(report(results, titles), encoding="utf-8")
    plot(results, titles, out / "report.png")


def _parser(known: Sequence[Peer]) -> argparse.ArgumentParser:
    names = [peer.name for peer in known]
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="default: everything")
    parser.add_argument("--peers", nargs="*", choices=names, default=names, help="default: every one")
    parser.add_argument("--repetitions", type=int, default=5, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a cell (default %(default)s)")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS, help="default 1 4 16 64")
    parser.add_argument(
        "--requests", type=int, default=10_000, help="before memory is measured (default %(default)s)"
    )
    parser.add_argument(
        "--python",
        type=Path,
        default=ROOT / ".venv-serve" / "bin" / "python",
        help="of the environment of this service (default: that of `make serve`)",
    )
    parser.add_argument("--bundle", type=Path, help="default: the shipped one")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "bench", help="folder (default runs/bench)"
    )
    return parser


if __name__ == "__main__":
    # Like an interrupt from the keyboard, so that servers are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
