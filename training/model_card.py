"""The model card: the manifest for people (Mitchell et al., "Model Cards for Model Reporting", FAT* 2019)."""

from pathlib import Path

from models.bundle import Interval, Manifest
from training.export import Parity

_SHOWN = {
    "balanced_accuracy": "Balanced accuracy (label by the decision rule)",
    "accuracy": "Accuracy (most probable class)",
    "macro_f1": "Macro F1",
    "macro_auc": "Macro AUC",
    "malignancy_auc": "Malignancy AUC",
    "malignancy_sensitivity": "Malignancy sensitivity at the threshold",
    "malignancy_specificity": "Malignancy specificity at the threshold",
    "ece": "Expected calibration error",
}


def write_model_card(path: Path, manifest: Manifest, parity: Parity) -> None:
    """Write ``MODEL_CARD.md`` for ``manifest``."""
    point, data = manifest.operating_point, manifest.data
    members = "; ".join(
        f"{m.name} (weight {m.weight:g}, temperature {m.temperature:.3g}, {m.parameters / 1e6:.1f} million "
        "parameters)"
        for m in manifest.members
    )
    parts = ", ".join(f"{part} {n} images of {data.lesions[part]} lesions" for part, n in data.images.items())
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        f"**{manifest.intended_use}**",
        "",
        "## Model",
        "",
        f"- Weighted mean of the members' probabilities: {members}.",
        f"- Input: {manifest.input.height} × {manifest.input.width} pixels, {manifest.input.color.upper()}, "
        "the largest centred square of the upload.",
        f"- Recipe `{manifest.recipe}`, exported {manifest.created} from revision `{manifest.git_revision}`, "
        f"trained at {', '.join(f'`{revision}`' for revision in manifest.training_git_revisions)}.",
        f"- The ONNX graph agrees with Keras within {max(parity.probabilities.values()):.1e} (probabilities) "
        f"and {parity.heatmaps:.1e} (normalised heatmaps against Grad-CAM by automatic differentiation).",
        f"- Licence: {manifest.licence} (see LICENSE).",
        "",
        "## Classes and decisions",
        "",
        "| code | name | group | share of the training data |",
        "| --- | --- | --- | --- |",
        *(
            f"| {c.code} | {c.name} | {'malignant' if c.malignant else 'benign'} "
            f"| {manifest.decision_rule.prior[c.code]:.3f} |"
            for c in manifest.classes
        ),
        "",
        f"- Label: the class with the largest probability / prior^{manifest.decision_rule.tau:g}.",
        f"- Malignancy: P({') + P('.join(manifest.malignant)}); flagged from {point.threshold:.4f}, chosen "
        f"on validation data for a sensitivity of {point.target_sensitivity:.2f}. There: sensitivity "
        f"{_text(point.sensitivity)}, specificity {_text(point.specificity)}.",
        "",
        "## Data",
        "",
        f"- {data.name}, split by lesion: {parts}.",
        f"- Licence {data.licence}. {data.citation}.",
        "",
        "## Measured once on the test part",
        "",
        "Intervals: 95 %, bootstrap over lesions within each class. Details in `report/report.md`.",
        "",
        "| figure | value |",
        "| --- | --- |",
        *(
            f"| {title} | {_text(manifest.metrics[key])} |"
            for key, title in _SHOWN.items()
            if key in manifest.metrics
        ),
        *(
            f"| Recall of {c.code} | {_text(manifest.metrics[f'recall_{c.code}'])} |"
            for c in manifest.classes
            if f"recall_{c.code}" in manifest.metrics
        ),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in manifest.limits),
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def _text(figure: Interval) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
