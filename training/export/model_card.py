"""Writes the model card from the manifest (Mitchell et al., "Model Cards for Model Reporting", FAT* 2019)."""

from pathlib import Path

from models.bundle import Manifest
from models.manifest.predictive import predictive_values_of
from training.evaluation.report import LABELS, explain_intervals, metadata_section, subgroup_section
from training.export.graph import Parity
from training.markdown import NONE, format_metric, table
from training.metrics.scores import FORMER_ACCURACY_ARGMAX

CITATION = (
    'Tschandl P., Rosendahl C., Kittler H. "The HAM10000 dataset, a large collection of multi-source '
    'dermatoscopic images of common pigmented skin lesions." Sci. Data 5, 180161 (2018), '
    "doi:10.7910/DVN/DBW86T"
)
LICENCE = "CC BY-NC 4.0"
LICENCE_TEXT = (
    "This model was trained on HAM10000, which is published under CC BY-NC 4.0\n"
    "(https://creativecommons.org/licenses/by-nc/4.0/). The model is licensed under the same terms:\n"
    "non-commercial use, with attribution to the authors of the data set:\n\n"
    f"{CITATION}\n"
    "Images by the ViDIR Group, Department of Dermatology, Medical University of Vienna.\n"
)
INTENDED_USE = (
    "Research and education on dermatoscopic images of pigmented skin lesions. Not a medical device: not to "
    "be used as the sole criterion, or to confirm or exclude a diagnosis."
)
LIMITS = (
    "The model assigns every image to one of its classes, whatever the image shows. The out-of-distribution "
    "warning detects only some of the images that show something else.",
    "The training images are dermatoscopic images from two centres (Vienna and Queensland). Clinical or "
    "phone photographs without a dermatoscope are outside the training data.",
    "HAM10000 has no labels of skin tone, so performance across skin tones was not measured. The data comes "
    "mostly from light skin; such models are known to fail more often on melanoma in dark skin.",
    "Calibration and coverage hold at the prevalence of the training data, which differs from that of a "
    "clinic.",
    "All metrics but those of external tests were measured on held-out lesions of the same data set; expect "
    "lower ones elsewhere.",
    "The heatmap shows where the evidence for a class lies, relative to the map's maximum. It is neither a "
    "probability nor a segmentation.",
)


_SHOWN = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy_rule": "Accuracy",
    "macro_precision": "Macro precision",
    "macro_f1": "Macro F1",
    "macro_auc": "Macro AUC",
    "malignancy_auc": "Malignancy AUC",
    "malignancy_sensitivity": "Malignancy sensitivity at the threshold",
    "malignancy_specificity": "Malignancy specificity at the threshold",
    "malignancy_precision": "Malignancy precision at the threshold, at the test part's prevalence",
    "ece": "Expected calibration error",
    "accuracy_argmax": "Accuracy of the most probable class (arg-max)",
    FORMER_ACCURACY_ARGMAX: "Accuracy of the most probable class (arg-max)",
    "balanced_accuracy_argmax": "Balanced accuracy of the most probable class (arg-max)",
}

_COMBINATIONS = {
    "mean": "Weighted mean of the members' probabilities",
    "vote": "Majority vote of the members",
    "specialists": "The first member predicts; the others decide between the two classes that they know",
}

_AGREEMENT = "- The ONNX graph agrees with Keras within "


_EXTERNAL = "## External tests"


def write_model_card(
    path: Path, manifest: Manifest, parity: Parity | None, *, external_tests: str = ""
) -> None:
    """Write the model card of ``manifest`` to ``path``.

    Args:
        path: the file; it is replaced.
        manifest: the bundle's manifest.
        parity: differences between graph and Keras; None keeps the line about them in the existing card, and
            its external tests.
        external_tests: Markdown of tests of this model and its earlier versions on other data, without a
            heading; empty for none.
    """
    if parity is None:
        card = path.read_text(encoding="utf-8")
        agreement = next(line for line in card.splitlines() if line.startswith(_AGREEMENT))
        external_tests = card.partition(f"\n{_EXTERNAL}\n")[2].partition("\n## ")[0]
    else:
        agreement = (
            f"{_AGREEMENT}{max(parity.probabilities.values()):.1e} (probabilities) "
            f"and {parity.heatmaps:.1e} (normalised heatmaps against Grad-CAM by automatic differentiation)."
        )
    sections = (
        [f"# {manifest.name} {manifest.version}", "", f"**{manifest.intended_use}**", ""],
        _model(manifest, agreement),
        _decisions(manifest),
        _data(manifest),
        _metrics(manifest),
        subgroup_section(manifest.subgroups),
        _prediction_sets(manifest),
        _metadata(manifest),
        _warnings(manifest),
        [_EXTERNAL, "", external_tests.strip(), ""] if external_tests.strip() else [],
        ["## Limits", "", *(f"- {limit}" for limit in manifest.limits), ""],
        ["## Licence and citation", "", f"- Licence: {manifest.licence} (see LICENSE)."],
        [f"- Citation: {manifest.citation}.", ""],
    )
    path.write_text("\n".join(line for section in sections for line in section), encoding="utf-8")


def _model(manifest: Manifest, agreement: str) -> list[str]:
    spec = manifest.input
    members = [
        f"{m.name} (weight {m.weight:.3g}, temperature {m.temperature:.3g}, {m.parameters / 1e6:.1f} million "
        "parameters)"
        for m in manifest.members
    ]
    how = _COMBINATIONS[manifest.combination] if len(members) > 1 else "One network"
    revisions = ", ".join(f"`{revision}`" for revision in manifest.training_git_revisions)
    return [
        "## Model",
        "",
        f"- {how}: {'; '.join(members)}.",
        f"- Input: {spec.height} × {spec.width} pixels, {spec.color.upper()}, the largest centred "
        f"{'square' if spec.height == spec.width else 'rectangle'} of the upload.",
        f"- Recipe `{manifest.recipe}`, exported {manifest.created} from revision `{manifest.git_revision}`, "
        f"trained at {revisions}.",
        agreement,
        "",
    ]


def _decisions(manifest: Manifest) -> list[str]:
    point, rule = manifest.operating_point, manifest.decision_rule
    return [
        "## Classes and decisions",
        "",
        *table(
            ("code", "name", "group", "share of the training data"),
            [
                (c.code, c.name, "malignant" if c.malignant else "benign", f"{rule.prior[c.code]:.3f}")
                for c in manifest.classes
            ],
        ),
        f"- Label: the class with the largest probability / prior^{rule.tau:g}.",
        f"- Malignancy: P({') + P('.join(manifest.malignant)}); flagged from {point.threshold:.4f}, chosen "
        f"on validation data for a sensitivity of {point.target_sensitivity:.2f}. There: sensitivity "
        f"{format_metric(point.sensitivity)}, specificity {format_metric(point.specificity)}.",
        "",
        *_flag(manifest),
    ]


def _flag(manifest: Manifest) -> list[str]:
    return [
        "The predictive value of a flag depends on the prevalence of malignant lesions. The first row is the "
        "test part, if its prevalence is known; the last row is a low prevalence, as in screening. Computed "
        "from sensitivity and specificity by Bayes' theorem:",
        "",
        *table(
            ("malignant of 100 lesions", "malignant of 100 flagged", "malignant of 100 not flagged"),
            [
                (_per_hundred(at.prevalence), _per_hundred(at.positive), _per_hundred(at.missed))
                for at in predictive_values_of(manifest)
            ],
        ),
    ]


def _data(manifest: Manifest) -> list[str]:
    data = manifest.data
    parts = ", ".join(f"{part} {n} images of {data.lesions[part]} lesions" for part, n in data.images.items())
    return [
        "## Data",
        "",
        f"- {data.name}, split by lesion: {parts}.",
        f"- Licence {data.licence}. {data.citation}.",
        "",
    ]


def _metrics(manifest: Manifest) -> list[str]:
    kinds = ("precision", "recall", "f1")
    return [
        "## Measured on the test part",
        "",
        f"{LABELS} Nothing was fitted on the test part, but this and earlier versions may have been "
        f"evaluated on it before. {explain_intervals(manifest.metrics)} Details: `report/report.md`.",
        "",
        *table(
            ("metric", "value"),
            [
                (title, format_metric(manifest.metrics[key]))
                for key, title in _SHOWN.items()
                if key in manifest.metrics
            ],
        ),
        *table(
            ("class", "precision", "recall", "F1"),
            [
                (c.code, *(format_metric(manifest.metrics.get(f"{kind}_{c.code}")) for kind in kinds))
                for c in manifest.classes
            ],
        ),
    ]


def _prediction_sets(manifest: Manifest) -> list[str]:
    sets = manifest.prediction_sets
    return [
        "## Prediction sets",
        "",
        "Every prediction has a set of classes: those whose probability reaches the class's threshold, the "
        "label, and the most probable class. The thresholds were fitted on validation data, so that at least "
        f"{sets.coverage:.0%} of the images of each class have it in their set. A class with the threshold 1 "
        "is in a set only as the label or as the most probable class. On the test part, a set contains "
        f"{format_metric(sets.mean_size)} classes on average.",
        "",
        *table(
            ("class", "threshold", "coverage on the test part"),
            [
                ("all", "", format_metric(sets.measured["overall"])),
                *(
                    (code, f"{t:.4f}", format_metric(sets.measured[code]))
                    for code, t in sets.thresholds.items()
                ),
            ],
        ),
    ]


def _metadata(manifest: Manifest) -> list[str]:
    spec = manifest.metadata
    if spec is None:
        return []
    return [
        *metadata_section(spec.weight, spec, spec.under_40, spec.prediction_sets.measured),
        f"With metadata, an image is flagged from {spec.threshold:.4f}, chosen on validation data for a "
        f"sensitivity of {spec.target_sensitivity:.2f}. There: sensitivity "
        f"{format_metric(spec.sensitivity)}, specificity {format_metric(spec.specificity)}.",
        "",
    ]


def _warnings(manifest: Manifest) -> list[str]:
    ood, disagreement, quality = manifest.out_of_distribution, manifest.disagreement, manifest.quality
    lines = [
        "## Warnings",
        "",
        f"- Out of distribution: {ood.method} above {ood.threshold:.4g}, as for {_percent(1 - ood.quantile)} "
        "of the validation images.",
    ]
    if len(manifest.members) > 1:
        lines.append(
            "- The members disagree: weighted mean of their total variation distances above "
            f"{disagreement.threshold:.4g}, as for {_percent(1 - disagreement.quantile)} of the validation "
            "images."
        )
    return [
        *lines,
        "- Blurred, dark, bright or low contrast: variance of the Laplacian below "
        f"{quality.sharpness_min:.4g}, mean luma below {quality.brightness_min:.4g} or above "
        f"{quality.brightness_max:.4g}, standard deviation of the luma below {quality.contrast_min:.4g}, or "
        f"over-exposed pixels above {_percent(quality.clipped_max)}. {_percent(quality.quantile)} of the "
        "training images are within each limit. A dark lesion that fills the image also makes it dark.",
        "- Drift: `manifest.json` holds the shares of predicted labels and confidences on "
        f"{manifest.drift_reference.images} validation images, for comparison with those of the service.",
        "",
    ]


def _per_hundred(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
