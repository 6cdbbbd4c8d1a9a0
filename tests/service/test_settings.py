"""Settings: a wrong one is refused naming the variable, what was expected and what came."""

from pathlib import Path

import pytest

from service.admission.api_keys import check_key_file
from service.errors import SettingsError
from service.settings import Settings, load_settings
from service.system.cpus import usable_cpus


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(f"DERMASERVE_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings(check_key_file)
    return list(caught.value.problems)


def test_defaults_need_no_variable() -> None:
    settings = load_settings()
    assert settings.bundle.name == "ham10000-ensemble"
    assert (settings.host, settings.port, settings.device) == ("127.0.0.1", 8000, "auto")
    assert settings.decode_workers == max(2, usable_cpus())


def test_images_are_decoded_in_two_processes_where_there_is_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an image that takes long leaves one to the others."""
    monkeypatch.setattr("service.settings.usable_cpus", lambda: 1)
    assert Settings().decode_workers == 2


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DERMASERVE_BUNDLE", str(tmp_path))
    monkeypatch.setenv("DERMASERVE_MAX_BATCH_SIZE", "7")
    settings = load_settings()
    assert (settings.bundle, settings.max_batch_size) == (tmp_path, 7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BUNDLE_DIGEST", "sha256:" + 64 * "0"),
        ("BUNDLE_DIGEST", 64 * "A"),
        ("BUNDLE_DIGEST", ""),
        ("PORT", "70000"),
        ("DEVICE", "tpu"),
        ("MAX_BATCH_SIZE", "0"),
        ("BATCH_TIMEOUT", "nan"),
        ("BATCH_TIMEOUT", "-1"),
        ("REQUEST_TIMEOUT", "0"),
        ("REQUEST_TIMEOUT", "inf"),
        ("MAX_PIXELS", "90000000"),
        ("LOG_LEVEL", "loud"),
        ("DRAIN_PAUSE", "soon"),
        ("TRUSTED_PROXIES", "10.0.0.300"),
        ("TRUSTED_PROXIES", "10.0.0.1/24"),
        ("TRUSTED_PROXIES", "proxy, http://proxy"),
        ("TRUSTED_PROXIES", "proxy." + "x" * 64),
        ("TRUSTED_PROXIES", "x" * 64 + ".proxy"),
        ("HOST", ""),
    ],
)
def test_a_wrong_value_is_refused_naming_all(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    (line,) = problems(monkeypatch, **{name: value})
    assert line.startswith(f"DERMASERVE_{name}: expected ")
    assert line.endswith(f"got {value!r}")


def test_limits_that_contradict_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = problems(monkeypatch, MAX_UPLOAD_MEMORY="2000", MAX_BODY_BYTES="3000")
    assert (
        line == "DERMASERVE_MAX_UPLOAD_MEMORY: expected at least DERMASERVE_MAX_BODY_BYTES (3000), got 2000"
    )


def test_all_problems_are_told_at_once_unknown_names_too(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = problems(monkeypatch, PROT="1", PORT="x", HAM10000="/data", ZZZ="1")
    assert [line.split(":")[0] for line in lines] == ["DERMASERVE_PROT", "DERMASERVE_ZZZ", "DERMASERVE_PORT"]
    assert "did you mean DERMASERVE_PORT?" in lines[0]
    assert "known are DERMASERVE_ALLOW_ANONYMOUS" in lines[1]


KUBERNETES = {
    "DERMASERVE_PORT": "tcp://10.96.0.17:80",
    "DERMASERVE_SERVICE_HOST": "10.96.0.17",
    "DERMASERVE_SERVICE_PORT": "80",
    "DERMASERVE_SERVICE_PORT_HTTP": "80",
    "DERMASERVE_PORT_80_TCP": "tcp://10.96.0.17:80",
    "DERMASERVE_PORT_80_TCP_PROTO": "tcp",
    "DERMASERVE_PORT_80_TCP_PORT": "80",
    "DERMASERVE_PORT_80_TCP_ADDR": "10.96.0.17",
    "DERMASERVE_OPERATIONS_PORT": "tcp://[fd00::11]:9100",
    "DERMASERVE_OPERATIONS_SERVICE_HOST": "fd00::11",
    "DERMASERVE_OPERATIONS_PORT_9100_TCP": "tcp://[fd00::11]:9100",
}
"""As in a pod beside the Services ``dermaserve`` and ``dermaserve-operations``."""


def test_variables_that_kubernetes_sets_for_a_service_are_no_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.port, settings.operations_port) == (8000, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "tcp://10.96.0.17"),
        ("PORT", "tcp://10.96.0.17:80/"),
        ("PORT", "tcp://10.96.0.17:80 "),
        ("PORT", "tcp://10.96.0.17:65536"),
        ("PORT", "tcp://user@10.96.0.17:80"),
        ("PORT", "tcp://dermaserve:80"),
        ("PORT", "http://10.96.0.17:80"),
        ("PORT", "10.96.0.17:80"),
        ("PORT", ""),
        ("HOST", ""),
        ("DEVICE", "tcp://10.96.0.17:80"),
        ("MAX_QUEUE_SIZE", "tcp://10.96.0.17:80"),
        ("SERVICE_HOST", "dermaserve"),
        ("SERVICE_PORT", "0"),
        ("PORT_80_TCP", "80"),
        ("PORT_80_TCP_PROTO", "http"),
        ("PORTS", "tcp://10.96.0.17:80"),
    ],
)
def test_no_other_value_passes_for_one_of_kubernetes(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    (line,) = problems(monkeypatch, **{name: value})
    assert line.startswith(f"DERMASERVE_{name}: ")


def files(root: Path, **contents: str) -> Path:
    for name, content in contents.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({}, 64),
        ({"sys__fs__cgroup__cpu_DOT_max": "max 100000\n"}, 64),
        ({"sys__fs__cgroup__cpu_DOT_max": "250000 100000\n"}, 3),
        ({"sys__fs__cgroup__cpu_DOT_max": "10000 100000\n"}, 1),
        (
            {
                "proc__self__cgroup": "0::/pod/box\n",
                "sys__fs__cgroup__pod__cpu_DOT_max": "200000 100000",
                "sys__fs__cgroup__pod__box__cpu_DOT_max": "max 100000",
            },
            2,
        ),
        pytest.param(
            {
                "sys__fs__cgroup__cpu__cpu_DOT_cfs_quota_us": "400000\n",
                "sys__fs__cgroup__cpu__cpu_DOT_cfs_period_us": "100000\n",
            },
            4,
            id="RHEL 8: cgroup v1 with a quota",
        ),
        pytest.param(
            {
                "sys__fs__cgroup__cpu__cpu_DOT_cfs_quota_us": "-1\n",
                "sys__fs__cgroup__cpu__cpu_DOT_cfs_period_us": "100000\n",
            },
            64,
            id="RHEL 8: cgroup v1 without one",
        ),
    ],
)
def test_threads_follow_the_containers_quota(tmp_path: Path, contents: dict[str, str], expected: int) -> None:
    assert usable_cpus(files(tmp_path, **contents)) == expected
