"""The machine and the package versions of a measurement."""

import os
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from bench.images import real_originals
from service.system.cpus import usable_cpus

_FLAGS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm", "bf16", "sve"),
)
"""The instructions that ONNX Runtime chooses its kernels by."""

_OURS = ("onnxruntime", "onnxruntime-gpu", "numpy", "pillow", "fastapi", "starlette", "uvicorn", "uvloop")


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory, system, and the kind of images."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model[1] if model else platform.machine(),
        "usable cores": str(usable_cpus()),
        "instruction set": ", ".join(flag for flag in _FLAGS if flag in present) or "baseline",
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "images": "HAM10000, originals" if real_originals() else "synthetic",
    }


def versions(python: Path, packages: Sequence[str] = _OURS) -> str:
    """Those ``packages`` that the environment of ``python`` has, with their versions."""
    folders = [str(folder) for folder in python.parents[1].glob("lib/python*/site-packages")]
    found = {each.name.lower(): each.version for each in metadata.distributions(path=folders)}
    return ", ".join(f"{name} {found[name]}" for name in packages if name in found) or "unknown"
