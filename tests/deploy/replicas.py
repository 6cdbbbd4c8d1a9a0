"""Three services behind HAProxy with the configuration of deploy/haproxy: ``make proxy-test``.

Not collected by the suite: it needs HAProxy, curl and openssl, and takes two minutes.
"""

import json
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPSConnection
from pathlib import Path

import httpx
import pytest

from tests.deploy.haproxy import Echo, Proxy, Replicas, make_certificate
from tests.long.crowd import HEAD, Crowd
from tests.long.good_requests import Asked, Sample, image_files, references
from tests.service.app_client import wait_for
from tests.service.conftest import JPEG, assert_problem
from tests.tiny_bundle import write_tiny_bundle
from training.markdown import table

_QUIET = 1.0
"""Seconds of load between two events."""

_CLIENTS = 8


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(autouse=True)
def trusted(tls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """httpx trusts the certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls / "ca.pem"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small one: what is tried is the way to it."""
    return write_tiny_bundle(tmp_path / "bundle").path


@pytest.fixture
def replicas(tmp_path: Path, bundle: Path) -> Iterator[Replicas]:
    """Three, which listen but may not be ready yet. Each infers on one thread."""
    with Replicas(tmp_path, bundle, DRAIN_PAUSE=4, INFERENCE_WORKERS=1, DECODE_WORKERS=2) as replicas:
        replicas.start(3)
        yield replicas


@pytest.fixture
def proxy(tmp_path: Path, tls: Path, replicas: Replicas) -> Iterator[Proxy]:
    with Proxy(tmp_path, tls, replicas.names, replicas.port) as proxy:
        proxy.wait_ready(*replicas.running)
        yield proxy
    print(proxy.log()[-3000:])


@pytest.fixture
def samples(proxy: Proxy) -> list[Sample]:
    with httpx.Client(base_url=proxy.url) as client:
        return references(client, image_files(1, None, small=True)[::3])


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
            proxy.wait_ready(*replicas.running)
        time.sleep(_QUIET)
    show("SIGTERM", crowd)
    assert not crowd.failed


def test_killing_replicas_fails_only_what_they_were_working_on(
    proxy: Proxy, replicas: Replicas, samples: list[Sample]
) -> None:
    kills: list[tuple[float, float]] = []  # before the signal, and after the end of the process
    with Crowd(proxy.url, samples, clients=_CLIENTS) as crowd:
        for address in tuple(replicas.running):
            time.sleep(_QUIET)
            before = time.monotonic()
            assert replicas.end(address, signal.SIGKILL) == -signal.SIGKILL
            kills.append((before, time.monotonic()))
            replicas.start()
            proxy.wait_ready(*replicas.running)
        time.sleep(_QUIET)
    show("SIGKILL", crowd)

    def in_flight(asked: Asked) -> bool:
        began = asked.ended - asked.seconds
        return any(began < dead and asked.ended > before for before, dead in kills)

    # On a kept connection, the proxy closes the connection instead of answering with 502.
    assert {asked.status for asked in crowd.failed} <= {0, 502}
    assert [asked for asked in crowd.failed if not in_flight(asked)] == []
    assert [asked for asked in crowd.asked if in_flight(asked) and not asked.wrong], "at the other replicas"


def test_a_new_model_reaches_every_replica_and_fails_no_request(
    proxy: Proxy, replicas: Replicas, bundle: Path, samples: list[Sample]
) -> None:
    manifest = bundle / "manifest.json"
    with Crowd(proxy.url, samples, clients=_CLIENTS) as crowd:
        for number, address in enumerate(tuple(replicas.running), 1):
            time.sleep(_QUIET)
            version = f"9.9.{number}"
            fields = json.loads(manifest.read_text()) | {"version": version}
            fresh = manifest.with_suffix(".new")
            fresh.write_text(json.dumps(fields))
            fresh.replace(manifest)
            replicas.running[address].process.send_signal(signal.SIGHUP)
            url = replicas.running[address].url
            wait_for(lambda: httpx.get(f"{url}/model").json()["version"] == version, 600)  # noqa: B023
        time.sleep(_QUIET)
    show("SIGHUP", crowd)
    assert not crowd.failed
    assert sum(asked.waits for asked in crowd.asked) == 0
    assert proxy.ready() == set(replicas.running)


def test_the_proxy_takes_a_new_certificate_without_failing_a_request(
    proxy: Proxy, tls: Path, samples: list[Sample]
) -> None:
    def serial() -> str:
        shown = subprocess.run(
            f"openssl s_client -connect 127.0.0.1:{proxy.port} </dev/null | openssl x509 -noout -serial",
            shell=True,
            capture_output=True,
            text=True,
            check=True,
        )
        return shown.stdout

    with Crowd(proxy.url, samples, clients=_CLIENTS) as crowd:
        time.sleep(_QUIET)
        before = serial()
        make_certificate(tls.parent, renew=True)
        proxy.process.send_signal(signal.SIGHUP)
        wait_for(lambda: serial() != before, 600)
        time.sleep(_QUIET)
    show("SIGHUP of the proxy", crowd)
    assert not crowd.failed
    assert sum(asked.waits for asked in crowd.asked) == 0


def test_a_reload_of_the_proxy_leaves_an_idle_connection_for_one_more_request(proxy: Proxy) -> None:
    """A client may be sending a request just then, and would lose it."""
    context = ssl.create_default_context()
    with closing(HTTPSConnection("localhost", proxy.port, timeout=60, context=context)) as connection:

        def closes() -> bool:
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            return answer.getheader("connection") == "close"

        assert not closes()
        before = proxy.log().count("Loading success.")
        proxy.process.send_signal(signal.SIGHUP)
        wait_for(lambda: proxy.log().count("Loading success.") > before, 600)
        time.sleep(_QUIET)
        assert closes()


def test_the_proxy_stops_after_the_answers_that_it_owes(proxy: Proxy, samples: list[Sample]) -> None:
    sample, sending = samples[0], threading.Event()

    def slowly() -> Iterator[bytes]:
        half = len(sample.data) // 2
        yield sample.data[:half]
        sending.set()
        time.sleep(1)
        yield sample.data[half:]

    with ThreadPoolExecutor() as pool:
        headers = {"Content-Type": sample.media_type}
        answer = pool.submit(
            httpx.post, f"{proxy.url}/predict", content=slowly(), headers=headers, timeout=60
        )
        assert sending.wait(60)
        proxy.process.send_signal(signal.SIGUSR1)
        assert answer.result().status_code == 200
    assert proxy.process.wait(60) == 0


def test_https_works_with_curl_and_httpx_over_http_1_and_2(
    proxy: Proxy, tls: Path, samples: list[Sample]
) -> None:
    sample = samples[0]
    (tls / "lesion").write_bytes(sample.data)
    found = httpx.post(f"{proxy.url}/predict", files={"file": sample.data}, timeout=60)
    assert found.status_code == 200
    assert "strict-transport-security" not in found.headers  # of localhost, which has other ports
    assert httpx.get(f"https://127.0.0.1:{proxy.port}/").headers["strict-transport-security"]
    for version in ("--http1.1", "--http2"):
        ask = f"curl -sS --fail-with-body {version} --cacert ca.pem -F file=@lesion"
        done = subprocess.run(
            [*ask.split(), "-w", "\n%{http_version}", f"{proxy.url}/predict"],
            cwd=tls,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        body, spoken = done.stdout.rsplit("\n", 1)
        assert spoken == {"--http1.1": "1.1", "--http2": "2"}[version]
        assert json.loads(body)["probabilities"].keys() == sample.answer["probabilities"].keys()


def test_tls_1_1_and_strangers_are_refused(proxy: Proxy, tls: Path) -> None:
    def curl(*options: str | Path) -> int:
        command = ["curl", "-sS", "-o", "/dev/null", *options, f"{proxy.url}/readyz"]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert curl("--cacert", tls / "ca.pem") == 0
    assert curl("--cacert", tls / "ca.pem", "--tls-max", "1.1") == 35  # no common version
    assert curl() == 60  # an authority that this machine does not know


def test_without_a_ready_replica_the_proxy_answers_as_the_service_would(tmp_path: Path, tls: Path) -> None:
    with (
        Replicas(tmp_path, tmp_path) as none,
        Proxy(tmp_path, tls, none.names, none.port) as proxy,
    ):
        answer = httpx.post(f"{proxy.url}/predict", content=b"x", headers=JPEG)
        assert_problem(answer, 503, "not-ready")
        assert answer.headers["retry-after"] == "2"


def test_a_replica_that_dies_at_a_request_is_a_problem_of_the_proxy(tmp_path: Path, tls: Path) -> None:
    with Replicas(tmp_path, tmp_path) as none, Echo("127.84.0.1", none.port):
        none.names.addresses.append("127.84.0.1")
        with Proxy(tmp_path, tls, none.names, none.port) as proxy:
            proxy.wait_ready("127.84.0.1")
            answer = httpx.post(f"{proxy.url}/predict", content=b"x", headers=JPEG)
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_replica_that_does_not_answer_is_a_deadline_that_passed(tmp_path: Path, tls: Path) -> None:
    """After the 40 s of the configuration."""
    with Replicas(tmp_path, tmp_path) as none, Echo("127.84.0.1", none.port):
        none.names.addresses.append("127.84.0.1")
        with Proxy(tmp_path, tls, none.names, none.port) as proxy:
            proxy.wait_ready("127.84.0.1")
            assert_problem(httpx.put(f"{proxy.url}/predict", timeout=600), 504, "deadline-passed")


def test_http_2_carries_ten_requests_at_one_time_over_a_connection(
    proxy: Proxy, tls: Path, samples: list[Sample], tmp_path: Path
) -> None:
    """All forty at once: curl opens another connection when one carries as many as the proxy says."""
    image = tmp_path / "lesion.jpg"
    image.write_bytes(samples[0].data)
    options = (
        f"--cacert {tls / 'ca.pem'} --http2 --fail --silent -H Content-Type:{samples[0].media_type} "
        f"--data-binary @{image} --write-out %{{num_connects}}\\n {proxy.url}/predict"
    )
    requests = " --next ".join(f"--output {tmp_path}/{n} {options}" for n in range(40))
    done = subprocess.run(
        ["curl", "--parallel", "--parallel-max", "40", *requests.split()],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    opened = [int(line) for line in done.stdout.split()]
    assert len(opened) == 40
    assert 1 < sum(opened) < 40
    labels = {json.loads((tmp_path / str(n)).read_bytes())["prediction"]["label"] for n in range(40)}
    assert len(labels) == 1


def test_the_proxy_names_the_client_and_logs_neither_query_nor_key(tmp_path: Path, tls: Path) -> None:
    with Replicas(tmp_path, tmp_path) as none, Echo("127.84.0.1", none.port):
        none.names.addresses.append("127.84.0.1")
        with Proxy(tmp_path, tls, none.names, none.port) as proxy:
            proxy.wait_ready("127.84.0.1")
            claimed = {
                "X-Forwarded-For": "198.51.100.1",
                "Forwarded": "for=198.51.100.1",
                "X-API-Key": "secret",
            }
            seen = httpx.get(f"{proxy.url}/model?age=55", headers=claimed).json()
            assert seen["x-forwarded-for"] == "127.0.0.1"
            assert seen["x-forwarded-proto"] == "https"
            assert seen["x-api-key"] == "secret"
            assert "forwarded" not in seen
            assert httpx.get(f"{proxy.url}/", headers={"X-Padding": 14_000 * "x"}).status_code == 200
            assert httpx.get(f"{proxy.url}/", headers={"X-Padding": 16_384 * "x"}).status_code == 400
            wait_for(lambda: "GET /model " in proxy.log(), 600)
    assert "age" not in proxy.log()
    assert "secret" not in proxy.log()


def test_one_address_cannot_take_all_connections(proxy: Proxy) -> None:
    context = ssl.create_default_context()

    def served(address: str) -> bool:
        try:
            raw = socket.create_connection(("127.0.0.1", proxy.port), timeout=60, source_address=(address, 0))
            with context.wrap_socket(raw, server_hostname="localhost") as connection:
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b" 200 " in connection.recv(1000)
        except OSError:
            return False

    with ExitStack() as held:
        for _ in range(300):
            address = ("127.0.0.1", proxy.port)
            held.enter_context(socket.create_connection(address, source_address=("127.0.0.9", 0)))
        wait_for(lambda: proxy.denied_connections() > 0, 600)
        assert served("127.0.0.8")
    wait_for(lambda: served("127.0.0.9"), 600)
