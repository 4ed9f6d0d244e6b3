"""The project as executors get it: a wheel, installed into an environment that is packed.

The packages that the project needs are gigabytes and are not packed along: the environment finds
those of this interpreter. What is installed there in development mode it does not see, so it knows
the project from the wheel alone.
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("din_model", "pipelines", "jobs")


def wheel(folder: Path) -> Path:
    """Build the wheel, from a copy: a build leaves files behind, and takes up those it finds."""
    sources = folder / "sources"
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, sources / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, sources)
    # What the build needs is in the environment of the tests: torch asks for it too.
    _pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(sources))
    (built,) = folder.glob("*.whl")
    return built


def installed(wheel: Path, folder: Path) -> Path:
    """Install the wheel into a new virtual environment; return the folder it was installed to."""
    venv.create(folder, symlinks=True)
    version = "python{}.{}".format(*sys.version_info)
    packages = folder / "lib" / version / "site-packages"
    _pip("install", "--no-deps", "--no-compile", "--target", str(packages), str(wheel))
    # A path in a .pth file is searched for packages, and its own .pth files are not read.
    (packages / "beside.pth").write_text(sysconfig.get_path("purelib"))
    return packages


def packed(environment: Path) -> Path:
    """Pack a virtual environment, for ``spark.archives``."""
    return Path(shutil.make_archive(str(environment), "gztar", environment))


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
