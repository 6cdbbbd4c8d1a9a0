"""The values that the authors of the prior systems state are those of their recipes."""

from dataclasses import replace

import pytest

from training.catalogue import load_recipe
from training.recipe import Augmentation, MemberRecipe, Phase, Recipe, ScratchCNN

BY_HALVES = {"plateau_patience": 5, "plateau_factor": 0.5, "min_learning_rate": 1e-5}


def _alone(name: str) -> tuple[Recipe, MemberRecipe, Phase]:
    """Return the recipe, its only member, and the member's last phase."""
    recipe = load_recipe(name)
    (member,) = recipe.members
    return recipe, member, member.phases[-1]


def _dropouts(member: MemberRecipe) -> list[float]:
    assert isinstance(member.backbone, ScratchCNN)
    return [*(block.dropout for block in member.backbone.blocks), member.head.dropout]


@pytest.mark.parametrize(
    ("name", "gamma"),
    [
        ("mobilenet_v2", 0.0),
        ("mobilenet_v2_focal", 2.0),
        ("mobilenet_v2_60_epochs", 1.5),
        ("mobilenet_v2_fine_tuned", 1.5),
        ("efficientnet_b0_frozen", 2.0),
        ("efficientnet_b0", 1.5),
        ("efficientnet_b1_first", 1.5),
        ("efficientnet_b1", 1.5),
        ("ensemble", 1.5),
    ],
)
def test_the_deck_augments_and_reduces_gamma_after_its_first_focal_models(name: str, gamma: float) -> None:
    recipe = load_recipe(f"mobilenet_efficientnet/{name}")
    assert recipe.augmentation != Augmentation()
    assert recipe.focal_gamma == gamma
    assert recipe.class_weight_power == (1.0 if gamma else 0.0)


def test_the_deck_first_tries_b1_at_a_low_rate() -> None:
    _, _, phase = _alone("mobilenet_efficientnet/efficientnet_b1_first")
    assert (phase.learning_rate, phase.stop_patience) == (1e-5, 3)


def test_the_ensembles_of_grey_images_are_those_of_colour() -> None:
    for kind in ("mean", "vote"):
        grey = load_recipe(f"three_networks/ensemble_{kind}_grey")
        assert grey.color == "grey"
        colour = load_recipe(f"three_networks/ensemble_{kind}")
        assert replace(grey, name=colour.name, color="rgb") == colour


def test_every_loss_of_the_three_networks_has_a_penalty() -> None:
    members = load_recipe("three_networks/mix_model").members + load_recipe("three_networks/vit_b32").members
    assert all(member.head.l2 > 0 for member in members)


def test_two_specialists_decide_again_where_the_mix_model_says_melanoma() -> None:
    classes = [member.classes for member in load_recipe("three_networks/mix_model").members]
    assert classes == [(), ("mel", "nv"), ("akiec", "bcc"), ("mel", "bkl")]


def test_cnn1_has_the_dropouts_and_the_rate_of_the_repository() -> None:
    recipe, member, phase = _alone("transfer_learning/cnn1")
    assert _dropouts(member) == [0.15, 0.225, 0.3375, 0.506]
    assert (phase.learning_rate, recipe.batch_size, phase.schedule) == (1e-4, 10, "constant")
    assert recipe.augmentation == Augmentation()


@pytest.mark.parametrize("name", ["cnn2", "mobilenet", "resnet50", "densenet121"])
def test_the_later_networks_of_the_repository_share_augmentation_and_plateau(name: str) -> None:
    recipe, _, phase = _alone(f"transfer_learning/{name}")
    assert recipe.augmentation == Augmentation(flips=True, rotation=10.0, zoom=0.1, shift=0.12)
    assert phase == Phase(phase.trainable, 50, 1e-4, stop_patience=50, **BY_HALVES)  # type: ignore[arg-type]


def test_the_enhanced_mobilenet_shifts_flips_and_has_the_plateau_too() -> None:
    recipe, member, phase = _alone("transfer_learning/mobilenet_enhanced")
    assert recipe.augmentation == Augmentation(flips=True, rotation=30.0, zoom=0.3, shift=0.12)
    assert phase == Phase(50, 500, 1e-3, stop_patience=500, **BY_HALVES)  # type: ignore[arg-type]
    assert (member.head.batch_norm, member.head.dropout, member.head.l2) == (True, 0.5, 1e-3)


@pytest.mark.parametrize("name", ["basic_nn", "cnn1", "cnn2", "mobilenet", "mobilenet_enhanced"])
def test_the_repository_uses_images_of_known_metadata_and_watches_accuracy(name: str) -> None:
    recipe, member, _ = _alone(f"transfer_learning/{name}")
    assert (recipe.known_metadata, recipe.monitor, member.scaling) == (True, "accuracy", "z_score")


@pytest.mark.parametrize("name", ["base", "proposed", "proposed_class_weights", "inception_v3"])
def test_the_keras_report_chooses_its_epoch_by_accuracy(name: str) -> None:
    recipe, _, phase = _alone(f"cnn_from_scratch/{name}")
    assert recipe.monitor == "accuracy"
    assert (phase.epochs, phase.plateau_patience, phase.stop_patience) == (200, 3, 10)


@pytest.mark.parametrize(("name", "filters"), [("scratch_1", [32] * 3), ("scratch_2", [16] * 2)])
def test_the_searched_networks_have_pools_of_three(name: str, filters: list[int]) -> None:
    _, member, _ = _alone(f"benign_malignant/{name}")
    assert isinstance(member.backbone, ScratchCNN)
    assert member.backbone.pool_size == 3
    assert [block.filters for block in member.backbone.blocks] == filters


def test_the_baseline_of_benign_and_malignant_has_one_convolution() -> None:
    _, member, _ = _alone("benign_malignant/baseline")
    assert isinstance(member.backbone, ScratchCNN)
    assert [block.convolutions for block in member.backbone.blocks] == [1]


def test_inception_trains_fifteen_epochs_of_its_head_and_ten_unfrozen() -> None:
    recipe, member, _ = _alone("benign_malignant/inception_v3")
    assert [(phase.trainable, phase.epochs) for phase in member.phases] == [("head", 15), (150, 10)]
    assert (recipe.optimizer, recipe.clip_norm) == ("nadam", 1.0)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamax", "nadam"])
def test_the_variants_of_inception_differ_in_their_optimizer(optimizer: str) -> None:
    recipe, _, phase = _alone(f"benign_malignant/inception_v3_{optimizer}")
    assert (recipe.optimizer, phase.trainable, phase.epochs) == (optimizer, "head", 10)


def test_the_last_ensemble_has_three_members() -> None:
    recipe = load_recipe("benign_malignant/ensemble")
    assert [member.name for member in recipe.members] == ["inception_v3", "scratch_1", "scratch_2"]
    assert recipe.weighting == "accuracy"


def test_vgg16_is_trained_as_a_whole_for_twenty_epochs() -> None:
    _, member, phase = _alone("benign_malignant/vgg16")
    assert (member.backbone, phase.trainable, phase.epochs) == ("vgg16", "all", 20)
