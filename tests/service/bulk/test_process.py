"""The command as a process: killed, on a full disk, with a closed pipe, at a terminal."""

import os
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from service.__main__ import main
from tests.service.app_client import wait_for
from tests.service.bulk.conftest import table

ROOT = Path(__file__).parents[3]


def process(*arguments: str, before: str = "", stderr: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
    """Start the command in a process, after the program text ``before``."""
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in the background\n"
        f"{before}\n"
        "from service.__main__ import main\n"
        "sys.exit(main(['predict', *sys.argv[1:]]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr,
    )  # fmt: skip


def waiting(number: int, go: Path) -> str:
    """Program text that makes a run wait for the file ``go`` before it reads the file ``number``."""
    return f"""
import pathlib, time, service.bulk.scoring as s
read = s.read_file
def read_file(path, limit):
    while int(pathlib.Path(path).stem) == {number} and not pathlib.Path({str(go)!r}).exists():
        time.sleep(0.01)
    return read(path, limit)
s.read_file = read_file
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_stopped_run_loses_no_row(number: int, status: int, many: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    command = (str(many), "--output", str(output))
    run = process(*command, before=waiting(10, tmp_path / "never"))
    wait_for(lambda: output.exists() and output.read_bytes().count(b"\n") > 5, seconds=600)
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == status
    assert b"Traceback" not in errors
    rows = table(output)
    assert 5 <= len(rows) < 60
    assert main(["predict", *command]) == 0
    assert [Path(row["path"]).name for row in table(output)] == [f"{index:02}.jpg" for index in range(60)]
    assert table(output)[: len(rows)] == rows


def test_two_runs_do_not_write_to_one_output(many: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    command = (str(many), "--output", str(output))
    with process(*command, before=waiting(1, tmp_path / "never")) as first:
        try:
            wait_for(lambda: output.exists() and output.read_bytes().count(b"\n") > 1, seconds=600)
            with process(*command, "--overwrite") as second:
                _, errors = second.communicate(timeout=60)
        finally:
            first.kill()
    assert second.returncode == 2
    assert errors.decode() == f"error: {output}: another run is writing to it\n"
    assert len(table(output)) >= 1
    assert main(["predict", *command]) == 0
    assert len(table(output)) == 60


def test_a_full_disk_ends_the_run_with_complete_rows(many: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    command = (str(many), "--output", str(output))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
    run = process(*command, before=limit)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 2
    assert errors.decode().splitlines()[-1].startswith(f"error: {output}: cannot be written (File too large)")
    assert b"Traceback" not in errors
    assert output.read_bytes().endswith(b"\n")
    rows = table(output)
    assert 5 < len(rows) < 60
    assert all(row["status"] == "ok" and row["model_version"] == "0.0.1" for row in rows)
    assert main(["predict", *command]) == 0
    assert len(table(output)) == 60


def test_a_full_disk_leaves_no_incomplete_overlay(many: Path, tmp_path: Path) -> None:
    output, overlays = tmp_path / "out.csv", tmp_path / "overlays"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
    slow = (
        "import pathlib, time; unlink = pathlib.Path.unlink; "
        "pathlib.Path.unlink = lambda path: time.sleep(0.3) or unlink(path)"
    )
    run = process(str(many), "--output", str(output), "--gradcam", str(overlays), before=f"{limit}\n{slow}")
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 2
    (line,) = errors.decode().splitlines()
    assert line.startswith(f"error: {overlays}/")
    assert line.endswith(": cannot be written (File too large)")
    assert list(overlays.iterdir()) == []
    assert table(output) == []


def test_on_a_terminal_there_is_a_bar(folder: Path, tmp_path: Path) -> None:
    master, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    with process(str(folder), "--output", str(tmp_path / "out.csv"), stderr=terminal) as run:
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # Linux ends the reading of a terminal that was closed with one
            while part := os.read(master, 4096):
                shown += part
    os.close(master)
    assert run.returncode == 1
    assert b"11/11" in shown


def test_a_closed_pipe_ends_the_run(many: Path, tmp_path: Path) -> None:
    with process(str(many), before=waiting(1, tmp_path / "go")) as run:
        assert run.stdout is not None
        run.stdout.readline()
        run.stdout.close()
        (tmp_path / "go").touch()
        assert run.stderr is not None
        errors = run.stderr.read().decode()
    assert run.returncode == 2
    assert "standard output: cannot be written (Broken pipe)" in errors
    assert "Traceback" not in errors
