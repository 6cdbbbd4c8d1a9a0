"""The files found in a folder, and the text of a path in rows."""

import os
from pathlib import Path

import pytest

from service.__main__ import main
from service.bulk.files import find_files, path_text
from tests.service.bulk.conftest import table


def test_a_folder_without_images_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert main(["predict", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert f"{tmp_path}: no images" in errors
    assert "error: there is nothing to score" in errors


def test_skipped_files_and_folders_are_counted(folder: Path) -> None:
    (folder / "self").symlink_to(".")
    files = find_files([str(folder)], recursive=False)
    assert files.notes == [
        f"{folder}: skipped files without the name of an image: 1",
        f"{folder}: skipped folders without --recursive: 2",
    ]
    assert find_files([str(folder)], recursive=True).notes[1] == f"{folder}: skipped folders behind links: 1"


def test_a_file_given_twice_is_scored_once(folder: Path) -> None:
    first = str(folder / "0.jpg")
    assert find_files([first, str(folder), first], recursive=False).paths.count(first) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lesion 1.jpg", "lesion 1.jpg"),
        ("Läsion\u202f1.jpg", "Läsion\u202f1.jpg"),
        ("=HYPERLINK(1).jpg", "./=HYPERLINK(1).jpg"),
        ("+1.jpg", "./+1.jpg"),
        ("-1.jpg", "./-1.jpg"),
        ("@a.jpg", "./@a.jpg"),
        ("\uff1d1+1.jpg", "./\uff1d1+1.jpg"),
        ("a\nb\r\t\x85\u2028.jpg", r"a\nb\r\t\x85\u2028.jpg"),
        (os.fsdecode(b"b\xff.jpg"), r"b\udcff.jpg"),
        (r"b\udcff.jpg", r"b\\udcff.jpg"),
    ],
)
def test_the_text_of_a_path_is_one_unique_line_without_formulas(name: str, text: str) -> None:
    assert path_text(name) == text


def test_odd_names_are_scored_and_skipped_by_the_next_run(
    tmp_path: Path, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["=1.jpg", 'a,"b".jpg', "new\nline.jpg", os.fsdecode(b"\xff.jpg")]
    for name in names:
        (tmp_path / name).write_bytes(images[0])
    monkeypatch.chdir(tmp_path)
    for output in (Path("out.csv"), Path("out.jsonl")):
        assert main(["predict", ".", "--output", str(output)]) == 0
        first = output.read_bytes()
        assert first.count(b"\n") == 4 + (output.suffix == ".csv")
        assert main(["predict", ".", "--output", str(output)]) == 0
        assert output.read_bytes() == first
    assert [row["path"] for row in table(Path("out.csv"))] == [
        path_text(name) for name in sorted(names, key=os.fsencode)
    ]
