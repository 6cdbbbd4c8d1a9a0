"""The Keras networks of a run; Keras is imported when the first is asked for, not before."""

from typing import TYPE_CHECKING

from models.errors import BundleError
from training.comparison.runs import ComparedRun, ComparisonError

if TYPE_CHECKING:
    import keras


def load_network(run: ComparedRun, member: str) -> "keras.Model":
    """The trained network of a member, with any backend.

    Raises:
        ComparisonError: it is not there, or Keras cannot load it.
    """
    path = run.folder / member / "network.keras"
    if not path.is_file():
        raise ComparisonError(f"{run.name}: {member} has no network.keras")
    import keras

    import training.networks  # noqa: F401 - registers the layers that a network may be made of

    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ComparisonError(
            f"{run.name}: {member}/network.keras cannot be loaded with the backend {keras.backend.backend()} "
            f"({error.__class__.__name__})"
        ) from error


def count_parameters(run: ComparedRun, member: str | None = None) -> float:
    """Parameters of a member, or of all: as the bundle says, else counted; NaN where neither is there."""
    if not isinstance(run.bundle, BundleError):
        counts = {m.name: m.parameters for m in run.bundle.manifest.members}
        return float(counts.get(member, float("nan")) if member else sum(counts.values()))
    try:
        return float(sum(load_network(run, n).count_params() for n in ([member] if member else run.members)))
    except ComparisonError:
        return float("nan")
