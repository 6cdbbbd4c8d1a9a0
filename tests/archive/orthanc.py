"""An Orthanc of Debian's packages, and the bridge, as processes of a test."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from pydicom import uid

from tests.service.process import ROOT, free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PATIENCE = 1800.0
"""Seconds; only a test that fails takes so long."""

NO_KEEPALIVE = httpx.Limits(max_keepalive_connections=0)  # Orthanc closes idle connections at any time
USER, PASSWORD = "bridge", "a secret of the archive"
REPORT, CAPTURE = uid.ComprehensiveSRStorage, uid.SecondaryCaptureImageStorage


def until(condition: Callable[[], bool]) -> None:
    """Wait, and leave the processors to the processes that are waited for."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def missing() -> list[str]:
    """What these tests need and the machine lacks."""
    found = [name for name in ("Orthanc", "storescu", "dsrdump", "dcmcjpeg") if shutil.which(name) is None]
    return found + ([] if PLUGIN.exists() else [str(PLUGIN)])


class Archive:
    """An Orthanc with its DICOMweb plugin, on free ports of this machine.

    Args:
        folder: of its data base; it survives a kill.
    """

    def __init__(self, folder: Path) -> None:
        self.port, self.dicom_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._configuration = folder / "orthanc.json"
        data = str(folder / "data")
        self._configuration.write_text(
            json.dumps(
                {
                    "StorageDirectory": data,
                    "IndexDirectory": data,
                    "Plugins": [str(PLUGIN)],
                    "HttpPort": self.port,
                    "DicomPort": self.dicom_port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": True,
                    "RegisteredUsers": {USER: PASSWORD},
                    "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
                }
            )
        )
        self._kinds: dict[str, str] = {}
        self.client = httpx.Client(base_url=self.url, auth=(USER, PASSWORD), timeout=60, limits=NO_KEEPALIVE)
        self.start()

    def start(self) -> None:
        with (self._folder / "orthanc.log").open("a") as log:
            self.process = subprocess.Popen(
                ["Orthanc", str(self._configuration)], stdout=log, stderr=subprocess.STDOUT
            )
        until(self._answers)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        self.client.close()

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def send(self, *files: Path) -> None:
        """Send files as a modality does; all that are sent at once have one transfer syntax."""
        command = [
            "storescu",
            "-R",
            *_proposed(files[0]),
            "127.0.0.1",
            str(self.dicom_port),
            *map(str, files),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)

    def instances(self, sop_class: str) -> dict[str, str]:
        """Orthanc's ids of the instances of a class, by SOP Instance UID."""
        found = {}
        for instance in self.get("/instances?expand"):
            own = instance["ID"]
            if own not in self._kinds:
                self._kinds[own] = self.client.get(f"/instances/{own}/metadata/SopClassUid").text
            if self._kinds[own] == sop_class:
                found[instance["MainDicomTags"]["SOPInstanceUID"]] = instance["ID"]
        return found

    def file(self, instance: str) -> bytes:
        return self.client.get(f"/instances/{instance}/file").raise_for_status().content

    def count(self, *sop_classes: str) -> int:
        return sum(len(self.instances(sop_class)) for sop_class in sop_classes)

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self._folder / "orthanc.log").read_text()
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/dicom-web/studies?limit=1").status_code == 200
        return False


def _proposed(path: Path) -> list[str]:
    """storescu's option for the transfer syntax of a file, which its name tells."""
    return {"jpeg": ["-xy"], "lossless": ["-xs"]}.get(path.stem.partition("-")[0], [])


class Bridge:
    """``python -m service dicom-bridge``.

    Args:
        folder: gets the log, and holds the state file and nothing else.
        settings: without their prefix.
        arguments: of the command.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *arguments: str) -> None:
        self._home = folder / "home"
        self._home.mkdir(exist_ok=True)
        self.state = self._home / "state.json"
        own = {"STATE_FILE": self.state, "POLL_SECONDS": 0.5, "MAX_WAIT": 2} | dict(settings)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DERMASERVE_")}
        environment |= {"HOME": str(self._home), "TMPDIR": str(self._home), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {f"DERMASERVE_BRIDGE_{name}": str(value) for name, value in own.items()}
        self._log = folder / "bridge.log"
        command = [sys.executable, "-m", "service", "dicom-bridge", *arguments]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as an operator does, and return its exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def log(self) -> str:
        """All lines, also those of earlier bridges in this folder."""
        return self._log.read_text()

    def files(self) -> list[str]:
        """The files that it wrote where programs write by default."""
        return sorted(path.name for path in self._home.rglob("*") if path.is_file())


@contextlib.contextmanager
def bridge(folder: Path, settings: Mapping[str, Any], *arguments: str) -> Iterator[Bridge]:
    """Start a ``Bridge``, and kill it with the block if it still runs."""
    running = Bridge(folder, settings, *arguments)
    try:
        yield running
    finally:
        running.kill()
