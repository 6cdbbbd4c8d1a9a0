from pathlib import Path

import pytest

from tests.synthetic_dataset import write_dataset
from training.data.dataset import METADATA_NAME, DataError, duplicate_groups, find_images, read_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", lesions=3)


def _edit(dataset: Path, old: str, new: str) -> None:
    metadata = dataset / METADATA_NAME
    text = metadata.read_text()
    assert old in text
    metadata.write_text(text.replace(old, new, 1))


def test_images_are_found_in_several_folders(dataset: Path) -> None:
    rows = read_dataset(dataset)
    assert len(rows) == 7 * 4
    assert {row.path.parent.name for row in rows} == {"HAM10000_images_part_1", "HAM10000_images_part_2"}
    assert all(row.path.stem == row.image_id for row in rows)


def test_of_an_image_in_several_folders_the_largest_folder_counts(tmp_path: Path) -> None:
    for name in ("a samples/x.jpg", "images/x.jpg", "images/y.PNG", "z samples/x.jpg", "images/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == {"x": tmp_path / "images/x.jpg", "y": tmp_path / "images/y.PNG"}


def test_an_empty_age_and_age_0_are_unknown(dataset: Path) -> None:
    assert [row.age for row in read_dataset(dataset)[:3]] == [None, None, 55.0]


def test_a_row_without_its_file_is_named(dataset: Path) -> None:
    (dataset / "HAM10000_images_part_1" / "SYNTH_0000000.jpg").unlink()
    with pytest.raises(DataError, match="line 2: no image file for SYNTH_0000000"):
        read_dataset(dataset)


def test_an_unknown_class_is_named(dataset: Path) -> None:
    _edit(dataset, ",akiec,", ",wart,")
    with pytest.raises(DataError, match="line 2: dx is 'wart', expected one of akiec"):
        read_dataset(dataset)


def test_an_image_that_occurs_twice_is_named(dataset: Path) -> None:
    _edit(dataset, "SYNTH_0000001", "SYNTH_0000000")
    with pytest.raises(DataError, match="image_id SYNTH_0000000 occurs twice"):
        read_dataset(dataset)


def test_a_lesion_with_two_diagnoses_is_named(dataset: Path) -> None:
    _edit(dataset, "LES_akiec_0,SYNTH_0000001,akiec", "LES_akiec_0,SYNTH_0000001,mel")
    with pytest.raises(DataError, match="lesion LES_akiec_0 is both akiec and mel"):
        read_dataset(dataset)


def test_a_row_without_a_lesion_is_named(dataset: Path) -> None:
    _edit(dataset, "LES_akiec_0,", ",")
    with pytest.raises(DataError, match="line 2: lesion_id is empty"):
        read_dataset(dataset)


@pytest.mark.parametrize("age", ["old", "-5", "nan", "1000"])
def test_an_invalid_age_is_named(dataset: Path, age: str) -> None:
    _edit(dataset, ",55.0,", f",{age},")
    with pytest.raises(DataError, match=f"line 4: age is '{age}', expected years"):
        read_dataset(dataset)


def test_a_line_that_ends_early_is_named(dataset: Path) -> None:
    _edit(dataset, "LES_akiec_0,SYNTH_0000001,akiec,histo,0,male,back", "LES_akiec_0,SYNTH_0000001")
    with pytest.raises(DataError, match="line 3: dx is '', expected one of akiec"):
        read_dataset(dataset)


def test_metadata_that_is_not_text_is_refused(dataset: Path) -> None:
    (dataset / METADATA_NAME).write_bytes(b"\xff\xd8\xff\xe0 a picture")
    with pytest.raises(DataError, match=r"HAM10000_metadata\.csv: not a readable CSV file"):
        read_dataset(dataset)


def test_metadata_without_rows_is_refused(dataset: Path) -> None:
    metadata = dataset / METADATA_NAME
    metadata.write_text(metadata.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match="no rows"):
        read_dataset(dataset)


def test_missing_metadata_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"HAM10000_metadata\.csv: not found"):
        read_dataset(tmp_path)


def test_at_most_ten_bad_rows_are_named(dataset: Path) -> None:
    for image in dataset.rglob("*.jpg"):
        image.unlink()
    with pytest.raises(DataError, match="28 rows cannot be used") as error:
        read_dataset(dataset)
    assert str(error.value).count("no image file for") == 10


def test_a_missing_column_is_named(dataset: Path) -> None:
    _edit(dataset, "lesion_id,", "lesion,")
    with pytest.raises(DataError, match="columns missing: lesion_id"):
        read_dataset(dataset)


def test_equal_files_are_found(dataset: Path) -> None:
    rows = read_dataset(dataset)
    assert duplicate_groups(rows) == []
    rows[5].path.write_bytes(rows[0].path.read_bytes())
    [group] = duplicate_groups(rows)
    assert {row.image_id for row in group} == {rows[0].image_id, rows[5].image_id}


def test_the_published_data_set_is_read_whole(ham10000: Path) -> None:
    rows = read_dataset(ham10000)
    assert len(rows) >= 10_000
    assert {row.path.parent.name for row in rows} != {"originals"}
    assert sum(row.dx == "mel" for row in rows) == 1113
