"""The number of processor cores that this process may use.

ONNX Runtime sizes its thread pool by the cores of the host. In a container with a quota of two cores on a
host with 64, it would run 64 threads on two cores, and inference would be many times slower.
"""

import math
import os
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of cores that the affinity mask and the CPU quota allow, at least 1.

    Args:
        root: folder that contains ``proc`` and ``sys``. Tests pass their own.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [*_quotas_v2(root), *_quotas_v1(root)]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def _quotas_v2(root: Path) -> list[float]:
    """Return the quotas, in cores, of this process's cgroup and its ancestors (cgroup v2)."""
    base = root / "sys/fs/cgroup"
    own = _own_cgroup(root, controller="")
    # In a container, the namespace usually makes the own cgroup the root.
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
    """Return the quotas, in cores, of this process's cgroup (cgroup v1).

    Cgroup v1 is the default of RHEL 8 and its derivatives. A quota of -1 means none.
    """
    own = _own_cgroup(root, controller="cpu")
    quotas = []
    for name in ("cpu", "cpu,cpuacct"):
        for folder in {root / "sys/fs/cgroup" / name, root / "sys/fs/cgroup" / name / own}:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
            if quota.isdigit() and period.isdigit() and int(period) > 0:
                quotas.append(int(quota) / int(period))
    return quotas


def _own_cgroup(root: Path, *, controller: str) -> str:
    """Return the path of this process's cgroup below the mount point, from ``/proc/self/cgroup``."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path.strip("/")
    return ""


def _read(file: Path) -> str:
    """Return the text of the file, or an empty string if it is missing."""
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
