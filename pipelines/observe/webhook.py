"""Calls a webhook, such as Slack's, when a night is held back or fails."""

from html import escape
from urllib.parse import urlsplit

import requests

from din_model import masking
from din_model.config import expand
from pipelines.observe.night import NightRecord, reason

TIMEOUT = 5.0
"""Seconds that the server may take to connect, and to answer."""

WORDS = {"held_back": "is held back", "stopped": "is stopped by the gate", "failed": "has failed"}


def address(variable: str) -> str:
    """Return the URL in a ``${VARIABLE}``, and mask it from now on.

    Its path and its query are masked also where they stand alone, as in errors of connections.

    Raises:
        InputError: the variable is not set.
    """
    url = expand(variable)
    parts = urlsplit(url)
    for part in (parts.path, parts.query):
        masking.remember(variable[2:-1], part)
    return url


def message(night: NightRecord, error: BaseException) -> str:
    """Return one line: the model, the date, what happened, and what to do."""
    return f"{night.model}: the night of {night.day} {WORDS[night.state]}: {reason(error)}"


def post(url: str, text: str) -> None:
    """Send a text as ``{"text": …}``, with ``&``, ``<`` and ``>`` escaped, as Slack requires.

    Raises:
        requests.RequestException: the server cannot be reached, or refuses.
    """
    body = {"text": escape(masking.masked(text), quote=False)}
    # A redirected POST would be sent as a GET. The body of the answer is not read.
    with requests.post(
        url, json=body, timeout=TIMEOUT, allow_redirects=False, stream=True
    ) as answer:
        if not 200 <= answer.status_code < 300:
            raise requests.HTTPError(f"the server answered {answer.status_code}")
