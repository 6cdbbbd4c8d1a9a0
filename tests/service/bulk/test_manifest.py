"""The manifest of a run on a cluster: its images and their metadata, and rows that cannot be used."""

import io

import pytest

from models.bundle import NO_METADATA, Metadata
from service.bulk.files import Input
from service.bulk.manifest import read_manifest
from service.bulk.metadata import csv_records
from service.errors import MetadataFileError


def read(text: str) -> tuple[list[Input], bool]:
    columns, records = csv_records(io.StringIO(text, newline=""))
    return read_manifest("m.csv", columns, records, row="line")


def test_images_keep_their_order_and_have_their_metadata() -> None:
    inputs, metadata = read(
        "note,uri,age,sex,site\n"
        "x,s3://b/2.jpg,55,female,back\n,s3://b/1.jpg,,,\n,/scans/a b.jpg, 20.5 ,,ear\n"
    )
    assert metadata
    assert inputs == [
        Input("s3://b/2.jpg", Metadata(age=55, sex="female", site="back")),
        Input("s3://b/1.jpg", NO_METADATA),
        Input("/scans/a b.jpg", Metadata(age=20.5, site="ear")),
    ]


def test_metadata_is_optional_and_path_goes_before_uri() -> None:
    assert read("uri,path\nu,p\n") == ([Input("p")], False)
    assert read("path\n") == ([], False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,age\na,5\n", "m.csv: expected a column path or uri, found age, image"),
        ("path,age\na,5\nb,130\n", "m.csv: line 3: age: expected a number of years from 0 to 120."),
        ("path,sex\na,f\n", "m.csv: line 2: sex: expected female or male."),
        ("path\na\n''\na\n", "m.csv: line 4: path: an earlier line has the same."),
        ("path,age\na,5\n,6\n", "m.csv: line 3: path: expected a path or a URI, got nothing."),
    ],
)
def test_rows_that_cannot_be_used_are_named(text: str, message: str) -> None:
    with pytest.raises(MetadataFileError) as raised:
        read(text)
    assert str(raised.value) == message


def test_only_the_first_problems_are_shown() -> None:
    with pytest.raises(MetadataFileError) as raised:
        read("path,age\n" + "".join(f"{index},x\n" for index in range(30)))
    lines = str(raised.value).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "m.csv: 20 more problems"
