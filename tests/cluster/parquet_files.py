"""Parquet folders and manifests, on a disk and in an object store, without a cluster: ``make ray-test``."""

import io
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.fs
import pyarrow.parquet
import pytest

from models.bundle import Manifest, Metadata, load_bundle
from service.bulk.files import Input
from service.bulk.parquet import PartFolder, open_manifest
from service.bulk.rows import Columns, Csv, Failure, Scored
from service.bulk.store import find_images, place_of, read_image, write_file
from service.errors import (
    INTERNAL,
    BodyTooLarge,
    MetadataFileError,
    OutputError,
    StoreError,
    UnreadableFile,
)
from tests.cluster.nodes import free_port


@pytest.fixture(scope="module")
def manifest(request: pytest.FixtureRequest) -> Manifest:
    return load_bundle(request.getfixturevalue("shipped_bundle")).manifest


@pytest.fixture(params=["disk", "store"])
def root(request: pytest.FixtureRequest, tmp_path: Path, store: dict[str, str]) -> str:
    """A folder that does not exist yet."""
    return str(tmp_path / "out") if request.param == "disk" else f"s3://clinic/{tmp_path.name}"


def part_folder(root: str, manifest: Manifest, *, metadata: bool = False, digest: str = "d") -> PartFolder:
    columns = Columns(manifest, overlays=False, metadata=metadata)
    folder = PartFolder(place_of(root, "/"), columns, digest)
    folder.create()
    return folder


def parquet_of(columns: dict[str, list[str]]) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


def failed(path: str) -> Scored:
    return Scored(path, Failure(INTERNAL, "The model failed."))


def table_of(root: str, file: str) -> Any:
    system, path = place_of(root, "/")
    return pyarrow.parquet.read_table(f"{path}/{file}", filesystem=system)


def test_parts_have_the_columns_of_the_csv_and_are_found_again(root: str, manifest: Manifest) -> None:
    folder = part_folder(root, manifest, metadata=True)
    assert folder.read_finished() == {}
    folder.write("part-0-a.parquet", [failed("1.jpg"), failed("2.jpg")])
    folder.write("part-0-a.parquet", [failed("1.jpg"), failed("3.jpg")])  # replaces it
    folder.write("part-1-b.parquet", [failed("4.jpg")])
    assert folder.read_finished() == {"1.jpg": True, "3.jpg": True, "4.jpg": True}
    table = table_of(root, "part-0-a.parquet")
    header = Csv(manifest, overlays=False, metadata=True).header.decode().strip().split(",")
    assert table.column_names == header
    types = {name: str(kind) for name, kind in zip(header, table.schema.types, strict=True)}
    assert types["path"] == types["warnings"] == types["sex_used"] == "string"
    assert types["probability_mel"] == types["ood_score"] == types["age_used"] == "double"
    (row, _) = table.to_pylist()
    assert (row["status"], row["problem"], row["label"]) == ("failed", "internal-error", None)


def test_rows_of_another_model_or_with_other_columns_are_refused(root: str, manifest: Manifest) -> None:
    part_folder(root, manifest).write("part-0-a.parquet", [failed("1.jpg")])
    with pytest.raises(OutputError, match="rows with other columns; choose another folder"):
        part_folder(root, manifest, metadata=True).read_finished()
    with pytest.raises(OutputError, match=f"another model than {manifest.name} {manifest.version};"):
        part_folder(root, manifest, digest="e").read_finished()
    part_folder(root, manifest).write("part-1-b.parquet", [failed("2.jpg")])
    write_file(place_of(root, "/"), "part-2-c.parquet", parquet_of({"path": ["3.jpg"], "status": ["ok"]}))
    with pytest.raises(OutputError, match="rows with other columns"):
        part_folder(root, manifest).read_finished()


def test_images_with_two_rows_are_refused(root: str, manifest: Manifest) -> None:
    folder = part_folder(root, manifest)
    folder.write("part-0-a.parquet", [failed("1.jpg"), failed("2.jpg")])
    folder.write("part-0-b.parquet", [failed("2.jpg"), failed("3.jpg")])
    with pytest.raises(OutputError, match="1 of its rows are of images that have another row"):
        folder.read_finished()


def test_a_missing_part_is_reported_and_incomplete_files_are_ignored(root: str, manifest: Manifest) -> None:
    folder = part_folder(root, manifest)
    folder.write("part-0-a.parquet", [failed("1.jpg")])
    folder.check("part-0-a.parquet")
    with pytest.raises(OutputError, match="a file that was written is not here"):
        folder.check("part-1-b.parquet")
    write_file(place_of(root, "/"), ".part-1-b.parquet.0", b"half")
    assert folder.read_finished() == {"1.jpg": True}


def test_a_slash_at_the_end_is_no_part_of_a_name(root: str, manifest: Manifest) -> None:
    assert place_of(f"{root}/", "/") == place_of(root, "/")
    assert place_of("s3://clinic/", "/").path == "clinic"


def test_a_store_that_cannot_be_reached_is_no_fault_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable = pyarrow.fs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{free_port()}",
        scheme="http",
        access_key="test",
        secret_key="test",
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )
    monkeypatch.setattr("service.bulk.store._system", lambda root: (unreachable, "clinic"))
    with pytest.raises(StoreError, match=r"^clinic: cannot be read \(") as raised:
        read_image("s3://clinic/scans/Jane Doe.jpg", 5, folder="/")
    assert "Jane" not in str(raised.value)
    assert raised.value.__suppress_context__  # the message of the library names the image


def test_a_file_cannot_be_the_output(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match=r"--output: expected a folder for Parquet files, got .*, a file"):
        part_folder(str(tmp_path / "out"), manifest)


def test_a_part_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    place = place_of(str(tmp_path / "gone"), "/")
    with pytest.raises(OutputError, match="gone: cannot be written \\(No such file or directory\\)"):
        write_file(place, "part", b"x")
    (tmp_path / "part").mkdir()  # the rename fails
    with pytest.raises(OutputError, match="cannot be written"):
        write_file(place_of(str(tmp_path), "/"), "part", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_images_are_found_and_read_by_uri(root: str) -> None:
    place = place_of(root, "/")
    place.system.create_dir(f"{place.path}/sub", recursive=True)
    for name in ("b #%20?.jpg", "a.PNG", "notes.txt"):
        write_file(place, name, name.encode())
    write_file(place_of(f"{root}/sub", "/"), "c.jpg", b"c")
    found = find_images([root, f"{root}/a.PNG"], recursive=False, folder="/")
    assert found.paths == [f"{root}/a.PNG", f"{root}/b #%20?.jpg"]
    assert found.notes == [
        f"{root}: skipped files without the name of an image: 1",
        f"{root}: skipped folders without --recursive: 1",
    ]
    assert find_images([root], recursive=True, folder="/").paths == [*found.paths, f"{root}/sub/c.jpg"]
    assert read_image(found.paths[1], 12, folder="/") == b"b #%20?.jpg"
    with pytest.raises(BodyTooLarge, match="larger than the limit of 10 bytes"):
        read_image(found.paths[1], 10, folder="/")
    with pytest.raises(UnreadableFile, match="cannot be read: No such file or directory"):
        read_image(f"{root}/gone.jpg", 10, folder="/")


def test_relative_paths_start_from_the_folder_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "a b.jpg").write_bytes(b"x")
    assert read_image("a b.jpg", 5, folder=str(tmp_path)) == b"x"
    assert read_image(f"file://{tmp_path}/a%20b.jpg", 5, folder="/") == b"x"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://key:secret@clinic/a.jpg", "Expected a URI without a password"),
        ("hdfs://clinic/a.jpg", "Expected a path, or a URI with s3, gs, gcs, abfs, abfss or file"),
    ],
)
def test_uris_that_cannot_be_used_are_refused(uri: str, message: str, store: object) -> None:
    with pytest.raises(UnreadableFile, match=message) as raised:
        read_image(uri, 5, folder="/")
    assert "secret" not in str(raised.value)


def test_a_manifest_is_read_from_csv_and_parquet(root: str) -> None:
    place = place_of(root, "/")
    place.system.create_dir(place.path, recursive=True)
    rows = {"path": ["b.jpg", "a.jpg"], "age": [55, None], "site": ["back", None]}
    pyarrow.parquet.write_table(pyarrow.table(rows), f"{place.path}/m.parquet", filesystem=place.system)
    write_file(place, "m.csv", "\ufeffpath,age,site\nb.jpg,55,back\na.jpg,,\n".encode())
    expected = [Input("b.jpg", Metadata(age=55, site="back")), Input("a.jpg")]
    for name in ("m.parquet", "m.csv"):
        assert open_manifest(name, place_of(f"{root}/{name}", "/")) == (expected, True)


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    bad = pyarrow.table({"path": ["a.jpg", "b.jpg"], "age": [5, 500]})
    pyarrow.parquet.write_table(bad, tmp_path / "bad.parquet")
    (tmp_path / "letter.parquet").write_bytes(b"Dear doctor")
    for name, message in (
        ("bad.parquet", "m: row 2: age: expected a number of years from 0 to 120"),
        ("letter.parquet", "m: cannot be read as Parquet"),
        ("gone.parquet", "m: cannot be read as Parquet"),
        ("gone.csv", "m: cannot be read \\(No such file or directory\\)"),
    ):
        with pytest.raises(MetadataFileError, match=message):
            open_manifest("m", place_of(str(tmp_path / name), "/"))
