"""Threads that wait do not keep other processes from running."""

import os
import subprocess
import sys

import pytest

LOOKING = """
import os, sys

class Look:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))

sys.meta_path.insert(0, Look())
import jobs.train
"""


@pytest.mark.parametrize(("own", "expected"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_threads_are_told_before_torch_is_loaded_and_the_user_has_the_last_word(own, expected):
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-c", LOOKING]
    done = subprocess.run(
        command, env=environment | own, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {expected}
