"""A real Spark cluster on this machine: a master and two workers, each a process of its own."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyspark

from tests.nights import environment

SPARK = Path(pyspark.__file__).parent
DEPLOY = "org.apache.spark.deploy"


@contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[str]:
    """The master's address; the workers have a core each and are ready."""
    with ExitStack() as stack:

        def start(name: str, *words: str) -> Path:
            log = folder / f"{name}.log"
            command = [str(SPARK / "bin" / "spark-class"), *words]
            env = environment() | {"SPARK_DAEMON_MEMORY": "512m", "SPARK_LOCAL_IP": "127.0.0.1"}
            process = stack.enter_context(
                subprocess.Popen(command, env=env, stderr=log.open("w"), stdout=subprocess.DEVNULL)
            )
            stack.callback(process.kill)
            return log

        master = start(
            "master", f"{DEPLOY}.master.Master", "--host", "127.0.0.1", "--port", "0",
            "--webui-port", "0",
        )  # fmt: skip
        address = said(master, r"Starting Spark master at (spark://\S+)")
        for n in range(workers):
            worker = start(
                f"worker-{n}", f"{DEPLOY}.worker.Worker", "--host", "127.0.0.1", "--cores", "1",
                "--memory", "1g", "--webui-port", "0", "--work-dir", str(folder / f"work-{n}"),
                address,
            )  # fmt: skip
            said(worker, r"Successfully registered with master (\S+)")
        yield address


def said(log: Path, pattern: str) -> str:
    """Wait until a log holds the pattern; return its group."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise TimeoutError(f"{log} never said {pattern}:\n{log.read_text()}")
