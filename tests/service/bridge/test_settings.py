"""The settings of the bridge: a wrong one is refused naming the variable, what was expected and what came."""

from pathlib import Path

import pytest

from service.bridge.settings import BridgeSettings, load_bridge_settings, read_secret
from service.errors import SettingsError
from service.settings import load_settings


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(f"DERMASERVE_BRIDGE_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_bridge_settings()
    return list(caught.value.problems)


def test_defaults_need_no_variable() -> None:
    settings = load_bridge_settings()
    assert settings.dicomweb == "http://127.0.0.1:8042/dicom-web"
    assert settings.send_age_and_sex is False


def test_every_setting_is_described() -> None:
    assert [name for name, field in BridgeSettings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_URL", "127.0.0.1:8000"),
        ("SERVICE_URL", "http://127.0.0.1:8000/"),
        ("SERVICE_URL", "http://127.0.0.1:x"),
        ("ORTHANC_URL", "ftp://127.0.0.1"),
        ("DICOMWEB_URL", "http://user:password@127.0.0.1/dicom-web"),
        ("STATE_FILE", "/no/such/folder/state.json"),
        ("START", "last"),
        ("POLL_SECONDS", "0"),
        ("MAX_WAIT", "0.5"),
        ("SEND_AGE_AND_SEX", "perhaps"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_is_refused_naming_all(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    (line,) = problems(monkeypatch, **{name: value})
    assert line.startswith(f"DERMASERVE_BRIDGE_{name}: expected ")
    assert value in line.partition(" got ")[2]


def test_an_unknown_name_is_refused_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = problems(monkeypatch, SERVICE_KEY="x")
    assert line.startswith("DERMASERVE_BRIDGE_SERVICE_KEY: there is no such setting")
    assert "did you mean DERMASERVE_BRIDGE_SERVICE_KEY_FILE?" in line


def test_user_and_password_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = problems(monkeypatch, ARCHIVE_USER="bridge")
    assert line.startswith("DERMASERVE_BRIDGE_ARCHIVE_USER: expected together with ")


@pytest.mark.parametrize("name", ["SERVICE_URL", "ORTHANC_URL", "DICOMWEB_URL"])
def test_other_machines_are_reached_by_https_only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (line,) = problems(monkeypatch, **{name: "http://archive.example"})
    assert line.startswith(f"DERMASERVE_BRIDGE_{name}: expected https, or a loopback address, got ")
    monkeypatch.setenv("DERMASERVE_BRIDGE_ALLOW_PLAIN_HTTP", "true")
    assert getattr(load_bridge_settings(), name.lower()) == "http://archive.example"
    monkeypatch.delenv("DERMASERVE_BRIDGE_ALLOW_PLAIN_HTTP")
    monkeypatch.setenv(f"DERMASERVE_BRIDGE_{name}", "https://archive.example")
    assert getattr(load_bridge_settings(), name.lower()) == "https://archive.example"


def test_service_and_bridge_ignore_the_settings_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DERMASERVE_PORT", "9000")
    monkeypatch.setenv("DERMASERVE_BRIDGE_POLL_SECONDS", "7")
    assert load_settings().port == 9000
    assert load_bridge_settings().poll_seconds == 7


def test_a_secret_is_one_line_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("dsk_secret\n")
    assert read_secret("SERVICE_KEY_FILE", path) == "dsk_secret"
    assert read_secret("SERVICE_KEY_FILE", None) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"secret\nsecret\n", "secr\u00e9t".encode()])
def test_another_file_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(
        SettingsError, match="DERMASERVE_BRIDGE_SERVICE_KEY_FILE: expected a file with one"
    ) as e:
        read_secret("SERVICE_KEY_FILE", path)
    assert "secr" not in str(e.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"expected a file that can be read, got .*none"):
        read_secret("SERVICE_KEY_FILE", tmp_path / "none")
