"""Secrets: what is one, and a text without them.

Every error message, console line and text for MLflow passes ``masked``. Passwords that stand in the
configuration itself are refused (``holds_secret``), because the configuration is logged with every
run. Standard library only.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

USER_INFO = re.compile(r"(://[^\s:/@]*?)(?::|%3[Aa])(?!\d+/)([^\s\"<>]{0,4000})@")
"""``://user:password@``; the password may hold slashes. A port and a path are none."""

TOKEN = re.compile(r"(https?://)([^\s:/@?#]+)@")
"""``https://token@``, as some servers take it."""

WORD = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?|sig|signature"
    r"|(?:api|access|account|private|secret)[._-]?key)"
)
KEYED = re.compile(
    rf"(?i)((?<![a-z]){WORD}|(?:password|secret)\w*)(\s*(?:=|%3D)\s*)(?!\s|\*\*\*|\$\{{)"
    r"('[^']*'|[^\s&;,'\"]+)"
)
"""``password=…``, in the query of an address and in ``key=value`` texts of database drivers."""

QUOTED = re.compile(rf"(?i)([\"'][\w.-]*{WORD}[\"']\s*:\s*)([\"'])(?!\*\*\*|\$\{{)([^\"']+)\2")
"""``"password": "…"``, as servers repeat what they were sent."""

HEADER = re.compile(
    r"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?\w+\s+|bearer\s+(?=\S*\d))([\w+/.~-]{8,}=*)"
)
"""``Authorization: Basic …``, ``Bearer …``."""

ORACLE = re.compile(r"(?i)(:thin:[^\s/@:]+)/([^\s@]+)@")
"""``jdbc:oracle:thin:user/password@host``."""

SECRET_KEY = re.compile(rf"(?i)(?:^|[._-]|(?<=[a-z])(?=[A-Z])){WORD}(?:$|[._-])|password|secret")
"""Names of settings whose whole value is a secret."""

VARIABLE = re.compile(r"\$\{\w+\}")

SHORT = 8
"""Remembered values of fewer letters are masked as whole words only."""

LEAST = 4
"""Values of fewer letters are no secrets; to mask them would spoil numbers and words."""

_values: dict[str, str] = {}


def remember_environment(variables: Mapping[str, str]) -> None:
    """Mask the values of variables that are called like a secret, such as PGPASSWORD."""
    for name, value in variables.items():
        if SECRET_KEY.search(name) and len(value) >= SHORT and name not in ("PWD", "OLDPWD"):
            remember(name, value)


def remember(name: str, value: str) -> None:
    """Mask a value of the environment from now on; it is written as ``${NAME}``."""
    for text in {value, quote(value), quote(value, safe=""), quote_plus(value), unquote(value)}:
        if len(text) >= LEAST:
            _values[text] = f"${{{name}}}"


def masked(text: str) -> str:
    """Return a text without passwords and without remembered values."""
    for value, name in sorted(_values.items(), key=lambda pair: -len(pair[0])):
        pattern = re.escape(value)
        if len(value) < SHORT:
            pattern = rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])"
        text = re.sub(pattern, lambda _, name=name: name, text)  # type: ignore[misc]
    text = USER_INFO.sub(r"\1:***@", text)
    text = TOKEN.sub(r"\1***@", text)
    text = ORACLE.sub(r"\1/***@", text)
    text = QUOTED.sub(r"\1\2***\2", text)
    text = HEADER.sub(r"\1***", text)
    return KEYED.sub(r"\1\2***", text)


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


def remember_passwords(name: str, address: str) -> None:
    """Mask the passwords of an address also where they stand without it."""
    for secret in _passwords(address):
        remember(name, secret)


def _passwords(text: str) -> list[str]:
    found = [match[2] for match in USER_INFO.finditer(text)]
    for written in {text, unquote(text)}:
        found += [match[2] for match in (*USER_INFO.finditer(written), *TOKEN.finditer(written))]
        found += [match[2] for match in (*ORACLE.finditer(written), *HEADER.finditer(written))]
        found += [match[3] for match in (*KEYED.finditer(written), *QUOTED.finditer(written))]
    return found
