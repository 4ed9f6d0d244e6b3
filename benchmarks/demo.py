"""The demo's configuration, with its logs and its store in the folder of a benchmark."""

from collections.abc import Callable, Sequence
from pathlib import Path

from din_model.config import load
from jobs.cli import Settings

DEMO = Path(__file__).parents[1] / "conf" / "demo.yaml"


def demo_settings(
    folder: Path, overrides: Sequence[str], edit: Callable[[str], str] = str
) -> Settings:
    """Load conf/demo.yaml with logs in ``folder``/logs and a store in ``folder``/store.

    Args:
        folder: is created.
        overrides: as on the command line of a job.
        edit: changes the text of the configuration, for what an override cannot do: remove a key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo.yaml"
    path.write_text(edit(DEMO.read_text().replace("out/demo", str(folder))))
    return load(Settings, [str(path)], overrides)
