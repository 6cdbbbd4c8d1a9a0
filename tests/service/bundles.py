"""Two bundles with different predictions behind a link, as an operator switches them."""

from pathlib import Path
from typing import Any

from tests.tiny_bundle import write_tiny_bundle

OLD, NEW = "1.0.0", "2.0.0"


class Bundles:
    """A folder with the bundles ``old`` and ``new`` and the link ``current`` to one of them."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        """``changes`` are the new one's, see ``write_tiny_bundle``."""
        self.folder = folder
        self.current = folder / "current"
        write_tiny_bundle(folder / "old", version=OLD, seed=1)
        write_tiny_bundle(folder / "new", version=NEW, seed=2, **changes)
        self.switch("old")

    def switch(self, name: str) -> None:
        """Point the link to another bundle in one step, as in ``docs/operations.md``."""
        link = self.folder / "next"
        link.symlink_to(name)
        link.replace(self.current)
