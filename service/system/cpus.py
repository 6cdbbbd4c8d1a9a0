"""How many processor cores this process may really use.

ONNX Runtime sizes its thread pool by the host's cores; in a container with a quota of two cores on
a host of 64 that means 64 threads fighting over two, and inference many times slower.
"""

import math
import os
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """Cores allowed by the affinity mask and by the container's CPU quota, at least 1.

    Args:
        root: where ``proc`` and ``sys`` are looked up; tests pass a folder of their own.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [*_quotas_v2(root), *_quotas_v1(root)]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def _quotas_v2(root: Path) -> list[float]:
    """Quotas in cores of this process's cgroup and of all above it (cgroup v2)."""
    base = root / "sys/fs/cgroup"
    own = _own_cgroup(root, controller="")
    # Inside a container the namespace usually hides the outer path: the own cgroup is then the root.
    folders = [base / own, *(base / own).parents] if own else [base]
    quotas = []
    for folder in folders:
        if not folder.is_relative_to(base):
            break
        words = _read(folder / "cpu.max").split()
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]) > 0:
            quotas.append(int(words[0]) / int(words[1]))
    return quotas


def _quotas_v1(root: Path) -> list[float]:
    """The same for cgroup v1, the default of RHEL 8 and its kin; -1 stands for "no quota"."""
    own = _own_cgroup(root, controller="cpu")
    quotas = []
    for name in ("cpu", "cpu,cpuacct"):
        for folder in {root / "sys/fs/cgroup" / name, root / "sys/fs/cgroup" / name / own}:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
            if quota.isdigit() and period.isdigit() and int(period) > 0:
                quotas.append(int(quota) / int(period))
    return quotas


def _own_cgroup(root: Path, *, controller: str) -> str:
    """Path of this process's cgroup below the mount point, as ``/proc/self/cgroup`` gives it."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path.strip("/")
    return ""


def _read(file: Path) -> str:
    """The file's text, or nothing: every one of these files may be missing."""
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
