"""A run resumes an output if that is safe, and otherwise leaves it unchanged."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.__main__ import main
from service.bulk import scoring
from service.bulk.files import read_file
from tests.service.bulk.conftest import near, table
from tests.tiny_bundle import write_tiny_bundle


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_run_resumes_an_output_that_was_cut_off_anywhere(name: str, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / name
    command = ["predict", str(folder), "--output", str(output)]
    assert main(command) == 1
    whole, expected = output.read_bytes(), comparable(output)
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for cut in (0, 1, ends[0] - 1, ends[0], ends[3] + 1, ends[5] - 1, len(whole) - 1, len(whole)):
        output.write_bytes(whole[:cut])
        assert main(command) == 1
        assert comparable(output) == expected


def comparable(path: Path) -> list[Any]:
    """Return the rows with tolerances, because sums depend on the size of batches."""
    if path.suffix == ".jsonl":
        return [json.loads(line, parse_float=near) for line in path.read_bytes().splitlines()]
    return [
        [near(cell) if "." in cell and is_number(cell) else cell for cell in row.values()]
        for row in table(path)
    ]


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_files_with_a_row_are_not_scored_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.csv"
    main(["predict", str(folder), "--output", str(output)])
    whole = output.read_bytes()
    read: list[str] = []

    def noted(path: str, max_bytes: int) -> bytes:
        read.append(path)
        return read_file(path, max_bytes)

    monkeypatch.setattr(scoring, "read_file", noted)
    capsys.readouterr()
    assert main(["predict", str(folder), "--recursive", "--output", str(output)]) == 1
    assert read == [str(folder / "sub" / "0.png")]
    assert output.read_bytes().startswith(whole)
    assert capsys.readouterr().err.endswith("12 files, 11 of them in earlier runs: 3 could not be scored\n")


def refused(command: list[str], output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail, check that the output is unchanged, and return the reason."""
    before = output.read_bytes()
    capsys.readouterr()
    assert main(command) == 2
    assert output.read_bytes() == before
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "--overwrite" in line
    return line


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_rows_of_another_model_or_with_other_columns_are_refused(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / name
    command = ["predict", str(folder), "--output", str(output)]
    assert main(command) == 1
    newer = write_tiny_bundle(tmp_path / "newer", version="0.0.2").path
    line = refused([*command, "--bundle", str(newer)], output, capsys)
    assert "model tiny-test-bundle 0.0.1, but the current model is tiny-test-bundle 0.0.2" in line
    refused([*command, "--gradcam", str(tmp_path / "overlays")], output, capsys)
    refused([*command, "--format", "csv" if name.endswith("jsonl") else "jsonl"], output, capsys)
    assert main([*command, "--bundle", str(newer), "--overwrite"]) == 1
    assert b"0.0.1" not in output.read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"a" * 200_000, id="long"),
        b"\xff\xd8\xff a photo",
        b"path,status\n",
        b"a\nb\n",
        b"{}\n",
        b"[1]\n",
        pytest.param(b"[" * 50_000 + b"\n", id="nested"),
        b'{"path": [], "model": {"name": "tiny-test-bundle", "version": "0.0.1"}}\n',
        b'{"path": "a.jpg", "model": {"name": 1, "version": 2}}\n',
        b"x",
    ],
)
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_an_output_with_other_contents_is_left_unchanged(
    name: str, content: bytes, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / name
    output.write_bytes(content)
    refused(["predict", str(folder), "--output", str(output)], output, capsys)


def test_an_output_with_the_name_of_an_image_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "1.jpg").read_bytes()
    arguments = [str(folder / "0.jpg"), "--overwrite", "--output", str(folder / "1.jpg")]
    assert main(["predict", *arguments]) == 2
    assert "has the name of an image" in capsys.readouterr().err
    assert (folder / "1.jpg").read_bytes() == before


def test_an_output_that_cannot_be_opened_is_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(folder), "--output", str(folder)]) == 2
    assert "cannot be opened (Is a directory)" in capsys.readouterr().err
