"""Files about the project agree with it: targets of the Makefile, versions, Pythons."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from service.api.openapi import API_VERSION
from tests.docs.pages import ROOT, documents

yaml = pytest.importorskip("yaml")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))


def commands(text: str) -> set[str]:
    """The targets of ``make`` in code and between backticks of a text."""
    return set(re.findall(r"(?:^|`|\brun: |&& )make ([a-z][a-z-]*)", text, re.M))


def test_documents_and_workflow_name_targets_that_exist() -> None:
    workflows = sorted((ROOT / ".github/workflows").glob("*.yml"))
    for path in (*documents(), *workflows):
        assert commands(path.read_text(encoding="utf-8")) <= TARGETS, path
    assert {"test", "docs", "test-integration"} <= commands(workflows[0].read_text())


def test_every_target_is_phony_and_listed_by_make_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.M)[0].split())
    described = set(re.findall(r"^([a-z-]+):.*##", makefile, re.M))
    assert phony == TARGETS
    assert described | {"help"} == TARGETS


def test_the_citation_has_the_version_of_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_workflow_tests_the_oldest_and_the_newest_python() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    least, end = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()  # type: ignore[union-attr]
    assert jobs["test"]["strategy"]["matrix"]["python"] == [f"3.{least}", f"3.{int(end) - 1}"]


def test_hooks_before_a_commit_are_local() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]


def test_the_changelog_names_the_versions_of_project_api_and_bundle() -> None:
    sections = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)[1:]
    line = r"Project \d+\.\d+\.\d+ · API \d+\.\d+\.\d+ · bundle `[\w-]+` \d+\.\d+\.\d+, schema \d+"
    for section in sections:
        assert re.fullmatch(line, section.splitlines()[2]), section.splitlines()[:3]


def test_the_newest_section_of_the_changelog_has_the_versions_in_force(shipped_bundle: Path) -> None:
    manifest = json.loads((shipped_bundle / "manifest.json").read_text())
    newest = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)[1].splitlines()[2]
    bundle = f"`{manifest['name']}` {manifest['version']}, schema {manifest['schema_version']}"
    assert newest == f"Project {PROJECT['version']} · API {API_VERSION} · bundle {bundle}"
