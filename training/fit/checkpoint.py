"""Where the training of a member stands, so that a stopped run goes on from its last finished epoch."""

import csv
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from training.run import write_json

_HISTORY = (
    "phase",
    "epoch",
    "seconds",
    "validation_seconds",  # of ``seconds``
    "input_wait",
    "learning_rate",
    "train_loss",
    "loss",
    "macro_loss",
    "accuracy",
    "balanced_accuracy",
)


@dataclass
class State:
    """Where a run stands. ``state.json`` holds it, and writing that is what ends an epoch."""

    phase: int = 0
    epoch: int = 0  # epochs of this phase that are done
    best: float = math.inf  # of the monitored figure, signed so that smaller is better
    since_best: int = 0
    since_drop: int = 0
    rate_factor: float = 1.0
    history: list[dict[str, float]] = field(default_factory=list)
    best_weights: str = ""  # file with the best network so far, of any phase

    @property
    def weights(self) -> str:
        """File with network and optimizer as they were at this state."""
        return f"last-{self.phase}-{self.epoch}.weights.h5"

    @property
    def average(self) -> str:
        """File with the averaged network as it was at this state; only where the recipe averages."""
        return f"average-last-{self.phase}-{self.epoch}.weights.h5"


def read_state(folder: Path) -> State:
    """The state that ``folder`` was left in; that of a fresh start if there is none."""
    file = folder / "state.json"
    return State(**json.loads(file.read_text())) if file.is_file() else State()


def commit(folder: Path, state: State) -> None:
    """Make ``state`` the one to resume from; history and clean-up follow from it."""
    write_json(folder / "state.json", asdict(state))
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _HISTORY)
        writer.writeheader()
        writer.writerows(state.history)
    for weights in folder.glob("*-*.weights.h5"):
        if weights.name not in (state.weights, state.average, state.best_weights):
            weights.unlink()
