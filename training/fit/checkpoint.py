"""The checkpoint of a member's training, from which a stopped run continues after its last epoch."""

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
    """The state of a member's training, stored in ``state.json``.

    Attributes:
        phase: index of the current phase.
        epoch: number of finished epochs of this phase.
        best: best value of the monitored metric in this phase, negated if larger is better.
        since_best: epochs since the best value.
        since_drop: epochs since the best value or the last reduction of the learning rate.
        rate_factor: factor on the phase's learning rate.
        history: metrics of each epoch, over all phases.
        best_weights: name of the file with the best network so far.
    """

    phase: int = 0
    epoch: int = 0
    best: float = math.inf
    since_best: int = 0
    since_drop: int = 0
    rate_factor: float = 1.0
    history: list[dict[str, float]] = field(default_factory=list)
    best_weights: str = ""

    @property
    def weights(self) -> str:
        """Name of the file with the network and the optimizer at this state."""
        return f"last-{self.phase}-{self.epoch}.weights.h5"

    @property
    def average(self) -> str:
        """Name of the file with the averaged network at this state, if the recipe averages weights."""
        return f"average-last-{self.phase}-{self.epoch}.weights.h5"


def read_state(folder: Path) -> State:
    """Return the state stored in ``folder``, or the initial state if there is none."""
    file = folder / "state.json"
    return State(**json.loads(file.read_text())) if file.is_file() else State()


def commit(folder: Path, state: State) -> None:
    """Store ``state`` as the one to resume from, write ``history.csv``, and remove outdated weights."""
    write_json(folder / "state.json", asdict(state))
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _HISTORY)
        writer.writeheader()
        writer.writerows(state.history)
    for weights in folder.glob("*-*.weights.h5"):
        if weights.name not in (state.weights, state.average, state.best_weights):
            weights.unlink()
