"""docs/configuration.md says what the dataclasses say, and they say all."""

from dataclasses import dataclass

import pytest

from din_model.config import Section
from docs import configuration


@dataclass(frozen=True)
class Base(Section):
    """A section.

    Attributes:
        first: told here, over
            two lines.
    """

    first: int = 0


@dataclass(frozen=True)
class Silent(Base):
    """One whose key ``second`` nobody explains."""

    second: int = 0


@dataclass(frozen=True)
class Outlived(Base):
    """One that explains what is gone.

    Attributes:
        third: not there any more.
    """


def test_the_page_is_generated_from_the_dataclasses():
    assert configuration.page() == configuration.PAGE.read_text(), "run: make docs"


def test_meaning_comes_from_the_section_and_those_it_extends():
    assert configuration.explained(Base) == {"first": "told here, over two lines."}


@pytest.mark.parametrize(("section", "key"), [(Silent, "second"), (Outlived, "third")])
def test_key_and_meaning_go_together(section, key):
    with pytest.raises(LookupError, match=f"{section.__name__}: .*'{key}'"):
        configuration.explained(section)
