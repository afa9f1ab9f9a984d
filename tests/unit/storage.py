"""An S3 server on loopback for tests, and the environment in which it is the one that s3:// means."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from kmwatch.fleet import remote

BUCKET = "captures"


@contextmanager
def server() -> Iterator[str]:
    """Its address; all that was stored is forgotten afterwards."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        yield "http://{}:{}".format(*running.get_host_and_port())
    finally:
        running.stop()


def environment(address: str) -> dict[str, str]:
    """What makes programs talk to it, with keys that open nothing."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "hidden-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }


def use(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Talk to it from this process; it has a bucket."""
    import fsspec

    for name, value in environment(address).items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with suppress(FileExistsError):
        remote.opened(f"s3://{BUCKET}")[0].mkdir(BUCKET)
