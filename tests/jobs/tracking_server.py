"""A real MLflow tracking server: a process of its own, before PostgreSQL and a folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.din_model.conftest import free_port
from tests.nights import environment


@contextmanager
def tracking_server(folder: Path, backend: str, secrets: dict[str, str]) -> Iterator[str]:
    """The server's address, once it answers.

    Artifacts lie in ``folder/artifacts``, which clients reach through the server alone. What it
    says is in ``folder/tracking.log``.

    Args:
        folder: where artifacts and the log are.
        backend: address of the database for runs and models, as SQLAlchemy writes it.
        secrets: what the database asks for, as variables of the server's environment.
    """
    port = str(free_port())
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend,
        "--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"),
        "--host", "127.0.0.1", "--port", port, "--workers", "1",
    ]  # fmt: skip
    env = environment() | secrets
    env |= {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # or processes that nothing here needs
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    url = f"http://127.0.0.1:{port}"
    with serving(command, env, url, folder / "tracking.log"):
        yield url


@contextmanager
def serving(command: Sequence[str], env: dict[str, str], url: str, log: Path) -> Iterator[None]:
    """Run a server of MLflow's in the folder of its log, from its first answer on."""
    with log.open("w") as out, subprocess.Popen(
        command, env=env, cwd=log.parent, stdout=out, stderr=out, start_new_session=True
    ) as process:  # fmt: skip
        try:
            _await_answer(url, process, log)
            yield
        finally:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(process.pid, signal.SIGKILL)  # with uvicorn, its child


def _await_answer(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the server is well; making its tables takes it some seconds."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(f"{url}/health", timeout=5):
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise TimeoutError(f"the server never answered:\n{log.read_text()}")
