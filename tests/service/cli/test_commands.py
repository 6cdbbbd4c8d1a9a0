"""The command line: help, wrong settings, and ``check``."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models.bundle import MODEL_NAME, save_bundle
from models.labels import HAM10000_LABELS
from service.__main__ import main
from service.settings import PREFIX, Settings
from tests.tiny_bundle import tiny_graph, tiny_manifest, write_tiny_bundle


def test_help_names_every_command_and_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    commands = ("serve", "check", "predict", "dicom-bridge", "key", "settings", "openapi")
    assert [name for name in commands if f"\n    {name}" not in text] == []
    assert [name for name in Settings.model_fields if PREFIX + name.upper() not in text] == []


@pytest.mark.parametrize("command", ["serve", "check", "predict", "dicom-bridge"])
def test_each_command_has_a_help_text(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"python -m service {command}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["serve"], ["check"], ["predict", "x.jpg"]])
def test_a_wrong_setting_stops_every_command(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DERMASERVE_DEVICE", "abacus")
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: DERMASERVE_DEVICE: expected ")


def test_a_valid_bundle_is_described(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tiny), "--device", "cpu"]) == 0
    text, errors = capsys.readouterr()
    assert not errors
    assert text.startswith(f"{tiny}: can be served\n")
    facts = {line[:18].strip(): line[18:] for line in text.splitlines()[1:]}
    assert facts["name"] == "tiny-test-bundle"
    assert facts["version"] == "0.0.1"
    assert facts["provider"] == "CPUExecutionProvider"
    assert facts["classes"].split()[:7] == ["akiec*", "bcc*", "bkl", "df", "mel*", "nv", "vasc"]
    assert facts["figures"] == "0.500 [0.400, 0.600] balanced accuracy"
    assert facts["loading"].endswith(" ms")


def test_check_uses_the_bundle_of_the_settings_by_default(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DERMASERVE_BUNDLE", str(tiny))
    monkeypatch.setenv("DERMASERVE_DEVICE", "cpu")
    assert main(["check"]) == 0
    assert str(tiny) in capsys.readouterr().out


def refused(bundle: Path, capfd: pytest.CaptureFixture[str], *options: str) -> str:
    """Run ``check``, which must fail, and return the one line with the reason."""
    assert main(["check", str(bundle), *options]) == 1
    text, errors = capfd.readouterr()
    assert not text
    ours = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(ours) == 1
    assert "Traceback" not in errors
    return ours[0]


def test_a_changed_file_is_named(tmp_path: Path, tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = Path(shutil.copytree(tiny, tmp_path / "bundle"))
    with (bundle / MODEL_NAME).open("ab") as stream:
        stream.write(b"\0")
    assert "model.onnx: sha256 is " in refused(bundle, capfd)


def test_a_folder_without_a_bundle_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "manifest.json: cannot be read" in refused(tmp_path / "nowhere", capfd)
    (tmp_path / "manifest.json").write_text("{}")
    assert "manifest.json: " in refused(tmp_path, capfd)


def test_a_link_to_itself_is_not_a_bundle(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop", capfd)


def test_a_graph_that_cannot_be_loaded_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = write_tiny_bundle(tmp_path)
    bundle.model_path.write_bytes(b"no graph")
    save_bundle(tmp_path, bundle.manifest)
    assert "model.onnx: ONNX Runtime cannot load it" in refused(tmp_path, capfd)


def test_a_graph_that_loads_but_does_not_run_is_reported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tiny_graph()
    # A shape that only one image has.
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 224, 224, 3], np.int64), "single"))
    model.graph.node.insert(0, helper.make_node("Reshape", ["image", "single"], ["reshaped"]))
    model.graph.node[1].input[0] = "reshaped"
    onnx.save(model, tmp_path / MODEL_NAME)
    save_bundle(tmp_path, tiny_manifest("rgb", 224, 224, HAM10000_LABELS))
    assert "cannot be used" in refused(tmp_path, capfd)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_a_required_gpu_that_is_missing_is_reported(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "cuda is required" in refused(tiny, capfd, "--device", "cuda")
