"""The tables, from figures made up for the test: round ones, so that every ratio can be seen."""

import re
from pathlib import Path

import pytest

from bench.plot import plot
from bench.report import appendix, report
from bench.results import BESIDE, Results, ratio
from bench.rounds import CLIENTS, OURS
from bench.targets import targets

TITLES = {"litserve": "LitServe", "fastapi-keras": "FastAPI + Keras"}


def made_up(repetitions: int = 3) -> Results:
    """The machine slows down by half from one repetition to the next; ratios do not care."""
    results = Results({"processor": "made up", "usable cores": "2"}, {"repetitions": repetitions})
    for at in range(repetitions):
        fast = 0.5**at
        for more in (0.9, 1.1):  # before and after our service
            limit = {"rate 2x1b1": 100 * fast * more, "cpu 2x1b1": 0.02 / fast}
            limit |= {"single": 0.02 / fast, "single, one thread": 0.02 / fast}
            results.add(at, "limit", "600x450", limit)
        results.add(at, "limit", BESIDE, {"throughput": 85 * fast})
        for clients in CLIENTS:
            for form, rate in (("raw", 96), ("multipart", 92), ("gradcam", 69)):
                values = {
                    "throughput": rate * fast,
                    "p50": 0.02 / fast,
                    "p99": 0.03 / fast,
                    "server_cpu": 0.03,
                    "thread batcher": 0.018 / fast,
                    "thread worker": 0.006 / fast,
                    "thread main": 0.004 / fast,
                    "load_cpu": 0.001 / fast,
                    "cores_idle": 0.01,
                }
                results.add(at, OURS, f"{form} {clients}", values)
            theirs = {"throughput": 46 * fast, "p50": 0.04 / fast, "p99": 0.06 / fast, "server_cpu": 0.04}
            results.add(at, "litserve", f"multipart {clients}", theirs)
        results.add(at, "litserve", "plain 16", {"throughput": 40 * fast})
        results.add(at, OURS, "12mp 16", {"throughput": 80 * fast})
        for arrivals in ("even", "poisson"):
            values = {"p50": 0.02 / fast, "p99": 0.05 / fast, "rate": 50 * fast}
            results.add(at, OURS, f"half {arrivals}", values)
            results.add(at, OURS, f"full {arrivals}", values | {"requests": 200, "refused": 3})
        results.add(at, OURS, "process", {"ready": 1.2, "idle": 0.002, "pss": 3e8})
        results.add(at, "micro", "parts", {"graph, shipped": 0.01, "graph, plain": 0.02, "JSON": 0.0001})
        results.add(at, "fastapi-keras", "process", {}, "ended with 1: no | keras")
    results.add(0, OURS, "memory", {"rss": 3.0e8})
    return results


def test_ratios_are_formed_within_a_repetition() -> None:
    assert ratio({0: 1.0, 1: 9.0, 2: 4.0}, {1: 3.0, 0: 2.0, 3: 1.0}) == [0.5, 3.0]


def test_the_limit_is_that_of_one_shape_not_of_the_luckiest_in_each_repetition() -> None:
    results = Results({}, {})
    for at, (one, four) in enumerate([(100.0, 90.0), (80.0, 110.0), (100.0, 90.0)]):
        results.add(at, "limit", "600x450", {"rate 2x1b1": one, "rate 2x1b4": four})
    results.add(0, "limit", "600x450", {"rate 1x2b1": 500.0})  # tried once only
    assert results.limit("600x450") == {0: 100.0, 1: 80.0, 2: 100.0}
    assert results.limit("12mp") == {}


def test_the_worst_number_of_clients_is_that_of_the_worst_median() -> None:
    results = made_up()
    results.add(0, "litserve", "multipart 4", {"throughput": 1e9})  # one bad moment decides nothing
    found = {target.title: target.measured for target in targets(results, list(TITLES))}
    worst = found["throughput over the best peer's, worst client count"]
    assert worst is not None
    assert worst.median == pytest.approx(2.0)


def test_every_target_has_its_median_and_verdict() -> None:
    found = {target.title: target for target in targets(made_up(), list(TITLES))}
    expected = {
        "raw body, 16 clients, share of the limit": (0.96, "met"),
        "multipart, 16 clients, share of the limit": (0.92, "met"),
        "p99 at half load, even arrivals, over the single-image time": (2.5, "missed"),
        "p99 at half load, Poisson arrivals, over the single-image time": (2.5, "missed"),
        "throughput with over without Grad-CAM": (0.75, "missed"),
        "throughput over the best peer's, worst client count": (2.0, "met"),
        "p99 over the lowest of any peer, worst client count": (0.5, "met"),
        "throughput over the best peer's with the plain export (224 pixels), 16 clients": (2.3, "met"),
        "throughput over FastAPI + Keras, 16 clients": (None, "not measured"),
        "cost of a 12-megapixel photo over 600x450": (1.2, "met"),
        "idle processor": (0.2, "met"),
        "resident memory after many requests, measured once": (300.0, "met"),
        "start to ready": (1.2, "met"),
        "images/s of the shipped graph over the plain export (224 pixels)": (2.0, "met"),
    }
    assert found.keys() == expected.keys()
    for title, (median, verdict) in expected.items():
        measured = found[title].measured
        assert (measured and measured.median) == (median and pytest.approx(median)), title
        assert found[title].verdict == verdict, title


def test_the_worst_client_count_counts_against_a_peer() -> None:
    results = made_up(1)
    results.entries = [e for e in results.entries if (e.subject, e.cell) != ("litserve", "multipart 1")]
    results.add(0, "litserve", "multipart 1", {"throughput": 184.0, "p99": 0.01})
    found = {target.title: target for target in targets(results, list(TITLES))}
    slower = found["throughput over the best peer's, worst client count"]
    assert slower.measured is not None
    assert slower.measured.median == pytest.approx(0.5)
    assert slower.verdict == "missed"
    assert found["p99 over the lowest of any peer, worst client count"].verdict == "missed"


def test_a_cell_with_errors_does_not_count_and_is_shown_with_its_reason() -> None:
    results = made_up(1)
    results.add(1, OURS, "raw 16", {"throughput": 1e9}, "3 of 100 requests failed: 3 x status 503: full")
    assert 1 not in results.of(OURS, "raw 16", "throughput")
    text = report(results, TITLES)
    assert "| 2 | dermaserve | raw 16 | 3 of 100 requests failed: 3 x status 503: full |" in text
    assert "| 1 | fastapi-keras | process | ended with 1: no / keras |" in text


def test_the_report_has_ratios_with_their_spread() -> None:
    text = report(made_up(), TITLES)
    assert "| this service, raw body | 0.96 (0.96–0.96) |" in text
    assert "| LitServe | 0.46 (0.46–0.46) |" in text
    assert "| FastAPI + Keras | – | – | – | – |" in text
    # One every 20 ms, each 20 ms of work on one of two workers: nobody waits.
    assert (
        "| half load, even | 1.00 (1.00–1.00) | 2.50 (2.50–2.50) | 1.00 (1.00–1.00) | 1.04 (1.04–1.04) | – |"
        in text
    )
    assert "| full load, even | 1.00 (1.00–1.00) | 2.50 (2.50–2.50) | – | – | 1.5 (1.5–1.5) |" in text
    # 16 clients at 92 a second wait 174 ms on average; made up is a p99 of 30.
    assert re.search(r"^\| this service, multipart \|.* 0\.17 \(0\.17–0\.17\) \|.*\|$", text, re.MULTILINE)
    assert "as long as our event loop did with 16 clients: 0.85 (0.85–0.85)." in text
    assert "| this service | inference | 0.900 (0.900–0.900) | 0.900" in text
    assert "| this service | cores idle, % | 1.0 (1.0–1.0) |" in text
    assert "| LitServe | the busiest processes | – |" in text


def test_absolute_figures_are_in_the_appendix() -> None:
    text = appendix(made_up())
    assert "| dermaserve | raw 16 | throughput | 48 | 24 | 96 | 3 |" in text


def test_a_run_that_has_just_begun_gives_tables_too(tmp_path: Path) -> None:
    empty = Results({"usable cores": "2"}, {})
    assert "not measured" in report(empty, {})
    assert appendix(empty)
    plot(empty, {}, tmp_path / "empty.png")


def test_results_are_read_as_they_were_saved(tmp_path: Path) -> None:
    results = made_up()
    results.save(tmp_path / "deep" / "results.json")
    assert Results.load(tmp_path / "deep" / "results.json") == results


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    plot(made_up(), TITLES, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
