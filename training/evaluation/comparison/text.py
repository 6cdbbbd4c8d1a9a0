"""Explanations for the page and the Markdown of a comparison."""

from collections.abc import Sequence

from training.evaluation.comparison.results import Results
from training.evaluation.comparison.runs import Group
from training.evaluation.comparison.scoring import COMPARED, titles

INTRODUCTION = (
    "All metrics are measured on the test parts. Accuracy, balanced accuracy and F1 evaluate the label "
    "that the API returns, which the run's decision rule selects. Accuracy (arg-max) and ECE evaluate the "
    "most probable class. Malignancy sensitivity and specificity are measured at the run's own threshold.",
    "Brackets hold 95 % intervals, from a bootstrap over lesions within their class. They cover the choice "
    "of test lesions, but not the variation between trainings with different seeds. A share of 0 or 1 has "
    "Wilson's interval over its lesions. The interval of the ECE is corrected for bias. The best of many "
    "runs partly owes its rank to chance.",
)

PRIVACY = "This page contains images of the data set; the data set's terms apply to it."


def explain_groups(groups: Sequence[Group]) -> list[str]:
    """Return why there are several tables, or nothing for one group."""
    if len(groups) == 1:
        return []
    listed = "; ".join(f"{group.title}: {', '.join(run.name for run in group)}" for group in groups)
    return [
        f"These runs were evaluated on {len(groups)} different test parts or tasks, so they are not ranked "
        f"together but have separate tables. {listed}."
    ]


def explain_pairs(results: Results) -> list[str]:
    """Return what the differences mean, or why there are none."""
    group, pairs, baseline = results.group, results.pairs, results.baseline
    if not pairs and baseline in (None, *group):
        return ["No other run was evaluated on the same test images and task, so there are no pairs."]
    if not pairs and baseline:
        return [
            f"The baseline {baseline.name} was evaluated on other test images or another task, so there are "
            "no paired differences."
        ]
    tests = len(pairs) * len(COMPARED)
    excluding = sum(pair.excludes_zero(name) for pair in pairs for name in pair.metrics)
    named = ", ".join(titles(())[name] for name in COMPARED)
    return [
        f"Differences of {named} with 95 % intervals; both runs are resampled with the same lesions. If an "
        "interval excludes 0, the choice of test lesions alone does not explain the difference. "
        f"{excluding} of {tests} intervals exclude 0; for runs that are truly equal, about "
        f"{0.05 * tests:.1f} of {tests} would."
    ]
