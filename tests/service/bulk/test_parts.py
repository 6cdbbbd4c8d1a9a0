"""Parts of a run on a cluster: a resumed run has the parts of the first, and no image twice."""

import os

from models.bundle import Metadata
from service.bulk.files import Input, path_text
from service.bulk.parts import Part, pack, parts_to_score, unpack

INPUTS = [Input(f"s3://b/{index}.jpg") for index in range(10)]


def plan(inputs: list[Input], finished: set[str], digest: str = "d") -> list[Part]:
    return list(parts_to_score(inputs, finished, size=4, digest=digest))


def test_each_image_is_in_one_part_in_order() -> None:
    parts = plan(INPUTS, set())
    assert [len(part.inputs) for part in parts] == [4, 4, 2]
    assert [entry for part in parts for entry in part.inputs] == INPUTS
    assert [part.file for part in parts] == sorted({part.file for part in parts})


def test_parts_without_a_row_are_the_same_in_a_resumed_run() -> None:
    first = plan(INPUTS, set())
    finished = {path_text(entry.path) for entry in first[1].inputs}
    assert plan(INPUTS, finished) == [first[0], first[2]]
    assert plan(INPUTS, {path_text(entry.path) for entry in INPUTS}) == []


def test_new_images_are_scored_and_finished_ones_are_not() -> None:
    more = [Input("s3://b/0a.jpg"), *INPUTS]
    finished = {entry.path for entry in INPUTS[:8]}
    left = [entry.path for part in plan(more, finished) for entry in part.inputs]
    assert left == ["s3://b/0a.jpg", "s3://b/8.jpg", "s3://b/9.jpg"]


def test_other_images_metadata_or_models_have_files_of_other_names() -> None:
    known = [Input(INPUTS[0].path, Metadata(age=5)), *INPUTS[1:]]
    names = [plan(inputs, set())[0].file for inputs in (INPUTS, known, INPUTS[1:])]
    names.append(plan(INPUTS, set(), digest="e")[0].file)
    assert len(set(names)) == 4


def test_every_file_name_and_all_metadata_survive_the_way_to_an_actor() -> None:
    inputs = [
        Input(os.fsdecode(b"b\xff.jpg"), Metadata(age=55, sex="female", site="back")),
        Input("L\u00e4sion \U0001f600.jpg", Metadata(site="ear")),
        Input("new\nline.jpg"),
    ]
    assert unpack(pack(inputs)) == inputs
