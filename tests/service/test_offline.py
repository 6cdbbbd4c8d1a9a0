"""Scoring offline: the service's own numbers, a row for every file, and nothing lost by a stop."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.__main__ import main
from service.offline import scoring
from service.offline.files import find, path_text, read_file
from service.offline.rows import Csv
from tests.dicom_files import dicom_file
from tests.service.conftest import encoded
from tests.service.door import Door, wait_for
from tests.synthetic import draw_lesion
from tests.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    monkeypatch.setattr("service.logs.set_up_logs", lambda format_, level: None)  # they are pytest's here
    monkeypatch.setenv("DERMASERVE_BUNDLE", str(tiny))
    monkeypatch.setenv("DERMASERVE_DEVICE", "cpu")
    monkeypatch.setenv("DERMASERVE_INTRA_OP_THREADS", "1")


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    rng = np.random.default_rng(3)
    return [
        encoded(draw_lesion(rng, code=code, width=120, height=90), "JPEG")
        for code in ("mel", "nv", "bkl", "df", "vasc", "bcc", "akiec")
    ]


@pytest.fixture
def folder(tmp_path: Path, images: list[bytes]) -> Path:
    """Good and bad files, a folder in the folder, and what is no image."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for index, data in enumerate(images):
        (folder / f"{index}.jpg").write_bytes(data)
    (folder / "3b.dcm").write_bytes(dicom_file(draw_lesion(np.random.default_rng(1), width=60, height=60)))
    (folder / "4b.jpg").write_bytes(images[0][:500])
    (folder / "5b.png").write_bytes(b"Dear doctor")
    (folder / "6b.jpg").write_bytes(b"")
    (folder / "sub" / "0.png").write_bytes(encoded(Image.new("RGB", (30, 30), "brown"), "PNG"))
    (folder / "notes.txt").write_text("nothing")
    return folder


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_json_lines_are_the_answers_of_the_service(client: Door, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert main(["predict", str(folder), "--recursive", "--output", str(output)]) == 1
    rows = lines(output)
    assert len(rows) == 12
    for row in rows:
        path = row.pop("path")
        answer = client.post("/predict", files={"file": Path(path).read_bytes() or b"no image"}).json()
        del answer["request_id"]
        if "prediction" not in answer:
            assert row.pop("model") == {"name": "tiny-test-bundle", "version": "0.0.1"}
        # Batches of another size may sum in another order.
        assert json.loads(json.dumps(row), parse_float=near) == json.loads(
            json.dumps(answer), parse_float=near
        )


def near(number: str) -> Any:
    return pytest.approx(float(number), abs=1e-6)


def test_csv_says_the_same_as_json_lines(folder: Path, tmp_path: Path) -> None:
    for name in ("out.csv", "out.jsonl"):
        assert main(["predict", str(folder), "--recursive", "--output", str(tmp_path / name)]) == 1
    rows, answers = table(tmp_path / "out.csv"), lines(tmp_path / "out.jsonl")
    assert [row["path"] for row in rows] == [answer["path"] for answer in answers]
    for row, answer in zip(rows, answers, strict=True):
        assert (row["model"], row["model_version"]) == ("tiny-test-bundle", "0.0.1")
        if row["status"] == "failed":
            assert answer["type"] == f"urn:dermaserve:problem:{row['problem']}"
            assert answer["detail"] == row["detail"]
            assert row["label"] == row["probability_mel"] == ""
            continue
        assert row["status"] == "ok"
        assert row["label"] == answer["prediction"]["label"]
        assert row["malignancy"] == answer["malignancy"]["flag"]
        assert row["prediction_set"].split() == answer["prediction_set"]["labels"]
        assert row["warnings"].split() == [warning["code"] for warning in answer["warnings"]]
        numbers = {
            "probability": answer["prediction"]["probability"],
            "malignancy_probability": answer["malignancy"]["probability"],
            "entropy": answer["uncertainty"]["entropy"],
            "disagreement": answer["uncertainty"]["disagreement"],
            "ood_score": answer["uncertainty"]["ood_score"],
            **{f"probability_{code}": value for code, value in answer["probabilities"].items()},
        }
        assert {name: float(row[name]) for name in numbers} == pytest.approx(numbers, abs=1e-6)


def test_rows_come_in_order_and_say_what_is_wrong_with_a_file(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    assert main(["predict", str(folder), "--output", str(output)]) == 1
    rows = table(output)
    names = [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "3.jpg",
        "3b.dcm",
        "4.jpg",
        "4b.jpg",
        "5.jpg",
        "5b.png",
        "6.jpg",
        "6b.jpg",
    ]
    assert [row["path"] for row in rows] == [str(folder / name) for name in names]
    assert {Path(row["path"]).name: row["problem"] for row in rows if row["status"] != "ok"} == {
        "4b.jpg": "corrupt-image",
        "5b.png": "unsupported-image",
        "6b.jpg": "unsupported-image",
    }


def test_the_order_is_that_of_the_paths_even_where_a_file_takes_long(
    tmp_path: Path, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(6):
        (tmp_path / f"{index}.jpg").write_bytes(images[index])

    def slow(path: str, max_bytes: int) -> bytes:
        if path.endswith("0.jpg"):
            time.sleep(0.3)
        return read_file(path, max_bytes)

    monkeypatch.setattr(scoring, "read_file", slow)
    output = tmp_path / "out.csv"
    assert main(["predict", str(tmp_path), "--output", str(output)]) == 0
    assert [Path(row["path"]).name for row in table(output)] == [f"{index}.jpg" for index in range(6)]


def test_rows_go_to_standard_output_unless_told_otherwise(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(folder / "0.jpg"), str(folder / "1.jpg")]) == 0
    text, errors = capfd.readouterr()
    assert [row["status"] for row in csv.DictReader(io.StringIO(text))] == ["ok", "ok"]
    assert errors == "2 files: 0 could not be scored\n"  # no bar: this is no terminal


def test_files_that_cannot_be_read_make_a_row_and_hold_nothing_up(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "nowhere.jpg").symlink_to("gone.jpg")
    (folder / "self").symlink_to(".")
    (folder / "folder.jpg").mkdir()
    output = tmp_path / "out.csv"
    given = [str(folder), "/dev/zero", str(folder / "none.jpg"), "--recursive", "--output", str(output)]
    assert main(["predict", *given]) == 1
    why = {
        Path(row["path"]).name: row["detail"] for row in table(output) if row["problem"] == "unreadable-file"
    }
    assert why == {
        "pipe.jpg": "It is no regular file.",
        "zero": "It is no regular file.",
        "loop.jpg": "The file cannot be read: Too many levels of symbolic links.",
        "nowhere.jpg": "The file cannot be read: No such file or directory.",
        "none.jpg": "The file cannot be read: No such file or directory.",
    }


def test_a_file_over_the_limit_of_bytes_or_pixels_makes_a_row(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: list[bytes]
) -> None:
    (folder / "big.jpg").write_bytes(images[0] + bytes(50_000))
    (folder / "wide.png").write_bytes(encoded(Image.new("L", (200, 200)), "PNG"))
    monkeypatch.setenv("DERMASERVE_MAX_BODY_BYTES", "40000")
    monkeypatch.setenv("DERMASERVE_MAX_PIXELS", "30000")
    output = tmp_path / "out.csv"
    assert main(["predict", str(folder), "--output", str(output)]) == 1
    problems = {Path(row["path"]).name: row["problem"] for row in table(output)}
    assert problems["big.jpg"] == "body-too-large"
    assert problems["wide.png"] == "image-too-large"
    assert problems["0.jpg"] == ""


def test_whatever_one_file_meets_the_others_go_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    def failing(path: str, max_bytes: int) -> bytes:
        if path.endswith("1.jpg"):
            raise RuntimeError("secret")
        return read_file(path, max_bytes)

    monkeypatch.setattr(scoring, "read_file", failing)
    output = tmp_path / "out.csv"
    main(
        [
            "predict",
            str(folder / "0.jpg"),
            str(folder / "1.jpg"),
            str(folder / "2.jpg"),
            "--output",
            str(output),
        ]
    )
    assert [row["problem"] for row in table(output)] == ["", "internal-error", ""]
    assert "secret" not in output.read_text()
    assert "not foreseen" in caplog.text


def test_a_folder_without_images_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert main(["predict", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert f"{tmp_path}: no images" in errors
    assert "error: there is nothing to score" in errors


def test_what_is_left_out_of_a_folder_is_counted(folder: Path) -> None:
    (folder / "self").symlink_to(".")
    found = find([str(folder)], recursive=False)
    assert found.notes == [
        f"{folder}: files left out, whose names are not those of images: 1",
        f"{folder}: folders not entered, without --recursive: 2",
    ]
    assert (
        find([str(folder)], recursive=True).notes[1] == f"{folder}: folders not entered, which are links: 1"
    )


def test_a_file_that_is_named_twice_is_scored_once(folder: Path) -> None:
    first = str(folder / "0.jpg")
    assert find([first, str(folder), first], recursive=False).paths.count(first) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lesion 1.jpg", "lesion 1.jpg"),
        ("Läsion\u202f1.jpg", "Läsion\u202f1.jpg"),
        ("=HYPERLINK(1).jpg", "./=HYPERLINK(1).jpg"),
        ("+1.jpg", "./+1.jpg"),
        ("-1.jpg", "./-1.jpg"),
        ("@a.jpg", "./@a.jpg"),
        ("a\nb\r\t\x85\u2028.jpg", r"a\nb\r\t\x85\u2028.jpg"),
        (os.fsdecode(b"b\xff.jpg"), r"b\udcff.jpg"),
        (r"b\udcff.jpg", r"b\\udcff.jpg"),
    ],
)
def test_every_path_is_one_harmless_line_of_its_own(name: str, text: str) -> None:
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


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_run_goes_on_where_another_was_cut_off_anywhere(name: str, folder: Path, tmp_path: Path) -> None:
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
    """The rows, whose numbers may differ by what batches of another size sum."""
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


def test_rows_that_are_there_are_not_scored_again(
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
    assert capsys.readouterr().err.endswith("12 files, 11 of them before: 3 could not be scored\n")


def refused(command: list[str], output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The reason; what is there is left as it was."""
    before = output.read_bytes()
    capsys.readouterr()
    assert main(command) == 2
    assert output.read_bytes() == before
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "--overwrite" in line
    return line


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_another_model_or_other_columns_are_not_mixed(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / name
    command = ["predict", str(folder), "--output", str(output)]
    assert main(command) == 1
    newer = write_tiny_bundle(tmp_path / "newer", version="0.0.2").path
    line = refused([*command, "--bundle", str(newer)], output, capsys)
    assert "by tiny-test-bundle 0.0.1, this model is tiny-test-bundle 0.0.2" in line
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
        b"x",
    ],
)
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_file_of_something_else_is_left_alone(
    name: str, content: bytes, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / name
    output.write_bytes(content)
    refused(["predict", str(folder), "--output", str(output)], output, capsys)


def test_an_output_that_is_named_as_an_image_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "1.jpg").read_bytes()
    arguments = [str(folder / "0.jpg"), "--overwrite", "--output", str(folder / "1.jpg")]
    assert main(["predict", *arguments]) == 2
    assert "is named as an image" in capsys.readouterr().err
    assert (folder / "1.jpg").read_bytes() == before


def test_an_output_that_cannot_be_opened_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder), "--output", str(folder)]) == 2
    assert "cannot be opened (Is a directory)" in capsys.readouterr().err


def test_a_bundle_that_cannot_be_served_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder), "--bundle", "nowhere"]) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(f"error: {Path.cwd()}/nowhere/manifest.json: cannot be read")
    )


def test_overlays_are_those_of_the_service(client: Door, folder: Path, tmp_path: Path) -> None:
    (folder / "sub" / "0.jpg").write_bytes((folder / "0.jpg").read_bytes())
    output, overlays = tmp_path / "out.csv", folder / "overlays"
    command = ["predict", str(folder), "--recursive", "--output", str(output), "--gradcam", str(overlays)]
    assert main(command) == 1
    rows = [row for row in table(output) if row["status"] == "ok"]
    assert len({row["overlay"] for row in rows}) == len(rows) == 10
    for row in rows:
        answer = client.post("/gradcam", files={"file": Path(row["path"]).read_bytes()})
        expected = np.asarray(Image.open(io.BytesIO(answer.content)), dtype=int)
        found = np.asarray(Image.open(overlays / row["overlay"]), dtype=int)
        assert np.abs(found - expected).max() <= 1
    before = output.read_bytes()
    assert main(command) == 1  # the overlays are not taken for images
    assert output.read_bytes() == before


def process(*arguments: str, before: str = "", stderr: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
    """The command in a process of its own, after what is to happen ``before``."""
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


SLOW = """
import time, service.offline.scoring as s
read = s.read_file
s.read_file = lambda path, limit: time.sleep(0.05) or read(path, limit)
"""


@pytest.fixture
def many(tmp_path: Path, images: list[bytes]) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(60):
        (folder / f"{index:02}.jpg").write_bytes(images[index % len(images)])
    return folder


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_loses_no_row(number: int, status: int, many: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    command = (str(many), "--output", str(output))
    run = process(*command, before=SLOW)
    wait_for(lambda: output.exists() and output.read_bytes().count(b"\n") > 5, seconds=60)
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == status
    assert b"Traceback" not in errors
    rows = table(output)
    assert 5 <= len(rows) < 60
    assert main(["predict", *command]) == 0
    assert [Path(row["path"]).name for row in table(output)] == [f"{index:02}.jpg" for index in range(60)]
    assert table(output)[: len(rows)] == rows


def test_a_full_disk_ends_the_run_with_whole_rows(many: Path, tmp_path: Path) -> None:
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


def test_a_full_disk_leaves_no_part_of_an_overlay(many: Path, tmp_path: Path) -> None:
    output, overlays = tmp_path / "out.csv", tmp_path / "overlays"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
    run = process(str(many), "--output", str(output), "--gradcam", str(overlays), before=limit)
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


def test_a_reader_that_goes_away_ends_the_run(many: Path) -> None:
    with process(str(many), before=SLOW) as run:
        assert run.stdout is not None
        run.stdout.readline()
        run.stdout.close()
        assert run.stderr is not None
        errors = run.stderr.read().decode()
    assert run.returncode == 2
    assert "standard output: cannot be written (Broken pipe)" in errors
    assert "Traceback" not in errors


def test_few_files_are_in_memory_at_a_time(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DERMASERVE_DECODE_WORKERS", "2")
    monkeypatch.setenv("DERMASERVE_MAX_BATCH_SIZE", "3")
    begun = held = most = 0
    score = scoring._Scorer.score

    async def counted(self: Any, path: str) -> Any:
        nonlocal begun, held, most
        begun, held = begun + 1, held + 1
        most = max(most, held)
        return await score(self, path)

    def written(self: Csv, scored: Any) -> bytes:
        nonlocal held
        held -= 1
        return line(self, scored)

    line = Csv.line
    monkeypatch.setattr(scoring._Scorer, "score", counted)
    monkeypatch.setattr(Csv, "line", written)
    assert main(["predict", str(many), "--output", str(tmp_path / "out.csv")]) == 0
    assert begun == 60
    assert most <= 2 * 3 + 2 * 2
