"""The command ``din``: each job by a short name.

    din check --config my.yaml --date 2026-11-22

is ``python -m jobs.check`` with the same arguments. ``din`` alone lists the commands.
"""

import ast
import runpy
import sys
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

COMMANDS = {
    "init": "init",
    "generate": "generate_logs",
    "check": "check",
    "build": "build_sequences",
    "train": "train",
    "compare": "compare",
    "nightly": "nightly",
    "score": "score",
    "export": "export",
    "rollback": "rollback",
    "vacuum": "vacuum",
    "erase": "erase",
}
"""Module of ``jobs`` for each command, in the order in which a newcomer needs them."""

FIRST_STEPS = """First steps: propose a configuration for your logs, correct it, look at what it
makes of one date, then run that date's night:

    din init logs/impressions
    din check --config my.yaml --date 2026-11-22
    din nightly --config my.yaml --date 2026-11-22

din COMMAND --help is the manual of a command. Later --config files win over earlier ones, and
section.key=value over all files. eval "$(din completion bash)" completes commands (also: zsh)."""

COMPLETION = {
    "bash": 'complete -o default -W "{words}" din',
    "zsh": 'autoload -U +X compinit && compinit\ncompdef \'_arguments "1:command:({words})"'
    ' "*:file:_files"\' din',
}


def main() -> None:
    """Run the job that the first argument names.

    Exits with status 2 for an unknown command, else with the job's status.
    """
    command, *words = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help", "help"):
        print(manual())
    elif command == "completion" and words and words[0] in COMPLETION:
        print(COMPLETION[words[0]].format(words=" ".join(COMMANDS)))
    elif command in COMMANDS:
        sys.argv = [f"din {command}", *words]
        runpy.run_module(f"jobs.{COMMANDS[command]}", run_name="__main__", alter_sys=False)
    else:
        nearest = get_close_matches(command, COMMANDS, 1)
        hint = f"did you mean {nearest[0]}?" if nearest else "din --help lists the commands"
        sys.stderr.write(f"error: din has no command {command!r}: {hint}\n")
        sys.exit(2)


def manual() -> str:
    """Return what ``din --help`` prints; no job is imported for it, so that it comes at once."""
    lines = [f"  {command:<9} {_summary(module)}" for command, module in COMMANDS.items()]
    return "\n".join(["Usage: din COMMAND --config FILE [--date D] [section.key=value …]", "",
                      *lines, "", FIRST_STEPS])  # fmt: skip


def _summary(module: str) -> str:
    found = find_spec(f"jobs.{module}")
    assert found is not None
    assert found.origin is not None
    manual = ast.get_docstring(ast.parse(Path(found.origin).read_text(encoding="utf-8")))
    assert manual
    return manual.splitlines()[0]
