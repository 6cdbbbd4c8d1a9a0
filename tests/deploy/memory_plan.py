"""The sum that docs/operations.md tells to plan, for the limits of containers."""

import re

from service.settings import Settings
from tests.deploy.monitoring import ROOT


def planned_memory(decode_workers: int) -> int:
    """Return bytes, from the bullets of "Memory to plan" and the defaults of the settings that they name."""
    text = (
        (ROOT / "docs" / "operations.md")
        .read_text()
        .partition("## Memory to plan\n")[2]
        .partition("\n## ")[0]
    )
    base, bodies, process, files, pixel = re.findall(
        r"(\d+) MB for the service;\n- (\w+) `DERMASERVE_MAX_UPLOAD_MEMORY`;\n"
        r"- for each of `DERMASERVE_DECODE_WORKERS`: (\d+) MB and (\w+) times "
        r"`DERMASERVE_MAX_BODY_BYTES`.*;\n"
        r"- (\d+) bytes for each of `DERMASERVE_MAX_PIXELS`",
        text,
    )[0]
    times = {"twice": 2, "three": 3}
    settings = Settings()
    plan = int(base) * 1_000_000
    plan += times[bodies] * settings.max_upload_memory + int(pixel) * settings.max_pixels
    return plan + decode_workers * (int(process) * 1_000_000 + times[files] * settings.max_body_bytes)
