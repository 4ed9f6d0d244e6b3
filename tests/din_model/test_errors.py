"""Errors that a person can fix: one line, without secrets."""

import pytest
from pyarrow.lib import ArrowInvalid

from din_model import masking
from din_model.errors import InputError, reading


@pytest.mark.parametrize("error", [ArrowInvalid, OSError])
def test_a_file_that_cannot_be_read_is_named_with_the_first_line_of_the_reason(error):
    with pytest.raises(InputError) as caught, reading("s3://b/date=2026-11-22/0.parquet"):
        raise error("no magic bytes\nat the end")
    assert str(caught.value) == (
        "s3://b/date=2026-11-22/0.parquet: cannot be read (no magic bytes): restore the file, or"
        " build its date again"
    )


def test_a_bug_while_reading_keeps_its_type():
    with pytest.raises(KeyError), reading("file:///0.parquet"):
        raise KeyError("column")


def test_a_message_masks_secrets():
    masking.remember("TOKEN", "hunter2hunter2")
    assert "hunter2" not in str(InputError("no access with hunter2hunter2"))
