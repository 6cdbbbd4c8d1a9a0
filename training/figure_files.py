"""Writes matplotlib figures as PNG."""

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("Agg")  # needs no display

SAVE_OPTIONS: dict[str, Any] = {"dpi": 110, "bbox_inches": "tight"}
"""Arguments of ``Figure.savefig`` for all figures."""


def png(figure: Figure) -> bytes:
    """Return the figure as the bytes of a PNG file; the figure must have a layout engine."""
    buffer = io.BytesIO()
    # bbox_inches="tight" would draw the figure twice.
    figure.savefig(buffer, format="png", dpi=SAVE_OPTIONS["dpi"])
    return buffer.getvalue()
