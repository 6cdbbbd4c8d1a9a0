"""Figures as PNG files."""

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("Agg")  # needs no display

SIZE: dict[str, Any] = {"dpi": 110, "bbox_inches": "tight"}
"""How a figure is written to a file."""


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    # Laid out by itself, without bbox_inches="tight": that would draw all of it a second time.
    figure.savefig(buffer, format="png", dpi=SIZE["dpi"])
    return buffer.getvalue()
