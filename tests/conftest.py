"""Fixtures that several parts' tests share, the switches for what may be absent, and the markers."""

import os
from pathlib import Path

import pytest

import models

_FOLDERS = ("bench", "browser", "deploy", "training")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they take, for ``make test-fast``; the markers are registered in pyproject.toml."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in _FOLDERS:
            item.add_marker(folder)
        elif {"process", "subprocess"} & set(vars(item.module)):
            item.add_marker("process")


@pytest.fixture(scope="session")
def ham10000() -> Path:
    """The folder with real images, or a loud skip."""
    folder = os.environ.get("DERMASERVE_HAM10000")
    if not folder:
        pytest.skip("DERMASERVE_HAM10000 is not set: nothing is checked on real images")
    return Path(folder)


@pytest.fixture(scope="session")
def shipped_bundle() -> Path:
    """The folder of the bundle that ships."""
    return Path(models.__file__).parent / "ham10000-ensemble"
