from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from training.data.dataset import CODES, DataError, Row, read_dataset
from training.data.split import PARTS, Split, make_split, read_split, rows_of, write_split


def _rows(lesions_per_class: int = 40) -> list[Row]:
    """Return rows without files; lesion n of a class has 1 + n % 3 images."""
    return [
        Row(f"{code}{n}_{k}", f"L{code}{n}", code, "histo", 50.0, "male", "back", Path("unused"))
        for code in CODES
        for n in range(lesions_per_class)
        for k in range(1 + n % 3)
    ]


def _parts_by_lesion(rows: list[Row], split: Split) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.lesion_id, set()).add(split[row.image_id])
    return found


# The numbers of images in the published data set.
_PUBLISHED = {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}


def test_a_split_by_image_has_the_sizes_of_the_deck() -> None:
    """Its 1,503 test images are those of scikit-learn's stratified split at 15 %."""
    rows = [
        Row(f"{code}{n}", f"L{code}{n // 2}", code, "histo", 50.0, "male", "back", Path("unused"))
        for code, count in _PUBLISHED.items()
        for n in range(count)
    ]
    split = make_split(rows, seed=0, test=1503, by="image")
    found = Counter(row.dx for row in rows_of(rows, split, "test"))
    assert dict(found) == {"akiec": 49, "bcc": 77, "bkl": 165, "df": 17, "mel": 167, "nv": 1006, "vasc": 22}
    assert len(rows_of(rows, split, "validation")) == round(0.15 * len(rows))


def test_a_split_by_lesion_has_about_the_number_of_images() -> None:
    rows = _rows()
    split = make_split(rows, seed=0, validation=60, test=80)
    assert abs(len(rows_of(rows, split, "validation")) - 60) <= 7
    assert abs(len(rows_of(rows, split, "test")) - 80) <= 7
    assert all(len(parts) == 1 for parts in _parts_by_lesion(rows, split).values())


def test_no_lesion_lies_in_two_parts() -> None:
    rows = _rows()
    split = make_split(rows, seed=0)
    assert all(len(parts) == 1 for parts in _parts_by_lesion(rows, split).values())


def test_every_part_has_its_share_of_every_class() -> None:
    rows = _rows()
    split = make_split(rows, seed=0, validation=0.15, test=0.15)
    for code in CODES:
        of_class = [row for row in rows if row.dx == code]
        shares = Counter(split[row.image_id] for row in of_class)
        for part, share in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
            # One lesion of three images is the finest that can be dealt.
            assert abs(shares[part] - share * len(of_class)) <= 3


def test_the_smallest_possible_class_is_in_every_part() -> None:
    rows = _rows(lesions_per_class=3)
    split = make_split(rows, seed=1)
    for part in PARTS:
        assert {row.dx for row in rows_of(rows, split, part)} == set(CODES)


def test_a_class_with_two_lesions_is_refused() -> None:
    with pytest.raises(DataError, match="class akiec: 2 lesions, at least 3"):
        make_split(_rows(lesions_per_class=2), seed=0)


def test_a_seed_gives_one_split_and_another_seed_another() -> None:
    rows = _rows()
    assert make_split(rows, seed=0) == make_split(rows, seed=0) != make_split(rows, seed=1)


def test_lesions_that_share_a_file_stay_together() -> None:
    rows = _rows()
    nevi = [row for row in rows if row.dx == "nv" and row.image_id.endswith("_0")]
    # A chain through ten lesions: each pair alone would not tell that all belong together.
    chain = [list(pair) for pair in pairwise(nevi[:10])]
    split = make_split(rows, seed=0, duplicates=chain)
    assert len({split[row.image_id] for row in nevi[:10]}) == 1


def test_a_written_split_is_read_back(tmp_path: Path) -> None:
    rows = _rows()
    split = make_split(rows, seed=0)
    write_split(tmp_path / "split.csv", rows, split)
    assert read_split(tmp_path / "split.csv", rows) == split


def test_a_split_file_in_which_a_lesion_crosses_is_refused(tmp_path: Path) -> None:
    rows = _rows()
    split = make_split(rows, seed=0)
    twin = next(row for row in rows if row.image_id.endswith("_1") and split[row.image_id] == "train")
    write_split(tmp_path / "split.csv", rows, {**split, twin.image_id: "test"})
    with pytest.raises(DataError, match=f"lesion {twin.lesion_id} is in both .* not marked"):
        read_split(tmp_path / "split.csv", rows)


def test_a_split_by_image_is_marked_in_its_file(tmp_path: Path) -> None:
    rows = _rows()
    split = make_split(rows, seed=0, by="image")
    assert any(len(parts) > 1 for parts in _parts_by_lesion(rows, split).values())
    write_split(tmp_path / "split.csv", rows, split)
    found = read_split(tmp_path / "split.csv", rows)
    assert found == split
    assert found.by == "image"
    assert found != Split(split.parts, by="lesion")


def test_a_split_by_image_without_its_mark_is_refused(tmp_path: Path) -> None:
    rows = _rows()
    write_split(tmp_path / "split.csv", rows, dict(make_split(rows, seed=0, by="image")))
    with pytest.raises(DataError, match="not marked as a split by image"):
        read_split(tmp_path / "split.csv", rows)


def test_a_mark_on_some_lines_only_is_refused(tmp_path: Path) -> None:
    rows = _rows()
    file = tmp_path / "split.csv"
    write_split(file, rows, make_split(rows, seed=0, by="image"))
    file.write_text(file.read_text().replace(",image\n", ",\n", 1))
    with pytest.raises(DataError, match="split_by is image, lesion, expected one of"):
        read_split(file, rows)


def test_a_split_file_may_hold_more_images_than_are_used(tmp_path: Path) -> None:
    rows = _rows()
    split = make_split(rows, seed=0)
    write_split(tmp_path / "split.csv", rows, split)
    used = [row for row in rows if row.dx in ("mel", "nv")]
    found = read_split(tmp_path / "split.csv", used)
    assert dict(found) == {row.image_id: split[row.image_id] for row in used}


def test_a_lesion_that_crosses_outside_the_used_images_does_not_count(tmp_path: Path) -> None:
    rows = _rows()
    split = make_split(rows, seed=0)
    twin = next(row for row in rows if row.dx == "df" and row.image_id.endswith("_1"))
    other = next(part for part in PARTS if part != split[twin.image_id])
    write_split(tmp_path / "split.csv", rows, {**split, twin.image_id: other})
    assert read_split(tmp_path / "split.csv", [row for row in rows if row.dx != "df"])


def test_a_split_file_that_lacks_an_image_is_refused(tmp_path: Path) -> None:
    rows = _rows()
    write_split(tmp_path / "split.csv", rows[:-1], make_split(rows, seed=0))
    with pytest.raises(DataError, match=f"image {rows[-1].image_id} is missing"):
        read_split(tmp_path / "split.csv", rows)


def test_a_split_file_with_an_unknown_part_is_refused(tmp_path: Path) -> None:
    rows = _rows()
    write_split(tmp_path / "split.csv", rows, {**make_split(rows, seed=0), rows[0].image_id: "holdout"})
    with pytest.raises(DataError, match="part 'holdout', expected one of train, validation, test"):
        read_split(tmp_path / "split.csv", rows)


def test_a_split_file_that_names_an_image_twice_is_refused(tmp_path: Path) -> None:
    rows = _rows()
    write_split(tmp_path / "split.csv", [*rows, rows[0]], make_split(rows, seed=0))
    with pytest.raises(DataError, match=f"image {rows[0].image_id} occurs twice"):
        read_split(tmp_path / "split.csv", rows)


def test_a_file_that_is_not_a_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("image_id,dx\n")
    with pytest.raises(DataError, match="columns missing: lesion_id, part"):
        read_split(tmp_path / "split.csv", _rows())


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.2), (0.6, 0.4), (-0.1, 0.1), (0.1, 10_000)])
def test_shares_that_leave_no_training_images_are_refused(validation: float, test: float) -> None:
    with pytest.raises(DataError, match="shares must be positive"):
        make_split(_rows(), seed=0, validation=validation, test=test)


def test_none_of_the_1954_lesions_with_several_images_crosses(ham10000: Path) -> None:
    rows = read_dataset(ham10000)
    parts = _parts_by_lesion(rows, make_split(rows, seed=0))
    images = Counter(row.lesion_id for row in rows)
    assert sum(count > 1 for count in images.values()) >= 1954
    assert all(len(found) == 1 for found in parts.values())
