"""docs/tutorial.md works as it stands: its files, then its commands, one after the other."""

import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from din_model.registry import tracking, versions
from din_model.registry.tracking import TrackingConfig
from pipelines.store.store import Store
from tests.nights import environment

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_tutorial_leads_to_a_scored_table_and_back(tmp_path, monkeypatch):
    env = environment()
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    said = []
    for language, word, text in BLOCK.findall(PAGE.read_text()):
        if (language, word) != ("sh", "run"):
            (tmp_path / word).write_text(text)
            continue
        done = subprocess.run(
            ["sh", "-e"], input=text, cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    assert len(said) == 7
    assert "user_id is missing or of the wrong type" in said[2]
    assert "gate: promoted" in said[3]
    assert "over the base rate" in said[3]
    assert "explanations" in said[4]
    assert "champion was version 2, is version 1" in said[6]

    store = Store(str(tmp_path / "out/mine"))
    scores = [store.manifest("scores", date(2026, 11, day)) for day in (21, 22)]
    assert [s.facts["version"] for s in scores] == [1, 1]
    assert {s.rows for s in scores} == {1800}
    table = pd.read_parquet(tmp_path / "out/mine/scores/date=2026-11-22")
    assert len(table) == 1800
    assert set(table["model_version"]) == {1}
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.connect(TrackingConfig(), store.url)
    assert versions.champion("din") == 1
