"""Shared by the tests of deploy/: its queries, a Prometheus server, and traffic."""

import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import yaml

from tests.service.conftest import JPEG
from tests.synthetic import draw_lesion, encoded

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "dermaserve.json"


class Query(NamedTuple):
    """An expression of the dashboard, named after its panel or annotation."""

    title: str
    expression: str

    def filled_in(self) -> str:
        """Return the query as Grafana sends it, for all instances and with a rate over two minutes."""
        text = self.expression
        for name, value in (("$__rate_interval", "2m"), ("$__range", "1h"), ("$instance", ".+")):
            text = text.replace(name, value)
        assert "$" not in text, f"{self.title}: unknown variable in {text}"
        return text


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return board


def panels() -> list[dict[str, Any]]:
    """Return all panels except rows, which only have titles."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_queries() -> list[Query]:
    return [Query(p["title"], target["expr"]) for p in panels() for target in p["targets"]]


def annotation_queries() -> list[Query]:
    return [Query(a["name"], a["expr"]) for a in dashboard()["annotations"]["list"] if "expr" in a]


def rules() -> list[dict[str, Any]]:
    """Return the recording rules and alerts, in order."""
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def names(expression: str) -> set[str]:
    """Return the names of the series in an expression: of the service, the process or a rule."""
    bare = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b(?:job:)?(?:dermaserve|process)_\w+(?::\w+)?", bare))


class Prometheus:
    """The HTTP API of a running Prometheus server."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=600)

    def get(self, path: str, **parameters: str) -> Any:
        """``data`` of the answer to ``/api/v1/...``; None while nobody answers."""
        try:
            answer = self._client.get("/api/v1/" + path, params=parameters).json()
        except (httpx.TransportError, json.JSONDecodeError):
            return None
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, expression: str) -> list[float]:
        """Return the values of an instant query, without NaN."""
        data = self.get("query", query=expression)
        found = [float(sample["value"][1]) for sample in data["result"]] if data else []
        return [value for value in found if not math.isnan(value)]

    def health(self) -> list[str]:
        """Return the health of each target: ``up``, ``down`` or ``unknown``."""
        data = self.get("targets")
        return [target["health"] for target in data["activeTargets"]] if data else []

    def close(self) -> None:
        self._client.close()


def picture(seed: int, *, shade: float = 1.0, width: int = 600) -> bytes:
    """Draw a lesion as a JPEG, darker with a lower ``shade``. A narrow one gets a warning."""
    lesion = draw_lesion(np.random.default_rng(seed), code="mel")
    return encoded(lesion.point(lambda value: value * shade).resize((width, width * 3 // 4)), "JPEG")


@contextmanager
def traffic(url: str, key: str, *, threads: int = 3) -> Iterator[None]:
    """Let happen what the dashboard shows, again and again while the block runs.

    That is answers of every route, overlays, warnings, batches, and requests without a valid key.
    """
    images = [picture(1), picture(2, shade=0.5), picture(3, width=80)]
    stop = threading.Event()

    def client() -> None:
        with httpx.Client(base_url=url, timeout=600, headers={"X-API-Key": key}) as session:
            while not stop.is_set():
                for image in images:
                    session.post("/predict", content=image, headers=JPEG)
                session.post("/gradcam", content=images[0], headers=JPEG)
                session.post("/predict/batch", files=[("files", image) for image in images])
                session.post("/predict", content=b"nothing", headers=JPEG | {"X-API-Key": "wrong"})
                stop.wait(0.05)

    workers = [threading.Thread(target=client) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join(60)


def unanswered(prometheus: Prometheus, queries: list[Query]) -> list[Query]:
    """Return the queries that have no value now."""
    return [query for query in queries if not prometheus.values(query.filled_in())]
