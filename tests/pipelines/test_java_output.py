"""Java's own messages hold no secrets."""

import subprocess
import sys

from din_model.masking import remember
from pipelines.java_output import masked_stderr


def test_a_process_that_starts_in_the_block_writes_masked_lines(capfd):
    remember("PLACE", "correct-horse")
    code = "import os; os.write(2, b'no s3a://KEY:hunter2@logs/correct-horse\\r\\xff half'); "
    with masked_stderr() as copying:
        subprocess.run([sys.executable, "-c", code], check=True)
    copying.join(60)
    assert not copying.is_alive()
    assert capfd.readouterr().err == "no s3a://KEY:***@logs/${PLACE}\r\ufffd half"
    subprocess.run([sys.executable, "-c", "import os; os.write(2, b'after')"], check=True)
    assert capfd.readouterr().err == "after"


def test_javas_warning_of_incubator_modules_is_dropped(capfd):
    said = "WARNING: Using incubator modules: jdk.incubator.vector\nWARNING: keep this\n"
    code = f"import os; os.write(2, {said.encode()!r})"
    with masked_stderr() as copying:
        subprocess.run([sys.executable, "-c", code], check=True)
    copying.join(60)
    assert capfd.readouterr().err == "WARNING: keep this\n"


def test_nothing_is_lost_of_what_was_written_before_this_process_ends():
    # The process in the block writes, and lives on, longer than the one that reads.
    code = """
import os, subprocess, sys
from pipelines.java_output import masked_stderr
writes = "import os, time; [os.write(2, b'line %d%c' % (n, 10)) for n in range(5000)]; os.close(1)"
with masked_stderr():
    writer = subprocess.Popen(
        [sys.executable, "-c", writes + "; time.sleep(60)"], stdout=subprocess.PIPE)
writer.stdout.read()
import atexit
atexit._run_exitfuncs()
os.kill(writer.pid, 9)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [f"line {n}" for n in range(5000)]


def test_javas_errors_are_masked():
    code = """
from din_model.masking import remember
from pipelines.session import spark_session
remember("PLACE", "correct-horse")
spark = spark_session("x", "UTC", {"spark.driver.memory": "1g"})
spark._jvm.org.apache.log4j.Logger.getLogger("x").error("no s3a://KEY:hunter2@b/correct-horse")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ERROR x: no s3a://KEY:***@b/${PLACE}" in done.stderr
    assert "hunter2" not in done.stderr
