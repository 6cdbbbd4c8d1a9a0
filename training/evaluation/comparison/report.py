"""The comparison of ``python -m training compare``: an HTML page, and the tables in Markdown."""

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
    """Compare evaluated runs; write the page to ``out`` and the tables to a file ``.md`` beside it.

    The page contains test images, so the data set's terms apply to it.

    Args:
        folders: the run folders.
        out: the HTML file; it is replaced.
        baseline: one of ``folders``, with which all other runs are compared; None compares all pairs.
        resamples: number of bootstrap resamples.

    Returns:
        The Markdown.

    Raises:
        ComparisonError: a folder is not a run or is given twice, ``baseline`` is not among them, or ``out``
            does not end in ``.html``.
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
    raise ComparisonError(f"baseline: expected one of the runs {named}, got {baseline}")


def write_markdown(results: Sequence[Results]) -> str:
    """Return the tables of each group in Markdown; three tables share the columns, to keep lines short."""
    blocks = ["# Comparison of trained runs", *INTRODUCTION, *explain_groups([r.group for r in results])]
    general = list(titles(()).values())
    for found in results:
        by_class = [column for column in found.table.columns[1:] if column not in (*general, *FACTS)]
        blocks += [
            f"## {found.group.title}",
            found.table.markdown(general),
            "### By class",
            found.table.markdown(by_class),
            "### Models",
            found.table.markdown(FACTS),
            "### Differences on the same lesions",
            *explain_pairs(found),
        ]
        if found.pairs:
            blocks.append(found.pair_table.markdown())
    return "\n\n".join(blocks) + "\n"
