"""Run nights with injected faults; check what readers see meanwhile and what a rerun publishes.

    python -m tests.chaos --rounds 30 [--seed 2019] [--work out/chaos] [--only disk_full …]

A round restores yesterday's store, runs tonight's night with one fault (tests/chaos/faults.py), and
runs it again without. It passes if the job ended as it should (with status 0, or with one line and
status 2), readers always saw complete tables, and the rerun published the tables of a night without
faults. The work folder keeps the tally. An interrupted campaign resumes from it, and repeats failed
rounds.
"""

import argparse
import json
import random
import shutil
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.faults import FAULTS, plan
from tests.chaos.round import Fault, Round, UnavailableError
from tests.chaos.services import Services
from tests.chaos.stage import Stage


def play(fault: Fault, at: Round) -> str:
    """Play one round; return how the disturbed night ended.

    Raises:
        AssertionError: a requirement is not met.
        UnavailableError: this machine cannot produce the fault.
    """
    at.stage.restore()
    with fault(at) as (setting, said):
        at.stage.require_complete()
        with at.stage.night(setting) as job:
            job.must_end()
        at.stage.require_undisturbed()
    return said


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = {fault.__name__: fault for fault in FAULTS}
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=2019)
    parser.add_argument("--work", type=Path, default=Path("out/chaos"))
    parser.add_argument("--only", nargs="+", choices=names, help="play only these faults")
    words = parser.parse_args()
    faults = [names[name] for name in words.only] if words.only else FAULTS
    tally = words.work / f"tally-{words.seed}.jsonl"
    stage = Stage(words.work.resolve())
    stage.make_ready()
    with ExitStack() as until_the_end:
        services = Services(stage, until_the_end)
        told = [json.loads(line) for line in tally.open()] if tally.exists() else []
        done = {r["round"]: r for r in told if r["result"] == "passed"}
        for number, fault in enumerate(plan(words.seed, words.rounds, faults), 1):
            if number not in done:
                at = Round(stage, services, random.Random(f"{words.seed} {number}"))
                done[number] = one_round(number, fault, at)
                with tally.open("a") as out:
                    out.write(json.dumps(done[number]) + "\n")
    rounds = [done[number] for number in sorted(done) if number <= words.rounds]
    skipped = [f"{r['fault']} ({r['said']})" for r in rounds if r["result"] == "skipped"]
    if skipped:
        print(f"NOT TRIED: {', '.join(skipped)}")
    passed, failed = (sum(r["result"] == n for r in rounds) for n in ("passed", "failed"))
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def one_round(number: int, fault: Fault, at: Round) -> dict[str, object]:
    """Play a round, print one line about it, and keep the store if it failed."""
    name, began = fault.__name__, time.monotonic()
    try:
        result, said = "passed", play(fault, at)
    except UnavailableError as error:
        result, said = "skipped", str(error)
    except Exception as error:
        result, said = "failed", str(error).strip().splitlines()[0] if str(error) else repr(error)
        kept = at.stage.folder / f"failed-{number}-{name}"
        kept.mkdir(exist_ok=True)
        (kept / "why.txt").write_text(traceback.format_exc())
        if at.stage.store.exists():
            shutil.copytree(at.stage.store, kept / "store", dirs_exist_ok=True)
        said = f"{said}; see {kept}"
    seconds = round(time.monotonic() - began)
    print(f"{number:3} {name:<16} {result:<8} {seconds:>4} s  {said}", flush=True)
    return {"round": number, "fault": name, "result": result, "seconds": seconds, "said": said}


if __name__ == "__main__":
    main()
