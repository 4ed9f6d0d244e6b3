"""A server that speaks S3, in a process of its own."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start the server, and yield the address of an empty bucket."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, text=True, stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        address = next(found[0] for x in server.stderr if (found := re.search(r"http://\S+", x)))
        # A server that nobody listens to stops once the pipe is full.
        threading.Thread(target=server.stderr.read, daemon=True).start()
        for name, value in {
            "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "key", "AWS_REGION": "eu-central-1",
            "AWS_SECRET_ACCESS_KEY": "secret", "NO_PROXY": "127.0.0.1",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        # A file system that is kept from an earlier test goes on asking that test's server.
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("store")
        yield "s3://store"
        server.terminate()
