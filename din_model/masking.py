"""Secrets: what is one, and a text without them.

Every error message, console line and text for MLflow passes ``masked``. Passwords that stand in the
configuration itself are refused (``holds_secret``), because the configuration is logged with every
run. Standard library only.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

REST = r"([^\s\"<>]{0,4000})@"  # may hold slashes, colons and ``@``

USER_INFO = re.compile(rf"://[^\s:/@]*(?:@[^\s:/@]+)?(?::|%3[Aa])(?!\d+(?:[/?#\s]|$)){REST}")
"""``://user:password@``. A port and a path are none."""

DATABASE = re.compile(
    r"(?i)\b(?:postgres\w*|mysql|mariadb|mssql|sqlserver|oracle|rediss?|amqps?|mongodb)(?:\+\w+)*"
    rf"://[^\s:/]*:(?!\d+(?:/[^/@:?]*)?\?){REST}"
)
"""The same where a path holds no ``@``: the password may begin like a port."""

BUCKET = re.compile(rf"\b(?:s3[an]?|gs|oss|cosn?|obs)://(?=[^\s/@]*[A-Z])[^\s:/@]+[:/]{REST}")
"""``s3://KEY/SECRET@bucket``. The name of a bucket holds no capital letters."""

TOKEN = re.compile(r"https?://([^\s:/@?#]+)@")
"""``https://token@``, as some servers take it."""

ORACLE = re.compile(r"(?i):thin:[^\s/@:]+/([^\s@]+)@")
"""``jdbc:oracle:thin:user/password@host``."""

HEADER = re.compile(
    r"(?i)(?:\bauthorization[\"']?\s*[:=]\s*[\"']?\w+\s+|\bbearer(?:\s+|%20|\+)(?=\S*\d)"
    r"|\b[\w-]{0,40}(?:-token|api-key|-secret)\s*:\s*|--[\w-]{0,40}(?:password|token|secret)\s+)"
    r"([\w+/.~-]{6,}=*)"
)
"""``Authorization: Basic …``, ``Bearer …``, ``X-Api-Key: …``, ``--password …``."""

QUERY = re.compile(r"(?i)[?&](?:auth|key|code|sas|pw|pass|hmac)=([^\s&;'\"]+)")
"""Words that name a secret in the query of an address only."""

PATTERNS = (USER_INFO, DATABASE, BUCKET, TOKEN, ORACLE, HEADER, QUERY)

LONG_WORD = (
    r"(?:token|credentials?|signature|passphrase|passcode|pwd"
    r"|(?:api|access|account|private|secret|encryption|shared|signing|storage)[._-]?key)"
)
WORD = rf"(?:{LONG_WORD}|pass|sig|jwt|cookie|authorization|azure[._]sas)"

SECRET_KEY = re.compile(
    rf"(?i:(?:^|[._-]){WORD}(?:$|[._-])|{LONG_WORD}$|password|passwd|secret)"
    rf"|(?<=[a-z0-9])(?=[A-Z])(?i:{WORD})(?:$|[._-]|(?=[A-Z]))"
)
"""Names of settings whose whole value is a secret."""

KEY = re.compile(
    r"(?:(?<![\w.%-])|(?<=%[0-9A-Fa-f]{2}))-*([A-Za-z_][\w.-]*)\s*(?:=|%3[Dd])\s*"
    r"|([\"'])([A-Za-z_][\w.-]*)\2\s*:\s*"
)
"""``password=``, in addresses and texts of database drivers; ``"password":``, in JSON."""

VALUE = re.compile(
    r"'((?:[^'\\]|\\.|'')*)'|\"((?:[^\"\\]|\\.|\"\")*)\"|\{([^{}]*)\}|(['\"]?[^\s&;'\"]+)"
)

ADDRESS = re.compile(r"\s*[\w+.-]+://[^:/@]*:(?!\d+(?:[/?#\s]|$))(.+)@", re.DOTALL)
"""A text that is an address and nothing else: its password may hold blanks too."""

VARIABLE = re.compile(r"\$\{\w+\}")

SHORT = 8
"""Remembered values of fewer letters are masked as whole words only."""

LEAST = 4
"""Values of fewer letters are no secrets; to mask them would spoil numbers and words."""

_values: dict[str, str] = {}


def remember_environment(variables: Mapping[str, str]) -> None:
    """Mask the values of variables that are called like a secret, such as PGPASSWORD."""
    for name, value in variables.items():
        is_word = len(value) < SHORT and (value.isalpha() or value.isdigit())  # as ``true`` is
        if SECRET_KEY.search(name) and name not in ("PWD", "OLDPWD") and not is_word:
            remember(name, value)


def remember(name: str, value: str) -> None:
    """Mask a value of the environment from now on; it is written as ``${NAME}``."""
    quoted = {quote(value), quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1]}
    for text in {value, unquote(value)} | quoted:
        if len(text) >= LEAST:
            _values[text] = f"${{{name}}}"


def masked(text: str) -> str:
    """Return a text without passwords and without remembered values."""
    for value, name in sorted(_values.items(), key=lambda pair: -len(pair[0])):
        pattern = re.escape(value)
        if len(value) < SHORT:
            pattern = rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])"
        flags = re.IGNORECASE if "%" in value else 0  # %2b is %2B
        text = re.sub(pattern, lambda _, name=name: name, text, flags=flags)
    parts, done = [], 0
    for start, end in sorted(_secrets(text)):
        if end > done and not VARIABLE.fullmatch(text, start, end):
            parts += [text[done:start], "***"] if start >= done else []
            done = end
    return "".join(parts) + text[done:]


def masked_values(data: Any) -> Any:
    """Return plain data with every text masked, keys excepted."""
    if isinstance(data, dict):
        return {key: masked_values(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [masked_values(value) for value in data]
    return masked(data) if isinstance(data, str) else data


def holds_secret(text: str) -> bool:
    """Return whether an address, path or setting holds a password that is no ``${VARIABLE}``."""
    return any(VARIABLE.sub("", secret) for secret in _passwords(text))


def names_secret(text: str) -> bool:
    """Return whether one of its ``${VARIABLE}`` is called like a secret."""
    return any(SECRET_KEY.search(variable[2:-1]) for variable in VARIABLE.findall(text))


def remember_passwords(name: str, address: str) -> None:
    """Mask the passwords of an address also where they stand without it."""
    for secret in _passwords(address):
        remember(name, secret)


def _passwords(text: str) -> list[str]:
    written = {text, unquote(text)}
    found = [each[start:end] for each in written for start, end in _secrets(each)]
    return found + [match[1] for match in [ADDRESS.match(text)] if match]


def _secrets(text: str) -> Iterator[tuple[int, int]]:
    """Yield where secrets begin and end; they may overlap."""
    for pattern in PATTERNS:
        for match in pattern.finditer(text):
            yield match.span(1)
    done = 0
    for key in KEY.finditer(text):
        is_secret = key.start() >= done and SECRET_KEY.search(key[1] or key[3])
        if is_secret and (value := VALUE.match(text, key.end())):
            done = value.end()
            yield value.span(value.lastindex or 0)
