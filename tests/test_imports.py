"""Who may import whom: ``service -> models <- training``, read from the syntax trees."""

import ast
from collections.abc import Collection
from pathlib import Path

import pytest

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
    "onnxruntime": ("service/inference/onnx_session.py", "training/export/"),
    "fastapi": (
        "service/api/",
        "service/http/",
        "service/open_inference/",
        "service/app.py",
        "service/admission/auth.py",
    ),
    "grpc": ("service/open_inference/grpc_server.py",),
    "google": ("service/open_inference/grpc_messages.py",),
    "opentelemetry": ("service/observability/tracing.py",),
    "ray": ("service/bulk/cluster.py",),
    "pyarrow": ("service/bulk/store.py", "service/bulk/parquet.py"),
    "uvicorn": (
        "service/server.py",
        "service/listener.py",
        "service/http/connection.py",
        "service/http/request_reader.py",
        "service/http/request_cycle.py",
    ),
    "prometheus_client": ("service/observability/metrics.py", "service/observability/exposition.py"),
    "requests": ("service/bridge/",),
    "dicomweb_client": ("service/bridge/",),
    "highdicom": ("service/bridge/",),
    "pydicom": ("models/dicom.py", "service/bridge/"),
    "pillow_heif": ("models/heif.py",),
    "PIL": (
        "models/preprocess.py",
        "models/jpeg.py",
        "models/samples.py",
        "models/scaling.py",
        "models/color.py",
        "service/inference/overlay.py",
        "service/bridge/capture.py",
        "service/decoding/worker.py",
        "training/",
    ),
}
"""Library to the only files, or folders, that may import it."""

FLOORS = {
    "models": (
        {"errors", "labels", "quality", "color"},
        {"jpeg", "dicom", "heif", "samples"},
        {"scaling"},
        {"preprocess"},
        {"manifest"},
        {"bundle"},
    ),
    "service": (
        {"errors", "origins", "proxies", "service_links"},
        {"system", "environment"},
        {"settings"},
        {"observability", "bridge"},
        {"decoding", "admission"},
        {"inference", "http"},
        {"lifecycle"},
        {"api"},
        {"open_inference"},
        {"app", "bulk"},
        {"listener"},
        {"server"},
        {"cli"},
        {"__main__"},
    ),
    "training": (
        {"markdown", "figure_files"},
        {"data"},
        {"recipe", "metrics"},
        {"recipes", "run", "network"},
        {"catalogue", "fit", "calibration"},
        {"evaluation"},
        {"export"},
        {"evaluation/comparison", "search"},
        {"cli"},
        {"__main__"},
    ),
}
"""Rooms of each part, from the ground up: folders, and modules beside them.

A room imports rooms below it, and none beside or above it; so there is no circle.
"""


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


@pytest.mark.parametrize("part", FLOORS)
def test_no_room_imports_one_beside_or_above_it(part: str) -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS[part]) for room in rooms}
    for path in sorted((ROOT / part).rglob("*.py")):
        if path == ROOT / part / "__init__.py":
            continue
        own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts), floor)
        for module in modules_imported(path, part):
            other = room_of(module, floor)
            assert own == other or floor[other] < floor[own], f"{path}: {own} must not import {other}"


def modules_imported(path: Path, part: str) -> set[str]:
    """The modules of ``part`` that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == part:
            found |= {f"{part}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return {module for module in found if module.startswith(f"{part}.")}


def room_of(module: str, rooms: Collection[str]) -> str:
    """The room of a module, given with its package: the deepest that holds it."""
    place = module.partition(".")[2].replace(".", "/")
    holding = [room for room in rooms if f"{place}/".startswith(f"{room}/")]
    assert holding, f"{module} stands on no floor"
    return max(holding, key=len)


@pytest.mark.parametrize("part", FLOORS)
def test_no_folder_holds_more_than_a_dozen_modules(part: str) -> None:
    for folder in [ROOT / part, *(path for path in (ROOT / part).rglob("*") if path.is_dir())]:
        modules = [path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__")]
        assert len(modules) <= 12, f"{folder}: {len(modules)} modules"


def test_the_batcher_knows_neither_images_nor_http() -> None:
    batcher = ROOT / "service" / "inference" / "batcher.py"
    assert not imports(batcher) & {"numpy", "PIL", "fastapi", "starlette", "models"}
