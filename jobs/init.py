"""Propose a configuration from the columns of a log and a sample of its rows.

    din init logs/impressions [logs/items.csv …] [--name shop]

The first log is that of impressions, with a click flag, or of clicks; further ones are attributes
of items or users. A log is a file, a folder or a pattern of Parquet, JSON or CSV files; files with
the same columns are one log. NAME.yaml holds the guesses, each with its reason; --user, --item,
--time and --label name the columns that were not guessed right. Nothing is built: din check shows
what the configuration makes of the logs.
"""

import argparse
from pathlib import Path

from din_model.console import console
from din_model.errors import InputError
from jobs.cli import reported
from pipelines.ingest.log_sample import sample_logs
from pipelines.ingest.proposal import propose, render

ROLES = ("user", "item", "time", "label")


def run() -> None:
    """Read the command line, and write the proposal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("logs", nargs="+", metavar="LOG")
    parser.add_argument("--name", default="my", help="of the file, the store and the model")
    for role in ROLES:
        parser.add_argument(f"--{role}", metavar="COLUMN")
    words = parser.parse_args()
    target = Path(f"{words.name}.yaml")
    if target.exists():
        raise InputError(f"{target}: exists already: choose another --name, or remove it")
    log, *tables = sample_logs(words.logs)
    proposal = propose(log, tables, {role: getattr(words, role) for role in ROLES})
    target.write_text(render(proposal, words.name), encoding="utf-8")
    label = proposal.label or "none, so negatives are sampled"
    console.print(
        f"  {target}: user {proposal.user}, item {proposal.item}, time {proposal.time.column},"
        f" label {label}, {sum(bool(c.settings) for c in proposal.columns)} features"
    )
    for column in proposal.columns:
        if not column.settings:
            console.print(f"  {column.name} is left out: {column.why}")
    console.print(f"  next: din check --config {target} --date {proposal.last}")


if __name__ == "__main__":
    reported(run)
