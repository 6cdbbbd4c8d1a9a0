"""The sections of the page. A message replaces anything that a run lacks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from training.evaluation.comparison.activations import draw_activations
from training.evaluation.comparison.gradcam import choose_examples, gallery
from training.evaluation.comparison.mistakes import mistake_cards
from training.evaluation.comparison.page import Section, card, cards, missing, paragraph, sortable_table
from training.evaluation.comparison.pictures import Pictures
from training.evaluation.comparison.plots import draw_averages, draw_f1, draw_population, draw_rocs
from training.evaluation.comparison.results import Results
from training.evaluation.comparison.runs import ComparedRun, ComparisonError, Group
from training.evaluation.comparison.scoring import Scored
from training.evaluation.comparison.text import explain_pairs
from training.evaluation.plots import draw_confusion, draw_reliability
from training.figure_files import png
from training.fit.curves import draw_curves

_CONFUSION = "Each cell shows the share of the true class, and below it the number of images."
_MISTAKES = (
    "The test images whose most probable class is wrong and has the highest probability; one image per "
    "lesion, as the model reads it."
)


def group_sections(results: Results, pictures: Mapping[Path, Pictures], *, alone: bool) -> list[Section]:
    """Return the sections of a group, under one heading unless ``alone``.

    Args:
        results: the results of the group.
        pictures: the images of each data set, by its folder.
        alone: whether this is the only group.
    """
    group, whole = results.group, results.runs
    codes = group.truth.codes
    population = pictures[group.runs[0].data]
    caption = f"{group.title}. Press a title to sort."
    sections = [
        Section("Results", [sortable_table(results.table, caption)]),
        Section("Differences on the same lesions", _pairs(results)),
        Section(
            "F1",
            [
                card(png(draw_f1(whole, codes)), _f1_alt(whole, codes), "F1 of each class", wide=True),
                card(png(draw_averages(whole)), _average_alt(whole), "F1 over all classes", wide=True),
            ],
        ),
        Section("Confusion matrices", [paragraph(_CONFUSION), cards(_confusion(row) for row in whole)]),
        Section("ROC and precision-recall curves", [card(png(draw_rocs(whole)), _roc_alt(whole), wide=True)]),
        Section("Calibration", [cards(_reliability(row) for row in whole)]),
        Section("Grad-CAM by class", _or_message(lambda: _gallery(group, population))),
        Section(
            "Worst mistakes", [paragraph(_MISTAKES)], [_mistakes(run, pictures[run.data]) for run in group]
        ),
        Section("Ages and body sites", _or_message(lambda: _population(group, population))),
    ]
    return sections if alone else [Section(group.title, [], sections)]


def _or_message(draw: Callable[[], list[Markup]]) -> list[Markup]:
    """Return the result of ``draw``, or a message that names what is missing."""
    try:
        return draw()
    except ComparisonError as error:
        return [missing(f"Not shown: {error}.")]


def _pairs(results: Results) -> list[Markup]:
    blocks = [paragraph(text) for text in explain_pairs(results)]
    if results.pairs:
        caption = f"Differences, first minus second: {results.group.title}"
        blocks.append(sortable_table(results.pair_table, caption))
    return blocks


def _confusion(row: Scored) -> Markup:
    predictions = row.run.predictions
    recalls = [
        f"{code} {(predictions.decided[predictions.labels == index] == index).mean():.2f}"
        for index, code in enumerate(predictions.codes)
        if (predictions.labels == index).any()
    ]
    alt = f"Confusion matrix of {row.name}. Share found of each class: {', '.join(recalls)}."
    return card(png(draw_confusion(predictions, shares=True)), alt, row.name)


def _reliability(row: Scored) -> Markup:
    ece = row.metrics["ece"]["value"]
    alt = f"Reliability diagram of {row.name}; expected calibration error {ece:.3f}."
    return card(png(draw_reliability(row.run.predictions, ece)), alt, row.name)


def _f1_alt(scored: Sequence[Scored], codes: Sequence[str]) -> str:
    values = (
        f"{row.name} " + ", ".join(f"{code} {row.metrics[f'f1_{code}']['value']:.2f}" for code in codes)
        for row in scored
    )
    return f"Bars of F1 by class and model. {'; '.join(values)}."


def _average_alt(scored: Sequence[Scored]) -> str:
    values = (
        f"{row.name} macro {row.metrics['macro_f1']['value']:.2f}, "
        f"micro {row.metrics['micro_f1']['value']:.2f}, weighted {row.metrics['weighted_f1']['value']:.2f}"
        for row in scored
    )
    return f"Bars of macro, micro and weighted F1 by model. {'; '.join(values)}."


def _roc_alt(scored: Sequence[Scored]) -> str:
    values = (
        f"{row.name} {row.metrics['malignancy_auc']['value']:.3f}"
        for row in scored
        if "malignancy_auc" in row.metrics
    )
    return (
        f"ROC and precision-recall curves of all models. Area under the malignancy ROC: {', '.join(values)}."
    )


def _gallery(group: Group, pictures: Pictures) -> list[Markup]:
    grid, problems = gallery(group, pictures)
    text = (
        "For each class, the test image that most of these runs classify correctly, with the highest mean "
        "probability. These are easy images; they show nothing about hard ones."
    )
    shown = [paragraph(text), grid] if grid else []
    return [*shown, *(missing(f"{problem}.") for problem in problems)]


def _mistakes(run: ComparedRun, pictures: Pictures) -> Section:
    return Section(run.name, _or_message(lambda: [mistake_cards(run, pictures)]))


def _population(group: Group, pictures: Pictures) -> list[Markup]:
    test = [pictures.row(image_id) for image_id in group.runs[0].image_ids]
    ages = sorted(row.age for row in test if row.age is not None)
    median = f"Median age of the test images {ages[len(ages) // 2]:.0f} years. " if ages else ""
    sites = [row.localization for row in test]
    common = sorted(set(sites), key=lambda site: -sites.count(site))[:3]
    alt = f"Histograms of age and body site. {median}Most common sites: {', '.join(common)}."
    return [card(png(draw_population(test, list(pictures.rows.values()))), alt, wide=True)]


def curve_section(runs: Sequence[ComparedRun]) -> Section:
    """Return loss and accuracy over the epochs of every member."""
    drawn, messages = [], []
    for run in runs:
        for member in run.members:
            history = run.history(member)
            if history:
                last = f"{len(history)} epochs, last validation loss {history[-1]['loss']:.3f}"
                name = f"{run.name} · {member}"
                drawn.append(card(png(draw_curves(history)), f"Training curves of {name}: {last}.", name))
            else:
                messages.append(missing(f"Not shown: {run.name} · {member} has no readable history.csv."))
    return Section("Training curves", [cards(drawn, "broad"), *messages])


def activation_section(runs: Sequence[ComparedRun], pictures: Mapping[Path, Pictures]) -> Section:
    """Return feature maps of the first run with a network and images, or messages why there is none."""
    problems = []
    for run in runs:
        examples = choose_examples(Group("", (run,)))
        if not examples:
            continue
        image, member = examples[-1].image, run.members[0]
        try:
            figure, names = draw_activations(run, member, image, pictures[run.data])
        except ComparisonError as error:
            problems.append(missing(f"Not shown: {error}."))
            continue
        shown = f"{run.name} · {member} on test image {run.image_ids[image]}"
        text = (
            f"{shown}: at each depth, the channels that vary most over the image. Early layers respond to "
            "edges and colours, late layers to a few coarse regions."
        )
        alt = f"Feature maps of {shown}, at the layers {', '.join(names)}."
        return Section("Activation maps by depth", [paragraph(text), card(png(figure), alt, wide=True)])
    return Section(
        "Activation maps by depth",
        problems or [missing("Not shown: no run classifies an image correctly.")],
    )
