"""Two runs' tables, made up, side by side."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.compare import Cell, Figure, comparison, figures
from bench.report import report
from tests.bench.test_report import TITLES, made_up

ONE = """
## Targets

| target |  | measured |  |
| --- | --- | --- | --- |
| raw body | ≥ 0.95 | 0.96 (0.90–0.99) | met |
| idle | ≤ 1 % | – | not measured |

## Processor time

| clients |  | 1 | 4 |
| --- | --- | --- | --- |
| this service | inference | 0.80 (0.70–0.90) | – |
"""


def spreading(text: str) -> str:
    """Figures made up have the same value in each repetition, which are left out."""
    return re.sub(r"\((\d+\.\d+)–\1\)", r"(\1–9999)", text)


def test_figures_are_found_by_heading_row_and_column() -> None:
    assert figures(ONE) == {
        Cell("Targets", "raw body, ≥ 0.95", "measured"): Figure(0.96, 0.90, 0.99),
        Cell("Processor time", "this service, inference", "1"): Figure(0.80, 0.70, 0.90),
    }


def test_what_lies_outside_is_named_and_counted() -> None:
    other = ONE.replace("0.96 (0.90–0.99) | met", "0.93 (0.80–0.94) | missed")
    found = comparison(ONE, other)
    assert (
        "1 of 2 medians lie within the other's spread, 1 do not (by chance 0); 0 spreads do not touch"
        in found
    )
    assert "| Targets | raw body, ≥ 0.95 | measured | 0.96 (0.9–0.99) | 0.93 (0.8–0.94) |  |" in found
    apart = comparison(ONE, ONE.replace("0.80 (0.70–0.90)", "0.60 (0.50–0.65)"))
    assert "1 spreads do not touch" in apart
    assert "| 0.8 (0.7–0.9) | 0.6 (0.5–0.65) | apart |" in apart


def test_a_report_is_what_it_is_itself(tmp_path: Path) -> None:
    text = spreading(report(made_up(), TITLES))
    (tmp_path / "report.md").write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "bench.compare",
        str(tmp_path / "report.md"),
        str(tmp_path / "report.md"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    count = len(figures(text))
    assert count > 40
    assert run.stdout.startswith(f"{count} of {count} medians lie within")
    assert "0 figures are only in the first, 0 only in the second." in run.stdout


def test_what_is_only_in_one_is_counted() -> None:
    found = comparison(ONE, ONE.replace("0.80 (0.70–0.90)", "–"))
    assert "1 figures are only in the first, 0 only in the second." in found


def test_two_figures_at_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two for Targets, raw body, ≥ 0\.95"):
        figures(ONE + ONE)


def test_what_was_measured_once_or_is_the_unit_is_not_compared() -> None:
    assert len(figures(ONE.replace("(0.90–0.99)", "(0.96–0.96)"))) == 1


def test_the_tables_of_bench_readme_are_those_of_a_report() -> None:
    page = (Path(__file__).parents[2] / "bench" / "README.md").read_text(encoding="utf-8")
    made = {(cell.heading, cell.column) for cell in figures(spreading(report(made_up(), TITLES)))}
    shown = {(cell.heading, cell.column) for cell in figures(page)}
    assert made & shown >= {
        ("Targets", "measured"),
        ("Throughput, share of the limit", "16"),
        ("Open loop", "p99"),
    }
