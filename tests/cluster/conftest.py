"""An S3 server for the tests of ``make ray-test``."""

from collections.abc import Iterator

import pytest

from tests.cluster.nodes import free_port


@pytest.fixture(scope="session")
def store() -> Iterator[dict[str, str]]:
    """An S3 server with the bucket ``clinic``; the variables that lead to it, which are also set."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="clinic")
        yield variables
    server.stop()
