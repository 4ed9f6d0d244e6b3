"""What the tests share that run random cases."""

from hypothesis import HealthCheck, Phase, settings

from din_model.console import printable
from pipelines.failures import LONGEST, one_line

FEW = 60
"""Largest number of cases with a fixed seed; runs of more cases draw new ones each time."""


def profile(cases: int, shrink: bool = True) -> settings:
    """Return the settings of a run; ``shrink`` a failing case if a case takes milliseconds."""
    return settings(
        max_examples=cases,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        deadline=None,
        database=None,
        derandomize=cases <= FEW,
        suppress_health_check=list(HealthCheck),
    )


def require_one_line(error: Exception) -> None:
    """Raise an error again that a job would end with a stack trace for."""
    line = one_line(error)
    if line is None:
        raise error
    assert len(printable(line).splitlines()) == 1, line
    assert len(line) <= LONGEST, line
