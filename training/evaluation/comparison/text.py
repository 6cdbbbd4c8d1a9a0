"""How to read a comparison: the sentences of the page and of the Markdown."""

from collections.abc import Sequence

from training.evaluation.comparison.results import Results
from training.evaluation.comparison.runs import Group
from training.evaluation.comparison.scoring import COMPARED, titles

INTRODUCTION = (
    "Figures are of the test parts. Accuracy, balanced accuracy and all F1 are of the label that the run's "
    "decision rule picks, which is what the API returns; accuracy (arg-max) is of the most probable class, "
    "and so is the ECE. Malignancy sensitivity and specificity are at the run's own threshold.",
    "In brackets: 95 % intervals, from resampling whole lesions within their class. They hold the chance of "
    "which lesions were tested, not that of training again with another seed. A share of 0 or 1 has Wilson's "
    "interval over its lesions; that of the ECE is corrected for the noise that raises it. Whoever picks the "
    "best of many runs by these figures picks some luck with it.",
)

PRIVACY = "This page holds images of the data set: keep it where the data set may be."


def explain_groups(groups: Sequence[Group]) -> list[str]:
    """Why there are several tables, where there are."""
    if len(groups) == 1:
        return []
    listed = "; ".join(f"{group.title}: {', '.join(run.name for run in group)}" for group in groups)
    return [
        f"These runs were measured on {len(groups)} different test parts or tasks, so they stand in tables "
        f"of their own and are not ranked together. {listed}."
    ]


def explain_pairs(results: Results) -> list[str]:
    """What the differences mean, or why there are none."""
    group, pairs, baseline = results.group, results.pairs, results.baseline
    if not pairs and baseline in (None, *group):
        return ["No other run was measured on the same test images and task, so there are no pairs."]
    if not pairs and baseline:
        return [
            f"The baseline {baseline.name} was measured on other test images or another task, so there are "
            "no paired figures."
        ]
    tests = len(pairs) * len(COMPARED)
    excluding = sum(pair.excludes_zero(name) for pair in pairs for name in pair.figures)
    named = ", ".join(titles(())[name] for name in COMPARED)
    return [
        f"Differences of {named}, both runs resampled by the same lesions, with 95 % intervals. Where an "
        "interval excludes 0, the difference is more than the chance of which lesions were tested. "
        f"{excluding} of {tests} do; among {tests} of runs that are in truth equal, about "
        f"{0.05 * tests:.1f} would."
    ]
