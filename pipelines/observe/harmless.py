"""Keeps an error of watching a job from changing how the job ends."""

from collections.abc import Iterator
from contextlib import contextmanager

from din_model.console import console


@contextmanager
def harmless(key: str) -> Iterator[None]:
    """Print an error of the block as one warning that names the configuration key."""
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        console.print(f"  warning: {key}: {text}", style="yellow")
