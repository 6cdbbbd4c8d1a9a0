"""The wheel, the required Python versions, and the health check of the image."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.deploy.monitoring import ROOT
from tests.service.process import free_port, process

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_a_wheel_holds_the_programs_the_page_and_the_shipped_bundle(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="setuptools is missing: no wheel was built")
    for name in ("pyproject.toml", "README.md", "LICENSE", "models", "service", "training"):
        (tmp_path / name).symlink_to(ROOT / name)  # building leaves files beside what it builds
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", build],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for part in ("service", "models", "training"):
        sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / part).rglob("*.py")}
        assert sources - names == set()
    bundle = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "models").glob("ham10000-*/**/*")
        if path.is_file()
    }
    static = {path.relative_to(ROOT).as_posix() for path in (ROOT / "service/static").iterdir()}
    assert (bundle | static) - names == set()
    assert not [name for name in names if name.startswith(("tests", "bench"))]


def test_make_names_the_supported_pythons(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text(
        f'#!/bin/sh\nshift\nexec {sys.executable} -c "import sys; sys.version_info = (3, 14); $1"\n'
    )
    old.chmod(0o755)
    command = ("make", "serve", f"PYTHON={old}", f"SERVE_ENV={tmp_path}/env")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "Python 3.11, 3.12 or 3.13 is needed, this is 3.14" in done.stderr


def test_readme_makefile_and_dockerfile_name_the_pythons_of_the_project() -> None:
    least, end = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()  # type: ignore[union-attr]
    *others, last = (f"3.{minor}" for minor in range(int(least), int(end)))
    text = f"Python {', '.join(others)} or {last}"
    for name in ("README.md", "Makefile", "Dockerfile"):
        assert text in (ROOT / name).read_text(), name
    assert f"(3, {least}) <= v < (3, {end})" in (ROOT / "Makefile").read_text()


def test_the_health_check_of_the_image_uses_the_configured_port(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, tiny: Path
) -> None:
    recipe = (ROOT / "Dockerfile").read_text()
    (found,) = re.findall(r"^HEALTHCHECK [^\[]*CMD (\[.*\])$", recipe, re.MULTILINE)
    program, *arguments = json.loads(found)
    assert program == "python"

    def probe(port: int) -> int:
        environment = os.environ | {"DERMASERVE_PORT": str(port)}
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, timeout=30, check=False
        )
        return done.returncode

    with process(tmp_path, tiny) as server:
        server.wait_ready()
        assert probe(server.port) == 0
    assert probe(free_port()) == 1
