"""The tables, from figures made up for the test: round ones, so that every ratio can be seen."""

from pathlib import Path
from statistics import median

import pytest

from bench.report import plot, report, targets
from bench.results import Results, ratio
from bench.rounds import CLIENTS, OURS

TITLES = {"litserve": "LitServe", "fastapi-keras": "FastAPI + Keras"}


def made_up(repetitions: int = 3) -> Results:
    """The machine slows down by half from one repetition to the next; ratios do not care."""
    results = Results({"processor": "made up", "usable cores": "2"}, {"repetitions": repetitions})
    for at in range(repetitions):
        fast = 0.5**at
        for more in (0.9, 1.1):  # before and after our service
            limit = {"throughput": 100 * fast * more, "cpu": 0.02 / fast}
            results.add(at, "limit", "600x450, batch 1", limit)
            results.add(at, "limit", "12mp, batch 1", {"throughput": 40 * fast * more})
            results.add(at, "limit", "600x450", {"single": 0.02 / fast})
        for clients in CLIENTS:
            for form, rate in (("raw", 96), ("multipart", 92), ("gradcam", 69)):
                values = {
                    "throughput": rate * fast,
                    "p50": 0.02 / fast,
                    "p95": 0.03 / fast,
                    "server_cpu": 0.03,
                    "load_cpu": 0.001 / fast,
                }
                results.add(at, OURS, f"{form} {clients}", values)
            theirs = {"throughput": 46 * fast, "p50": 0.04 / fast, "p95": 0.06 / fast, "server_cpu": 0.04}
            results.add(at, "litserve", f"multipart {clients}", theirs)
        results.add(at, OURS, "12mp 16", {"throughput": 32 * fast})
        for arrivals in ("even", "poisson"):
            values = {"p50": 0.02 / fast, "p95": 0.05 / fast, "p99": 0.07 / fast, "rate": 50 * fast}
            results.add(at, OURS, f"half {arrivals}", values)
        results.add(at, OURS, "process", {"ready": 1.2, "idle": 0.002, "pss": 3e8})
        results.add(at, "fastapi-keras", "process", {}, "ended with 1: no | keras")
    results.add(0, OURS, "memory", {"rss": 3.0e8})
    return results


def test_ratios_are_formed_within_a_repetition() -> None:
    assert ratio({0: 1.0, 1: 9.0, 2: 4.0}, {1: 3.0, 0: 2.0, 3: 1.0}) == [0.5, 3.0]


def test_the_limit_is_that_of_one_batch_size_not_of_the_luckiest_in_each_repetition() -> None:
    results = Results({}, {})
    for at, (one, four) in enumerate([(100.0, 90.0), (80.0, 110.0), (100.0, 90.0)]):
        results.add(at, "limit", "600x450, batch 1", {"throughput": one})
        results.add(at, "limit", "600x450, batch 4", {"throughput": four})
    assert results.limit() == {0: 100.0, 1: 80.0, 2: 100.0}
    assert Results({}, {}).limit() == {}


def test_the_worst_number_of_clients_is_that_of_the_worst_median() -> None:
    results = made_up()
    results.add(0, "litserve", "multipart 4", {"throughput": 1e9})  # one bad moment decides nothing
    found = {target.title: target.measured for target in targets(results, list(TITLES))}
    worst = found["throughput over the best peer's, worst of 4, 16 and 64 clients"]
    assert median(worst) == pytest.approx(2.0)


def test_every_target_has_its_median_and_verdict() -> None:
    found = {target.title: target for target in targets(made_up(), list(TITLES))}
    expected = {
        "raw body, 4 clients, share of the limit": (0.96, "met"),
        "raw body, 16 clients, share of the limit": (0.96, "met"),
        "raw body, 64 clients, share of the limit": (0.96, "met"),
        "multipart over raw body, 16 clients, throughput": (92 / 96, "missed"),
        "with over without Grad-CAM, throughput": (0.75, "missed"),
        "throughput over the best peer's, worst of 4, 16 and 64 clients": (2.0, "met"),
        "p95 over the best peer's, worst of 4, 16 and 64 clients": (0.5, "met"),
        "p50 over the best peer's, 1 client": (0.5, "met"),
        "p99 at half load, Poisson arrivals, over the single-image time": (3.5, "missed"),
        "cost of a 12-megapixel photo over 600x450, over the same of the limit": (1.2, "met"),
        "idle processor": (0.2, "met"),
        "resident memory after many requests": (300.0, "met"),
        "start to ready": (1.2, "missed"),
    }
    assert found.keys() == expected.keys()
    for title, (middle, verdict) in expected.items():
        measured = found[title].measured
        assert (median(measured) if measured else None) == (middle and pytest.approx(middle)), title
        assert found[title].verdict == verdict, title


def test_the_worst_client_count_counts_against_a_peer() -> None:
    results = made_up(1)
    results.entries = [e for e in results.entries if (e.subject, e.cell) != ("litserve", "multipart 4")]
    results.add(0, "litserve", "multipart 4", {"throughput": 184.0, "p95": 0.02})
    found = {target.title: target for target in targets(results, list(TITLES))}
    for value, expected in (("throughput", 0.5), ("p95", 1.5)):
        slower = found[f"{value} over the best peer's, worst of 4, 16 and 64 clients"]
        assert median(slower.measured) == pytest.approx(expected)
        assert slower.verdict == "missed"


def test_a_cell_with_errors_does_not_count_and_is_shown_with_its_reason() -> None:
    results = made_up(1)
    results.add(1, OURS, "raw 16", {"throughput": 1e9}, "3 of 100 requests failed: 3 x status 503: full")
    assert 1 not in results.of(OURS, "raw 16", "throughput")
    text = report(results, TITLES)
    assert "| 2 | dermaserve | raw 16 | 3 of 100 requests failed: 3 x status 503: full |" in text
    assert "| 1 | fastapi-keras | process | ended with 1: no \\| keras |" in text


def test_the_report_has_ratios_with_their_spread() -> None:
    text = report(made_up(), TITLES)
    assert "| this service, raw body | 0.96 (0.96–0.96) |" in text
    assert "| LitServe | 0.46 (0.46–0.46) |" in text
    assert "| FastAPI + Keras | – | – | – | – |" in text
    assert "| even | 1.00 (1.00–1.00) | 2.50 (2.50–2.50) | 3.50 (3.50–3.50) |" in text
    assert "| dermaserve | raw 16 | throughput | 48 | 24 | 96 | 3 |" in text


def test_a_run_that_has_just_begun_gives_tables_too(tmp_path: Path) -> None:
    empty = Results({"usable cores": "2"}, {})
    assert "not measured" in report(empty, {})
    plot(empty, {}, tmp_path / "empty.png")


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    plot(made_up(), TITLES, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
