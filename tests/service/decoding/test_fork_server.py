"""A fork server that never starts: the memory is short, or its program is broken."""

import asyncio
import sys
from pathlib import Path

import pytest

from service.decoding.decoder import ImageDecoder
from service.observability.metrics import Metrics


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", MemoryError),
        ("import nothing_of_this_name", RuntimeError),
    ],
    ids=["killed", "broken"],
)
def test_a_fork_server_that_is_killed_as_it_starts_lacks_memory_and_one_that_fails_is_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, error: type[Exception]
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{program}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    async def start() -> None:
        decoder = ImageDecoder(
            processes=1, max_pixels=1_000_000, timeout=5, metrics=Metrics(), stuck_after=60
        )
        with pytest.raises(error):
            await decoder.ready()
        await decoder.close()

    asyncio.run(start())
