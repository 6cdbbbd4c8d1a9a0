"""The alert rules are valid and tested, and each has a paragraph in the runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.monitoring import PROMETHEUS, ROOT, alerts, names, rules

HERE = Path(__file__).parent
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian: apt-get install --no-install-recommends prometheus): "
    "the alert rules are NOT tested here",
)


def run_promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_configuration_and_rules_are_valid() -> None:
    run_promtool("check", "config", PROMETHEUS / "prometheus.yml")


@promtool
def test_alerts_fire_when_they_should_and_not_when_they_should_not() -> None:
    run_promtool("test", "rules", HERE / "rules_test.yml")


def test_every_alert_has_a_test_that_fires_and_one_that_does_not() -> None:
    cases: dict[str, set[bool]] = {}
    for group in yaml.safe_load((HERE / "rules_test.yml").read_text())["tests"]:
        for case in group.get("alert_rule_test", ()):
            cases.setdefault(case["alertname"], set()).add("exp_alerts" in case)
    assert cases == {alert["alert"]: {True, False} for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_has_a_severity_a_summary_and_a_runbook(alert: dict[str, Any]) -> None:
    assert set(alert["labels"]) == {"severity"}
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ +(.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in [heading.lower() for heading in headings]
    assert anchor == alert["alert"].lower()


def test_rules_read_only_recorded_series_that_exist() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    read = {name for rule in rules() for name in names(rule["expr"]) if ":" in name}
    assert read <= recorded
