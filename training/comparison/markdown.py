"""A comparison as Markdown: its tables, without pictures."""

from collections.abc import Sequence

from training.comparison.figures import titles
from training.comparison.results import Results
from training.comparison.tables import FACTS
from training.comparison.text import INTRODUCTION, explain_groups, explain_pairs


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
