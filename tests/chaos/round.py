"""One round of a campaign: what a fault can use, and how it reports."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.chaos.job import Setting
from tests.chaos.services import Services
from tests.chaos.stage import Stage


class UnavailableError(Exception):
    """This machine cannot produce a fault, so the round is skipped and reported as skipped."""


@dataclass(frozen=True)
class Round:
    """The stores, services and random numbers of a fault."""

    stage: Stage
    services: Services
    rng: random.Random


Outcome = tuple[Setting, str]
"""How to run the night again, and how the disturbed night ended."""


Fault = Callable[[Round], AbstractContextManager[Outcome]]
