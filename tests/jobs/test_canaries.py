"""No secret of the configuration or environment leaves a job, whatever ends it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from tests.jobs.tracking_server import tracking_server
from tests.nights import NIGHTS, SMALL, demo, environment

CORE = "CANARY"
"""What every secret holds, however it is quoted."""

VARIABLES = {
    "DIN_LOGS": f"{CORE}-of-logs",
    "DIN_OPTION": f"{CORE}/of+option",
    "DIN_TOKEN": f"{CORE} of token",
    "PGPASSWORD": f"{CORE}-of-postgres",
    "AWS_SECRET_ACCESS_KEY": f"{CORE}-of-aws",
}
SECRET_OPTIONS = "{fs.s3a.secret.key: '${DIN_OPTION}', fs.s3a.access.key: '${DIN_TOKEN}'}"


class Jobs:
    """Jobs with secrets in every place that the configuration allows, and what they printed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.printed = folder, ""
        logs = f"{folder}/out/demo/logs"
        text = Path(demo(folder)).read_text()
        text = text.replace(f"path: {logs}\n", f"path: {folder}/generated\n")  # then moved
        text = text.replace(logs, f"{folder}/${{DIN_LOGS}}")
        options = f"    format: json\n    options: {SECRET_OPTIONS}\n"
        (folder / "demo.yaml").write_text(text.replace("    format: json\n", options, 1))
        (folder / "tmp").mkdir()

    def run(self, job: str, *words: str, tracking: str = "") -> subprocess.CompletedProcess[str]:
        env = environment() | VARIABLES
        env |= {"TMPDIR": str(self.folder / "tmp"), "MLFLOW_TRACKING_URI": tracking}
        env |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
        command = [sys.executable, "-m", f"jobs.{job}", "--config", str(self.folder / "demo.yaml")]
        done = subprocess.run(
            [*command, *SMALL, *words], env=env, cwd=self.folder, capture_output=True, text=True
        )
        self.printed += done.stdout + done.stderr
        return done

    def texts(self) -> Iterator[tuple[str, bytes]]:
        """What the jobs printed and wrote, except for the logs themselves."""
        yield "output", self.printed.encode()
        for path in self.folder.rglob("*"):
            if path.is_file() and self.folder / VARIABLES["DIN_LOGS"] not in path.parents:
                yield str(path.relative_to(self.folder)), path.read_bytes()
                if path.suffix == ".parquet":
                    columns = pq.ParquetFile(path).read().to_pydict()
                    yield f"rows of {path}", str(columns).encode()

    def leaks(self) -> list[str]:
        return [place for place, text in self.texts() if CORE.encode() in text]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> Jobs:
    made = Jobs(tmp_path_factory.mktemp("canaries"))
    done = made.run("generate_logs", tracking="")
    assert done.returncode == 0, done.stderr
    os.rename(made.folder / "generated", made.folder / VARIABLES["DIN_LOGS"])
    return made


def at(server: str) -> str:
    """The address of the server, with a password that must be quoted."""
    return server.replace("://", f"://me:{quote(f'{CORE}/of tracking', safe='')}@")


@pytest.mark.slow
def test_no_secret_leaves_a_night_however_it_ends(jobs):
    with tracking_server(jobs.folder, f"sqlite:///{jobs.folder}/runs.db", {}) as server:
        night = jobs.run("nightly", "--date", str(NIGHTS[0]), tracking=at(server))
        assert night.returncode == 0, night.stderr
        down = "score.postgres={url: 'postgresql://127.0.0.1:1/db?user=me'}"
        undelivered = jobs.run("nightly", "--date", str(NIGHTS[0]), down, tracking=at(server))
        assert undelivered.returncode == 2, undelivered.stderr
        lost = jobs.run("nightly", "--date", "2026-12-24", tracking=at(server))
        assert lost.returncode == 2, lost.stderr
        wrong = "sources.impressions.query=SELECT *, nothing AS user_id FROM raw"
        query = jobs.run("build_sequences", "--date", str(NIGHTS[1]), wrong, tracking=at(server))
        assert query.returncode == 2, query.stderr
    refused = jobs.run("nightly", "--date", str(NIGHTS[1]), "store.path=store/${DIN_TOKEN}")
    assert refused.returncode == 2, refused.stderr
    unreachable = jobs.run("nightly", "--date", str(NIGHTS[1]), tracking=at(server))
    assert unreachable.returncode == 2, unreachable.stderr
    assert "error: tracking: " in unreachable.stderr
    assert jobs.leaks() == []
