"""The webhook: what a server receives when a night ends badly, and what it cannot change."""

import socket

import pytest

from din_model.config import build
from din_model.errors import InputError
from pipelines.observe import webhook
from pipelines.observe.watch import ObserveConfig, watched_night
from pipelines.scoring.guards import Breach
from pipelines.training.gate import StoppedError
from tests.pipelines.observe.records import DAY, HELD, server, summary

CONFIG = ObserveConfig(webhook="${DIN_HOOK}")
GATE = "no champion: train on more days"


def ends(config: ObserveConfig, error: BaseException) -> None:
    with watched_night(config, "din", DAY):
        raise error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Breach(HELD), f"is held back: {HELD}"),
        (StoppedError(GATE, summary().decision), f"is stopped by the gate: {GATE}"),
        (InputError("a log is missing:\nadd it"), "has failed: a log is missing: add it"),
        (KeyError("k"), "has failed: a bug (KeyError): start it again, and keep the log"),
        (KeyboardInterrupt(), "has failed: ended by SIGTERM or Ctrl-C: start it again"),
    ],
)
def test_a_night_that_ends_badly_sends_one_line_as_slack_takes_it(monkeypatch, error, text):
    with server() as (url, posts):
        monkeypatch.setenv("DIN_HOOK", url)
        with pytest.raises(type(error)) as raised:
            ends(CONFIG, error)
    assert raised.value is error
    body = {"text": f"din: the night of 2026-11-22 {text}"}
    assert posts == [("/services/T0/hunter2", "application/json", body)]


def test_a_published_night_sends_nothing(monkeypatch, capsys):
    with server() as (url, posts):
        monkeypatch.setenv("DIN_HOOK", url)
        with watched_night(CONFIG, "din", DAY):
            pass
    assert posts == []
    assert capsys.readouterr().out == ""


def test_a_text_holds_no_secret_and_no_mention(monkeypatch):
    with server() as (url, posts):
        monkeypatch.setenv("DIN_HOOK", url)
        with pytest.raises(KeyError):
            ends(CONFIG, KeyError())
        webhook.post(url, f"<!channel> & {url} postgresql://din:pass1word@host/db")
    assert posts[-1][2]["text"] == (
        "&lt;!channel&gt; &amp; ${DIN_HOOK} postgresql://din:***@host/db"
    )


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_server_that_refuses_is_one_warning(monkeypatch, capsys, status):
    with server(status) as (url, posts):
        monkeypatch.setenv("DIN_HOOK", url)
        with pytest.raises(InputError, match="a log is missing"):
            ends(CONFIG, InputError("a log is missing"))
    assert len(posts) == 1
    warning = f"  warning: observe.webhook: the server answered {status}\n"
    assert capsys.readouterr().out == warning


def test_a_server_that_is_down_is_one_warning_without_the_secret(monkeypatch, capsys):
    with server() as (url, _):
        monkeypatch.setenv("DIN_HOOK", f"{url}?hook=swordfish")
    with pytest.raises(InputError, match="a log is missing"):
        ends(CONFIG, InputError("a log is missing"))
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("  warning: observe.webhook: ")
    assert "Connection refused" in line
    assert "hunter2" not in line
    assert "swordfish" not in line


def test_a_server_that_does_not_answer_is_waited_for_only_briefly(monkeypatch, capsys):
    assert webhook.TIMEOUT <= 10
    monkeypatch.setattr(webhook, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DIN_HOOK", f"http://127.0.0.1:{silent.getsockname()[1]}/hunter2")
        with pytest.raises(InputError, match="a log is missing"):
            ends(CONFIG, InputError("a log is missing"))
    assert "Read timed out" in capsys.readouterr().out


def test_the_address_is_only_taken_from_the_environment(monkeypatch):
    url = "https://hooks.slack.com/services/T0/B0/hunter2"
    for text in (url, "${HOST}/services/hunter2"):
        with pytest.raises(InputError, match=r"observe\.webhook is a secret") as refused:
            build(ObserveConfig, {"webhook": text}, "my.yaml")
        assert "hunter2" not in str(refused.value)
    monkeypatch.delenv("DIN_HOOK", raising=False)
    with (
        pytest.raises(InputError, match="variable DIN_HOOK is not set"),
        watched_night(CONFIG, "din", DAY),
    ):
        pytest.fail("the night begins")
