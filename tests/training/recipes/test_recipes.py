"""Every recipe is found, described, trained, exported and served."""

import base64
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import training.network.build
from models.bundle import load_bundle
from tests.service.app_client import running
from tests.synthetic_dataset import write_dataset
from training.catalogue import CATALOGUE, PRIOR_SYSTEMS, catalogue_page, find_entry, load_recipe
from training.data.dataset import METADATA_NAME, read_dataset
from training.data.prepare import SPLIT_NAME
from training.data.split import PARTS, make_split, write_split
from training.evaluation.evaluate import evaluate, load_networks, read_fitted
from training.export.bundle import write_bundle
from training.fit.loop import train_member
from training.network.backbones import build_pretrained
from training.recipe import Block, MemberRecipe, Recipe, RecipeError, ScratchCNN, VisionTransformer
from training.recipes.entry import Measured
from training.run import Run
from training.search.recipe_source import recipe_source

ROOT = Path(__file__).parents[3]
SMALL_RECIPE = Path(__file__).parents[1] / "small_recipe.py"

# The published systems, a line for each line of their tables.
PUBLISHED = {
    "mobilenet_efficientnet": """baseline_cnn mobilenet_v2 mobilenet_v2_focal
        mobilenet_v2_60_epochs mobilenet_v2_fine_tuned
        efficientnet_b0_frozen efficientnet_b0 efficientnet_b1_first efficientnet_b1 ensemble""",
    "three_networks": """resnet50 resnet50_grey xception xception_grey
        inception_resnet_v2 inception_resnet_v2_grey
        vgg19 resnet50_no_augmentation resnet50_lower_extremity vit_b32 vit_b32_grey
        ensemble_mean ensemble_vote ensemble_mean_grey ensemble_vote_grey mix_model""",
    "transfer_learning": "basic_nn cnn1 cnn2 mobilenet resnet50 densenet121 mobilenet_enhanced",
    "cnn_from_scratch": """base model_2 model_3 proposed model_5 proposed_class_weights proposed_oversampling
        inception_v3""",
    "benign_malignant": """vgg16 vgg19 inception_v3
        inception_v3_nadam inception_v3_adam inception_v3_adamax inception_v3_sgd
        scratch_1 scratch_2 ensemble""",
}
WITHOUT_METRICS = {"benign_malignant/baseline"}
OUR_OWN = {
    "ham10000_ensemble",
    "quick",
    "mobilenet_efficientnet/ensemble_grid",
    "mobilenet_efficientnet/ensemble_accuracy",
}
RECIPES = list(CATALOGUE)

WHOLE = {
    "benign_malignant/vgg16",
    "mobilenet_efficientnet/efficientnet_b0",
    "cnn_from_scratch/inception_v3",
    "three_networks/inception_resnet_v2",
    "three_networks/resnet50",
    "three_networks/vgg19",
    "three_networks/xception",
    "transfer_learning/densenet121",
    "transfer_learning/mobilenet",
}
"""Recipes with their whole backbone; the others are tested with the first eighth of the layers."""

SMALLEST = {"inception_resnet_v2": 75, "inception_v3": 75, "xception": 71}
"""Smallest image sizes of these backbones in pixels; the others are tested with smaller images."""


def test_every_published_model_has_a_recipe() -> None:
    published = {f"{system}/{name}" for system, names in PUBLISHED.items() for name in names.split()}
    assert set(RECIPES) == published | WITHOUT_METRICS | OUR_OWN
    assert {name for name, entry in CATALOGUE.items() if entry.published} == published


def test_published_metrics_are_data() -> None:
    published = find_entry("mobilenet_efficientnet/ensemble").published
    assert published is not None
    assert (published.accuracy, published.macro_f1, published.f1_by_class[4]) == (0.7645, 0.639, 0.48)
    assert published.text() == (
        "accuracy 0.7645, macro F1 0.639, macro recall 0.66, weighted F1 0.778; F1 by class: akiec 0.46, "
        "bcc 0.71, bkl 0.57, df 0.56, mel 0.48, nv 0.88, vasc 0.80"
    )


def test_the_page_puts_what_was_measured_beside_what_was_published(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Measured(
        command="python -m training run --recipe transfer_learning/cnn1 --data DIR --out RUN",
        schedule="cnn: 6 of 50 epochs",
        split_by="image",
        images=1503,
        accuracy=(0.5, 0.4, 0.6),
        f1_by_class=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    )
    entry = replace(find_entry("transfer_learning/cnn1"), measured=(run,))
    monkeypatch.setattr("training.recipes.transfer_learning.RECIPES", (entry,))
    section = catalogue_page().partition("## The repository ")[2].partition("\n## ")[0]
    assert "| published | measured here |" in section
    assert (
        "| accuracy 0.75, test loss 1.06, validation accuracy 0.76, minutes 58 "
        "| by image, 1,503 test images: accuracy 0.500 [0.400, 0.600]; F1 by class: akiec 0.10, bcc 0.20, "
        "bkl 0.30, df 0.40, mel 0.50, nv 0.60, vasc 0.70; cnn: 6 of 50 epochs |"
    ) in section
    assert f"Measured with:\n\n- `transfer_learning/cnn1`, by image: `{run.command}`" in section
    assert eval(run.source()) == run


@pytest.mark.parametrize("name", ["deck/ensemble", "report/mix_model", "transfer/cnn1", "keras_cnn/base"])
def test_the_former_name_of_a_recipe_still_finds_it(name: str) -> None:
    assert load_recipe(name).name.endswith(name.partition("/")[2])


def test_an_unknown_recipe_is_refused_with_the_known_names() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'deck/nothing'; expected one of .*quick"):
        load_recipe("deck/nothing")


def test_every_pretrained_backbone_is_exported_whole_once() -> None:
    names = [*WHOLE, str(SMALL_RECIPE)]  # the latter in ``test_run.py``
    whole = [str(member.backbone) for name in names for member in load_recipe(name).members]
    used = {member.backbone for name in RECIPES for member in load_recipe(name).members}
    assert sorted(whole) == sorted(backbone for backbone in used if isinstance(backbone, str))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_described(name: str) -> None:
    entry = CATALOGUE[name]
    assert entry.recipe.name == name
    assert entry.summary


@pytest.mark.parametrize("module", PRIOR_SYSTEMS)
def test_a_prior_system_states_the_differences_of_its_recipes(module: ModuleType) -> None:
    assert "\n\nDifferences from the " in str(module.__doc__)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_the_run_folder_and_its_own_source(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    (tmp_path / "recipe.json").write_text(json.dumps(asdict(recipe)))
    (tmp_path / "environment.json").write_text(json.dumps({"data": "", "seed": 0, "cache": ""}))
    assert Run.open(tmp_path).recipe == recipe
    (tmp_path / "again.py").write_text(recipe_source(recipe, "Again."))
    assert load_recipe(str(tmp_path / "again.py")) == recipe


def test_the_page_of_recipes_is_generated_from_the_catalogue() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert page == catalogue_page(), "python -m training recipes --markdown > docs/recipes.md"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set with its split; one training image per class is of the lower extremity."""
    folder = tmp_path_factory.mktemp("dataset")
    data = write_dataset(folder / "HAM", lesions=4)
    rows = read_dataset(data)
    split = make_split(rows, seed=0)
    write_split(folder / SPLIT_NAME, rows, split)
    seen: set[str] = set()
    records = []
    for row in rows:
        elsewhere = split[row.image_id] == "train" and row.dx in seen
        seen |= {row.dx} if split[row.image_id] == "train" else set()
        site = "back" if elsewhere else "lower extremity"
        # Some recipes use only images of a known age.
        records.append((row.lesion_id, row.image_id, row.dx, row.dx_type, row.age or 60, row.sex, site))
    with (data / METADATA_NAME).open(newline="", encoding="utf-8") as stream:
        header = next(csv.reader(stream))
    with (data / METADATA_NAME).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *records])
    return folder


def test_a_recipe_of_known_metadata_leaves_out_the_other_images(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "HAM", lesions=9, telling_age=True)
    header, *lines = (data / METADATA_NAME).read_text(encoding="utf-8").splitlines()
    for column, value in (("age", "0.0"), ("sex", "unknown"), ("localization", "")):
        index = header.split(",").index(column)
        cells = lines[index].split(",")
        cells[index] = value
        lines[index] = ",".join(cells)
    (data / METADATA_NAME).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    rows = read_dataset(data)
    unknown = {line.split(",")[1] for line in lines[4:7]}
    write_split(tmp_path / SPLIT_NAME, rows, make_split(rows, seed=0, validation=0.3, test=0.3))
    places: dict[str, Any] = {"data": data, "split": tmp_path / SPLIT_NAME, "cache": tmp_path}
    run = Run.create(tmp_path / "run", load_recipe("transfer_learning/cnn1"), seed=0, **places)
    used = {row.image_id for part in PARTS for row in run.part(part)}
    assert used == {row.image_id for row in rows} - unknown
    assert len(used) == len(rows) - 3


def test_a_run_continues_under_the_new_name_of_its_recipe(dataset: Path, tmp_path: Path) -> None:
    recipe = load_recipe("quick")
    places: dict[str, Any] = {"data": dataset / "HAM", "split": dataset / SPLIT_NAME, "cache": tmp_path}
    Run.create(tmp_path / "run", replace(recipe, name="former"), seed=0, **places)
    assert Run.create(tmp_path / "run", recipe, seed=0, **places).recipe.name == "former"
    with pytest.raises(RecipeError, match="another recipe"):
        Run.create(tmp_path / "run", replace(recipe, batch_size=1), seed=0, **places)


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    """Disable compilation, which takes longer than a step."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_works_from_images_to_the_response_of_the_service(
    name: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # tf2onnx's own rewriting takes most of an export's time; ``test_run.py`` exports with it.
    monkeypatch.setattr("tf2onnx.optimizer.optimize_graph", lambda graph, *_, **__: graph)
    if name not in WHOLE:
        monkeypatch.setattr(training.network.build, "build_pretrained", build_first_layers)
    recipe = reduced(load_recipe(name))
    split, shared = dataset / SPLIT_NAME, dataset / "cache"
    run = Run.create(tmp_path / "run", recipe, data=dataset / "HAM", split=split, seed=0, cache=shared)
    for member in recipe.members:
        train_member(run, member)
    networks = load_networks(run)
    evaluate(run, networks, resamples=10)
    specialists = [member.name for member in recipe.members if member.classes]
    for specialist in specialists:
        assert (run.folder / "evaluation" / f"confusion_matrix_{specialist}.png").is_file()
    bundle = tmp_path / "bundle"
    write_bundle(run, networks, read_fitted(run), name="reduced", version="0.0.1", folder=bundle)
    keras.backend.clear_session()

    image = next((dataset / "HAM").rglob("*.jpg")).read_bytes()
    with running(bundle) as client:
        headers = {"content-type": "image/jpeg"}
        answer = client.post("/predict?gradcam=true", content=image, headers=headers)
    assert answer.status_code == 200, answer.text
    asked = [member for member in load_bundle(bundle).manifest.members if member.weight]
    check_answer(answer.json(), run, several=len(asked) > 1)


def check_answer(body: dict[str, Any], run: Run, *, several: bool) -> None:
    codes = set(run.classes.codes)
    assert set(body["probabilities"]) == codes
    assert all(0 <= probability <= 1 for probability in body["probabilities"].values())
    assert sum(body["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    assert body["prediction"]["label"] in body["prediction_set"]["labels"]
    assert set(body["prediction_set"]["labels"]) <= codes
    uncertainty = body["uncertainty"]
    assert 0 <= uncertainty["entropy"] <= 1
    assert 0 <= uncertainty["disagreement"] <= 1
    assert (uncertainty["disagreement"] > 0) == several
    assert np.isfinite([uncertainty["ood_score"], uncertainty["ood_threshold"]]).all()
    with Image.open(io.BytesIO(base64.b64decode(body["gradcam"]["data"]))) as overlay:
        overlay.load()
        assert overlay.size == run.recipe.size[::-1]


def reduced(recipe: Recipe) -> Recipe:
    """Return a fast version of ``recipe``: one step of its last phase, small images."""
    side = max(SMALLEST.get(str(member.backbone), 64) for member in recipe.members)
    height, width = recipe.size
    members = []
    for member in recipe.members:
        phase = replace(member.phases[-1], epochs=1, image_size=None)
        small = replace(
            member, phases=(phase,), starting_weights="none", backbone=_small(member), image_size=None
        )
        members.append(small)
    return replace(
        recipe,
        members=tuple(members),
        image_size=(side, side) if height == width else (side, round(side * width / height)),
        batch_size=32,
        epoch_size=0.3,
    )


def _small(member: MemberRecipe) -> Any:
    """Return a small version of a backbone; pretrained backbones are unchanged."""
    match member.backbone:
        case ScratchCNN() as cnn:
            blocks = tuple(Block(16, block.convolutions, block.dropout) for block in cnn.blocks)
            return replace(cnn, blocks=blocks)
        case VisionTransformer():
            return VisionTransformer(patch=16, depth=1, width=32, heads=2)
        case other:
            return other


def build_first_layers(kind: str, *, weights: None, name: str) -> keras.Model:
    """Return the first eighth of a backbone's layers."""
    return keras.Model.from_config(_first_layers(kind) | {"name": name})


@cache
def _first_layers(kind: Any) -> dict[str, Any]:
    whole = build_pretrained(kind, weights=None, name="whole")
    first = keras.Model(whole.inputs, whole.layers[len(whole.layers) // 8].output)
    config: dict[str, Any] = first.get_config()
    return config
