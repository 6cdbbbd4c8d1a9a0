"""Writes the evaluation of a run, or of a bundle on external images, in Markdown with plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.bundle import Interval, Subgroup
from models.manifest.metadata import Comparison
from training.calibration.fit import Calibration
from training.calibration.safeguards import COVERAGE
from training.data.split import BY_IMAGE_WARNING, PARTS, image_counts
from training.evaluation.as_published import as_published_section
from training.evaluation.metadata import UNDER_40_METRICS
from training.evaluation.plots import plot_confusion, plot_f1, plot_reliability, plot_roc
from training.evaluation.specialists import specialist_section
from training.markdown import NONE, format_metric, table
from training.metrics.scores import FORMER_ACCURACY_ARGMAX, Predictions
from training.metrics.subgroups import SUBGROUP_METRICS
from training.run import Run

_HEADLINES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy_rule": "accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
    "macro_auc": "macro AUC",
    "malignancy_sensitivity": "malignancy sensitivity",
    "malignancy_specificity": "malignancy specificity",
    "malignancy_precision": "malignancy precision, at the test part's prevalence",
    "malignancy_auc": "malignancy AUC",
    "balanced_accuracy_argmax": "balanced accuracy of the most probable class (arg-max)",
    "accuracy_argmax": "accuracy of the most probable class (arg-max)",
    "ece": "expected calibration error",
    "log_loss": "log loss",
}

_BOOTSTRAP = "Intervals: 95 %, bootstrap over lesions within each class."
_WILSON = "A value of 0 or 1 has Wilson's interval over its lesions."
_INTERVALS = (
    f"{_BOOTSTRAP} {_WILSON} The interval of the calibration error is corrected for bias, so it may lie "
    "below the measured value."
)
LABELS = (
    "Metrics evaluate the label that the API returns, which the decision rule selects. Those marked arg-max "
    "evaluate the most probable class."
)

_SPLIT_BY = {
    "lesion": "The split is by lesion: no lesion lies in two parts.",
    "image": f"**Warning: {BY_IMAGE_WARNING}.**",
}


def write_report(
    folder: Path,
    run: Run,
    calibration: Calibration,
    metrics: Mapping[str, Any],
    test: Predictions,
    specialists: Mapping[str, Predictions],
) -> None:
    """Write ``report.md`` and its plots to ``folder``.

    Args:
        folder: the run's ``evaluation`` folder.
        run: the run.
        calibration: the calibration fitted on the validation part.
        metrics: the metrics that ``evaluate`` returns.
        test: the ensemble's predictions on the test part.
        specialists: the predictions of each specialist on the test images of its classes.
    """
    _plot(folder, metrics, test)
    lines = [
        f"# Evaluation of `{run.recipe.name}`",
        "",
        "Evaluated on the test part. Temperatures, decision rule, threshold and prediction sets were "
        "fitted on "
        "the validation part, which also selected the epochs. " + _INTERVALS,
        "",
        _SPLIT_BY[run.split_by],
        "",
        *_parts(run),
        LABELS,
        "",
        *_headlines(metrics),
        *_classes(metrics, test),
        *_members(metrics),
        _fitted(run, calibration),
        "",
        *specialist_section(specialists),
        *as_published_section(metrics["as_published"], metrics["split_by"]),
        *prediction_set_section(metrics["prediction_sets"], test.codes),
        *subgroup_section([Subgroup(**group) for group in metrics["subgroups"]]),
        *(_metadata(metrics["metadata"]) if "metadata" in metrics else []),
        "## Plots",
        "",
        "![Confusion matrix](confusion_matrix.png)",
        "",
        "![F1 by class, members and ensemble](f1_by_class.png)",
        "",
        "![ROC](roc.png)",
        "",
        "![Reliability](reliability.png)",
        "",
    ]
    (folder / "report.md").write_text("\n".join(lines), encoding="utf-8")


def write_external_report(folder: Path, metrics: Mapping[str, Any], test: Predictions) -> None:
    """Write ``report.md`` and its plots to ``folder``, for a bundle on images from outside its data set.

    Args:
        folder: an existing folder.
        metrics: the metrics that ``training.export.external.score_external`` writes.
        test: the bundle's predictions.
    """
    found = {name: interval["value"] for name, interval in metrics["test"].items()}
    plot_confusion(folder / "confusion_matrix.png", test)
    plot_roc(folder / "roc.png", test, found)
    plot_reliability(folder / "reliability.png", test, found["ece"])
    bundle, excluded = metrics["bundle"], metrics["excluded"]
    near_duplicates = (
        "Near-duplicates of its training and validation images were searched for."
        if metrics["near_duplicates_looked_for"]
        else "**Near-duplicates of its training images were not searched for**; this requires `--data`."
    )
    lines = [
        f"# {bundle['name']} {bundle['version']} on other images",
        "",
        f"{metrics['images']} images that the bundle was not fitted on. {len(excluded)} were not scored. "
        f"{near_duplicates} {_INTERVALS}",
        "",
        LABELS,
        "",
        *table(
            ("metric", "value"),
            [(t, format_metric(metrics["test"][n])) for n, t in _HEADLINES.items() if n in found],
        ),
        *_classes(metrics, test),
        *as_published_section(metrics["as_published"], "lesion"),
        *prediction_set_section(metrics["prediction_sets"], test.codes),
        *(["## Not scored", ""] if excluded else []),
        *table(("image", "reason"), sorted(excluded.items())),
        "## Plots",
        "",
        "![Confusion matrix](confusion_matrix.png)",
        "",
        "![ROC](roc.png)",
        "",
        "![Reliability](reliability.png)",
        "",
    ]
    (folder / "report.md").write_text("\n".join(lines), encoding="utf-8")


def _plot(folder: Path, metrics: Mapping[str, Any], test: Predictions) -> None:
    ensemble = {name: interval["value"] for name, interval in metrics["test"].items()}
    models = metrics["members"] | {"ensemble": ensemble}
    f1 = {name: [model[f"f1_{code}"] for code in test.codes] for name, model in models.items()}
    plot_confusion(folder / "confusion_matrix.png", test)
    plot_f1(folder / "f1_by_class.png", f1, test.codes)
    plot_roc(folder / "roc.png", test, ensemble)
    plot_reliability(folder / "reliability.png", test, ensemble["ece"])


def _parts(run: Run) -> list[str]:
    images, lesions = image_counts({part: run.part(part) for part in PARTS})
    return table(("part", "images", "lesions"), [(part, images[part], lesions[part]) for part in PARTS])


def _headlines(metrics: Mapping[str, Any]) -> list[str]:
    found = metrics["test"]
    return table(
        ("metric", "test", "validation"),
        [
            (title, format_metric(found[name]), _value(metrics["validation"].get(name)))
            for name, title in _HEADLINES.items()
            if name in found
        ],
    )


def _classes(metrics: Mapping[str, Any], test: Predictions) -> list[str]:
    kinds = ("precision", "recall", "f1", "auc")
    return table(
        ("class", "images", "precision", "recall", "F1", "AUC"),
        [
            (
                code,
                (test.labels == index).sum(),
                *(format_metric(metrics["test"].get(f"{kind}_{code}")) for kind in kinds),
            )
            for index, code in enumerate(test.codes)
        ],
    )


def _members(metrics: Mapping[str, Any]) -> list[str]:
    compared = ("balanced_accuracy", "accuracy_rule", "macro_f1", "macro_auc")
    ensemble = {name: metrics["test"][name]["value"] for name in compared if name in metrics["test"]}
    return table(
        ("model", "balanced accuracy", "accuracy", "macro F1", "macro AUC"),
        [
            (name, *(f"{model[key]:.3f}" if key in model else NONE for key in compared))
            for name, model in (metrics["members"] | {"ensemble": ensemble}).items()
        ],
    )


def _fitted(run: Run, calibration: Calibration) -> str:
    def listed(values: Sequence[float]) -> str:
        return ", ".join(f"{m.name} {v:.3g}" for m, v in zip(run.recipe.members, values, strict=True))

    combination = calibration.combination
    return (
        f"Combination: {combination.kind}. Weights: {listed(combination.weights)}. Temperatures: "
        f"{listed(calibration.temperatures)}. Decision rule: largest p / prior^{calibration.tau:g}. "
        f"Malignancy threshold: {calibration.threshold:.4f}."
    )


def prediction_set_section(sets: Mapping[str, Any], codes: Sequence[str]) -> list[str]:
    """Return the section about prediction sets; ``sets`` is the result of ``measure_sets``."""
    return [
        "## Prediction sets",
        "",
        f"Split conformal prediction with a threshold for each class, fitted for a coverage of {COVERAGE:g} "
        "in every class. The label and the most probable class always belong to the set. Coverage: share of "
        "the images whose set contains their diagnosis. Size: mean number of classes in a set.",
        "",
        *table(
            ("diagnosis", "coverage", "size"),
            [
                (name, format_metric(sets["measured"].get(code)), format_metric(sets["size"].get(code)))
                for code, name in {"overall": "all", **{code: code for code in codes}}.items()
            ],
        ),
    ]


def explain_intervals(metrics: Mapping[str, Any]) -> str:
    """Return the explanation of a manifest's intervals; up to bundle 1.2.1, all were percentile intervals."""
    return _BOOTSTRAP if FORMER_ACCURACY_ARGMAX in metrics else _INTERVALS


def subgroup_section(groups: Sequence[Subgroup]) -> list[str]:
    """Return the section about subgroups for the report and the model card; empty without subgroups."""
    if not groups:
        return []
    titles = {name: name.replace("_", " ") for name in SUBGROUP_METRICS}
    older = any(FORMER_ACCURACY_ARGMAX in group.metrics for group in groups)
    if older:
        titles[FORMER_ACCURACY_ARGMAX] = "accuracy (arg-max)"
    return [
        "## By age, sex and site",
        "",
        "On the test part. A metric is left out if the group has too few images for it. The groups differ in "
        "their diagnoses, so their metrics differ even for a model that treats all groups alike."
        + ("" if older else f" {_WILSON}"),
        "",
        *table(
            ("group", "images", *titles.values()),
            [
                (
                    f"{group.factor} {group.value}",
                    group.images,
                    *(format_metric(group.metrics.get(name)) for name in titles),
                )
                for group in groups
            ],
        ),
    ]


def metadata_section(
    weight: float, everyone: Comparison, under_40: Comparison | None, coverage: Mapping[str, Interval]
) -> list[str]:
    """Return the section about age, sex and site for the report and the model card.

    Args:
        weight: exponent of the factors.
        everyone: metrics of all test images with metadata.
        under_40: those of patients under 40.
        coverage: of the prediction sets with metadata, ``"overall"`` and by class code.
    """
    groups = [("", everyone), *([] if under_40 is None else [("under 40: ", under_40)])]
    return [
        "## With age, sex and site",
        "",
        "The probability of each class is multiplied by (p(value | class) / p(value)) to the power of "
        f"{weight:g}, for each known value of age, sex and body site, and normalised. The factors are counts "
        "of training lesions; the exponent, the malignancy threshold and the prediction sets for images with "
        "metadata were fitted on the validation part. Metrics of the "
        f"{everyone.images} test images of which a value is known"
        + ("" if under_40 is None else f", {under_40.images} of them of patients under 40")
        + ". Metrics under 40 leave out classes without images.",
        "",
        *table(
            ("metric", "with metadata", "image alone"),
            [
                (group + title, format_metric(found.metrics[name]), format_metric(found.image_only[name]))
                for group, found in groups
                for name, title in _HEADLINES.items()
                if name in UNDER_40_METRICS and name in found.metrics and name in found.image_only
            ],
        ),
        *table(
            ("diagnosis", "coverage of the prediction sets with metadata"),
            [
                ("all" if code == "overall" else code, format_metric(found))
                for code, found in coverage.items()
            ],
        ),
    ]


def _metadata(metrics: Mapping[str, Any]) -> list[str]:
    everyone = Comparison(**{name: metrics[name] for name in Comparison.model_fields})
    under_40 = None if metrics["under_40"] is None else Comparison(**metrics["under_40"])
    measured = metrics["prediction_sets"]["measured"]
    coverage = {code: Interval(**found) for code, found in measured.items()}
    return metadata_section(metrics["weight"], everyone, under_40, coverage)


def _value(found: Mapping[str, float] | None) -> str:
    return NONE if found is None else f"{found['value']:.3f}"
