"""Figures of a run, saved as JSON for comparing runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of ``values`` do not exceed; 0 if there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def save(path: Path, figures: dict[str, Any]) -> None:
    """Write ``figures`` as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n")
