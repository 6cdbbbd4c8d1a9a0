"""``python -m training compare``: the runs' tables as Markdown and everything on one HTML page."""

from collections.abc import Sequence
from pathlib import Path

from training.evaluation.comparison.page import paragraph, render_page
from training.evaluation.comparison.pictures import Pictures
from training.evaluation.comparison.results import FACTS, Results, compute
from training.evaluation.comparison.runs import ComparedRun, ComparisonError, group_runs, open_runs
from training.evaluation.comparison.scoring import titles
from training.evaluation.comparison.sections import activation_section, curve_section, group_sections
from training.evaluation.comparison.text import INTRODUCTION, PRIVACY, explain_groups, explain_pairs


def compare(
    folders: Sequence[Path], out: Path, *, baseline: Path | None = None, resamples: int = 1000
) -> str:
    """Compare evaluated runs and write the page to ``out`` and the tables beside it as ``.md``.

    The page holds test images: it belongs where the data set may be, and nowhere else.

    Args:
        folders: of the runs.
        out: the HTML file; it is replaced.
        baseline: one of ``folders``, with which all others are compared; None compares all pairs.
        resamples: of the bootstrap over lesions.

    Returns:
        The Markdown.

    Raises:
        ComparisonError: a folder is not a run or is named twice, ``baseline`` is not among them, or
            ``out`` does not end in ``.html``.
        PredictionsError: a run is not evaluated.
    """
    if out.suffix != ".html":
        raise ComparisonError(f"expected a file name that ends in .html, got {out}")
    runs = open_runs(folders)
    reference = _find(runs, baseline) if baseline else None
    results = [compute(group, reference, resamples=resamples) for group in group_runs(runs)]
    pictures = {run.data: Pictures(run.data) for run in runs}
    sections = [
        *(
            section
            for found in results
            for section in group_sections(found, pictures, alone=len(results) == 1)
        ),
        curve_section(runs),
        activation_section(runs, pictures),
    ]
    introduction = [*INTRODUCTION, *explain_groups([found.group for found in results]), PRIVACY]
    page = render_page("Comparison of trained runs", [paragraph(text) for text in introduction], sections)
    markdown = write_markdown(results)
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, text in ((out, page), (out.with_suffix(".md"), markdown)):
        part = path.with_name(path.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    return markdown


def _find(runs: Sequence[ComparedRun], baseline: Path) -> ComparedRun:
    for run in runs:
        if run.folder.resolve() == baseline.resolve():
            return run
    named = ", ".join(str(run.folder) for run in runs)
    raise ComparisonError(f"expected as baseline one of the runs {named}, got {baseline}")


def write_markdown(results: Sequence[Results]) -> str:
    """The tables of each group; columns are spread over three, so that lines stay readable."""
    blocks = ["# Comparison of trained runs", *INTRODUCTION, *explain_groups([r.group for r in results])]
    general = list(titles(()).values())
    for found in results:
        by_class = [column for column in found.table.columns[1:] if column not in (*general, *FACTS)]
        blocks += [
            f"## {found.group.title}",
            found.table.markdown(general),
            "### By class",
            found.table.markdown(by_class),
            "### What they are",
            found.table.markdown(FACTS),
            "### Differences on the same lesions",
            *explain_pairs(found),
        ]
        if found.pairs:
            blocks.append(found.pair_table.markdown())
    return "\n\n".join(blocks) + "\n"
