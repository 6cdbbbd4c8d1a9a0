"""Fixtures that several parts' tests share, and the switches for what may be absent."""

import os
from pathlib import Path

import pytest

import models


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
