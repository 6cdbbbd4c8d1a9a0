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
    numbers = re.findall(
        r"(\d+) MB for the service;\n- (\d+) × `DERMASERVE_MAX_UPLOAD_MEMORY`;\n"
        r"- `DERMASERVE_DECODE_WORKERS` × \((\d+) MB \+ (\d+) × `DERMASERVE_MAX_BODY_BYTES`\).*;\n"
        r"- (\d+) bytes × `DERMASERVE_MAX_PIXELS`",
        text,
    )[0]
    base, bodies, process, files, pixel = map(int, numbers)
    settings = Settings()
    plan = base * 1_000_000 + bodies * settings.max_upload_memory + pixel * settings.max_pixels
    return plan + decode_workers * (process * 1_000_000 + files * settings.max_body_bytes)
