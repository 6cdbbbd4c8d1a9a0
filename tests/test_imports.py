"""Who may import whom: ``service -> models <- training``, read from the syntax trees."""

import ast
from pathlib import Path

import pytest

import service

ROOT = Path(__file__).parents[1]

PARTS = ("models", "service", "training")

ALLOWED = {
    "models": {"models"},
    "service": {"service", "models"},
    "training": {"training", "models"},
}

HOMES = {
    "tensorflow": ("training/",),
    "keras": ("training/",),
    "tf2onnx": ("training/",),
    "onnx": ("training/",),
    "onnxruntime": ("service/predictor.py", "training/graph.py"),
    "fastapi": (
        "service/routes.py",
        "service/operations.py",
        "service/access.py",
        "service/app.py",
        "service/problems.py",
        "service/pages.py",
    ),
    "opentelemetry": ("service/tracing.py",),
    "uvicorn": (
        "service/server.py",
        "service/listener.py",
        "service/protocol.py",
        "service/request_cycle.py",
    ),
    "prometheus_client": ("service/metrics.py", "service/operations.py"),
    "PIL": (
        "models/preprocess.py",
        "models/jpeg.py",
        "models/samples.py",
        "models/color.py",
        "service/gradcam.py",
        "service/codecs.py",
        "training/",
    ),
}
"""Library to the only files, or folders, that may import it."""


def imports(path: Path) -> set[str]:
    """Top-level names of everything imported anywhere in a file, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module).partition(".")[0])
    return found


def sources() -> list[Path]:
    return [path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_imports_only_what_its_place_allows(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = imports(path)
    strangers = (found & {*PARTS, "tests", "bench"}) - ALLOWED[name.partition("/")[0]]
    assert not strangers, f"{name} must not import {strangers}"
    for library in found & set(HOMES):
        assert name.startswith(HOMES[library]), f"{name} must not import {library}"


def test_leaves_of_the_service_import_nothing_of_it_but_errors_and_leaves() -> None:
    leaves = {
        "settings",
        "errors",
        "schemas",
        "metrics",
        "cpus",
        "drift",
        "keys",
        "origins",
        "service_links",
        "workers",
    }
    for leaf in leaves:
        tree = ast.parse((ROOT / "service" / f"{leaf}.py").read_text(encoding="utf-8"))
        inner = {
            (node.module or "").partition(".")[2]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("service")
        }
        assert inner <= leaves, leaf


def test_the_map_of_the_service_shows_every_file() -> None:
    files = {path.stem for path in (ROOT / "service").iterdir()} - {"__init__", "__main__", "__pycache__"}
    lines = [line[4:] for line in str(service.__doc__).splitlines() if line.startswith("    ")]
    shown = [name for line in lines for name in line.strip().partition("   ")[0].split()]
    assert sorted(shown) == sorted(files)


def test_the_batcher_knows_neither_images_nor_http() -> None:
    assert not imports(ROOT / "service" / "batcher.py") & {"numpy", "PIL", "fastapi", "starlette", "models"}
