"""Three services behind HAProxy with the configuration of deploy/haproxy: ``make proxy-test``.

Not collected by the suite: it needs HAProxy, curl and openssl, and takes two minutes.
"""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deploy.haproxy import Proxy, Replicas, make_certificate
from tests.long.crowd import HEAD, Crowd
from tests.long.good_requests import Sample, samples_of
from tests.service.app_client import wait_for
from tests.service.conftest import JPEG, assert_problem
from training.markdown import table

_QUIET = 1.0
"""Seconds of load between two events."""

_CLIENTS = 8


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder


@pytest.fixture(autouse=True)
def trusted(tls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """httpx trusts the certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls / "ca.pem"))


@pytest.fixture
def bundle(shipped_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped_bundle, tmp_path / "bundle"))


@pytest.fixture
def replicas(tmp_path: Path, bundle: Path) -> Iterator[Replicas]:
    """Three, which listen but may not be ready yet. Each infers on one thread."""
    with Replicas(tmp_path, bundle, DRAIN_PAUSE=4, INFERENCE_WORKERS=1, DECODE_WORKERS=2) as replicas:
        replicas.start(3)
        yield replicas


@pytest.fixture
def proxy(tmp_path: Path, tls: Path, replicas: Replicas) -> Iterator[Proxy]:
    with Proxy(tmp_path, tls / "dermaserve.pem", replicas.names, replicas.port) as proxy:
        proxy.wait_up(*replicas.running)
        yield proxy
    print(proxy.log()[-3000:])


@pytest.fixture
def samples(proxy: Proxy) -> list[Sample]:
    return samples_of(proxy.url)


def show(name: str, crowd: Crowd) -> None:
    print("", *table(["", *HEAD], [[name, *crowd.row()]]), *crowd.reasons(), sep="\n")


def test_stopping_and_replacing_replicas_fails_no_request(
    proxy: Proxy, replicas: Replicas, samples: list[Sample]
) -> None:
    with Crowd(proxy.url, samples, clients=_CLIENTS) as crowd:
        for address in tuple(replicas.running):
            time.sleep(_QUIET)
            assert replicas.end(address, signal.SIGTERM) == 0
            replicas.start()
            proxy.wait_up(*replicas.running)
        time.sleep(_QUIET)
    show("SIGTERM", crowd)
    assert not crowd.failed
    assert sum(asked.waits for asked in crowd.asked) == 0


def test_killing_replicas_fails_only_what_they_were_working_on(
    proxy: Proxy, replicas: Replicas, samples: list[Sample]
) -> None:
    kills: list[float] = []
    with Crowd(proxy.url, samples, clients=_CLIENTS) as crowd:
        for address in tuple(replicas.running):
            time.sleep(_QUIET)
            kills.append(time.monotonic())
            assert replicas.end(address, signal.SIGKILL) == -signal.SIGKILL
            replicas.start()
            proxy.wait_up(*replicas.running)
        time.sleep(_QUIET)
    show("SIGKILL", crowd)
    assert sum(asked.waits for asked in crowd.asked) == 0
    for asked in crowd.failed:
        began = asked.ended - asked.seconds
        assert any(began < kill < asked.ended for kill in kills), asked
    # Each at the replica that was killed.
    failed = re.findall(r" S\S (?:502|-1) POST .* (replica\d+) \S+$", proxy.log(), re.MULTILINE)
    assert len(failed) == len(crowd.failed)
    assert len(set(failed)) <= len(kills)
