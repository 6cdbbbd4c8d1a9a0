"""``--ray``: options that are wrong are named with what was expected and what came; all without Ray."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from service.__main__ import main
from service.cli import predict_ray


@pytest.fixture
def _with_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_ray, "find_spec", lambda module: object())


@pytest.mark.skipif(find_spec("ray") is not None, reason="the extra is installed")
def test_without_the_extra_the_command_says_how_to_install_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(folder), "--ray", "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "error: --ray: expected the extra 'ray', which is not installed "
        "(python -m pip install --require-hashes -r requirements/ray.txt installs it)\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_with_ray")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("x", "--output: expected a folder or URI for Parquet files with --ray, got none"),
        ("--output o", "--manifest: expected either PATH or --manifest, got none"),
        ("x --manifest m.csv --output o", "--manifest: expected either PATH or --manifest, got both"),
        (
            "--manifest m.csv --metadata a.csv --output o",
            "--metadata: expected columns of --manifest instead, got both options",
        ),
        (
            "--manifest m.csv --recursive --output o",
            "--recursive: expected together with PATH, got it together with --manifest",
        ),
        ("x --output o --format csv", "--format: expected without --ray, got it together with --ray"),
        ("x --output o --gradcam d", "--gradcam: expected without --ray, got it together with --ray"),
        ("x --output o --overwrite", "--overwrite: expected without --ray, got it together with --ray"),
        ("x --output o --actors 0", "--actors: expected a number from 1 to 99999999, got '0'"),
        ("x --output o --cores two", "--cores: expected a number from 1 to 99999999, got 'two'"),
        ("x --output o --part-size -5", "--part-size: expected a number from 1 to 99999999, got '-5'"),
        ("x --output o --part-size 1e3", "--part-size: expected a number from 1 to 99999999, got '1e3'"),
    ],
)
def test_wrong_options_are_named(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--ray", *options.split()]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("option", ["--address", "--manifest", "--actors", "--cores", "--part-size"])
def test_options_of_the_cluster_need_ray(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "x", option, "7"]) == 2
    assert capsys.readouterr().err == f"error: {option}: expected together with --ray, got it without\n"


def test_without_ray_a_path_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict"]) == 2
    assert capsys.readouterr().err == "error: PATH: expected at least one file or folder, got none\n"
