"""``python -m service dicom-bridge``: wrong settings, and what is imported without being asked for."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from service.__main__ import main
from tests.service.process import ROOT


def test_a_wrong_setting_stops_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DERMASERVE_BRIDGE_START", "yesterday")
    assert main(["dicom-bridge"]) == 2
    assert capsys.readouterr().err.startswith("error: DERMASERVE_BRIDGE_START: expected ")


@pytest.mark.parametrize("study", ["", "1.2/../3", "1", "1." + "2" * 63, "Quixote"])
def test_a_study_must_be_a_uid(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["dicom-bridge", "--study", study])
    assert exit_.value.code == 2
    assert "expected a UID" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["dicomweb_client", "highdicom", "pydicom", "requests"])
def test_without_the_extra_the_command_says_how_to_get_it(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "service.cli.dicom_bridge.find_spec",
        lambda name: None if name == package else find_spec("sys"),
    )
    assert main(["dicom-bridge"]) == 2
    assert "the extra 'dicom-bridge' is not installed" in capsys.readouterr().err


def test_the_command_line_imports_nothing_of_the_extra() -> None:
    program = (
        "import sys; from service.__main__ import _parser; _parser(); "
        "extra = {'dicomweb_client', 'highdicom', 'pydicom', 'requests'}; "
        "sys.exit(', '.join(extra & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
