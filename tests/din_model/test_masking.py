"""Secrets are found where they are written, and masked in every text."""

import json
import re

import pytest

from din_model.config import expand, load
from din_model.errors import InputError
from din_model.masking import (
    holds_secret,
    masked,
    masked_values,
    remember,
    remember_environment,
    remember_passwords,
)
from jobs.cli import Settings
from tests.nights import DEMO

CANARY = "hunt/er2 +x"

WITH_SECRET = [
    "postgresql://u:hunter2@h/db",
    "postgresql://u:hunt/er2@h/db",
    "https://u:x${Y}hunter2@h",
    "http://hunter2@h",
    "http://u%3Ahunter2@h",
    "postgresql://h/db?user=u&password=hunter2",
    "postgresql://h/db?user=u&sslpassword=hunter2",
    "jdbc:mysql://h/db?Password=hunter2",
    "host=h password='hunter2 x' dbname=db",
    "https://h/logs?X-Amz-Signature=hunter2",
    "s3a://KEY:hunter2/x@bucket/path",
    "http://h/?password%3Dhunter2",
    "https://h/?x=1&api-key=hunter2",
    "https://h/#access_token=hunter2",
    "redis://:hunter2@h",
    "jdbc:oracle:thin:scott/hunter2@//h:1521/x",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=hunter2==",
    '{"user": "u", "password": "hunter2"}',
    "Authorization: Bearer hunter2.abc-d",
    "s3://AKIAIOSFODNN7EXAMPLE/hunter2/x+y@bucket/path",
    "https://h/x?auth=hunter2",
    "https://h/x?sv=2020&sig=hunter2%3D",
    "https://h/x?apikey=hunter2",
    "https://h/x?accessToken=hunter2",
    "https://h/x?a%26sig%3Dhunter2",
    "postgresql://u:hunt%40er2@h/db",
    "postgresql://u:hunt@er2:x@h/db",
    "postgresql://u@corp:hunter2@h/db",
    "postgresql://u:12/hunter2@h/db",
    "jdbc:sqlserver://h:1433;user=u;password={hunter2;x}",
    "jdbc:postgresql://h/db?user=u&password=hunt,er2",
    r"host=h password='it\'s hunter2 x'",
    'password="hunter2 x"',
    """{"password": "hunt'er2"}""",
    "X-Api-Key: hunter2",
    "--password hunter2",
    "spark.hadoop.fs.s3a.secret.key=hunter2",
    "fs.azure.account.key.box.dfs.core.windows.net=hunter2",
    "fs.azure.sas.box.a.blob.core.windows.net=hunter2",
    "fs.s3a.encryption.key=hunter2",
    "aws_secret_access_key = hunter2",
    "password=${X}hunter2",
]
WITHOUT = [
    "postgresql://u@h:5432/db",
    "hdfs://host:8020/a/x@y",
    "s3://bucket/a@b",
    "abfss://box@account.dfs.core.windows.net/x",
    "sqlite:////a/b.db",
    "/logs/${TENANT}/date={date}",
    "basic features: a basic popularity-based model",
    "jdbc:oracle:thin:@//h:1521/x",
    "postgresql://h:5432/db?user=u@corp",
    "http://127.0.0.1:5000/#/models/x@champion",
    "password=${PGPASSWORD}",
]


@pytest.mark.parametrize("text", WITH_SECRET)
def test_a_secret_is_found_and_masked(text):
    assert holds_secret(text)
    assert not re.search("hunt|er2", masked(f"no answer of {text}: run again"))
    assert masked(f"no answer of {text}: run again").endswith("run again")


@pytest.mark.parametrize("text", WITHOUT)
def test_an_address_without_a_secret_stays(text):
    assert not holds_secret(text)
    assert masked(text) == text


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["aaaa", "a-a-", "a=a=", "://a", "://:", "password={", '"a" '])
def test_a_long_text_is_masked_in_time_that_grows_with_its_length(part):
    assert "hunter2" not in masked(f"{part * 50_000} x://u:hunter2@h")


def test_a_password_with_blanks_is_masked_where_it_stands_alone():
    remember_passwords("URI", "postgresql://u:correct horse@h/db")
    assert masked("no user with correct horse") == "no user with ${URI}"


def test_a_value_is_masked_in_either_case_of_its_quoted_letters():
    remember("VALUE", "hunt+er2")
    assert masked("hunt%2Ber2 or hunt%2ber2") == "${VALUE} or ${VALUE}"


def test_a_secret_of_the_environment_may_stand_in_an_address():
    for text in ("https://u:${PASSWORD}@h", "http://${TOKEN}@h", "x://h?password=${PASSWORD}"):
        assert not holds_secret(text)


def test_values_of_variables_are_masked_however_they_are_written(monkeypatch):
    monkeypatch.setenv("PLACE", CANARY)
    assert expand("s3://${PLACE}/logs") == f"s3://{CANARY}/logs"
    lines = [CANARY, "hunt/er2%20%2Bx", "hunt%2Fer2%20%2Bx", "hunt%2Fer2+%2Bx"]
    assert [masked(f"<{line}>") for line in lines] == ["<${PLACE}>"] * 4
    assert str(InputError(f"{CANARY} is missing")) == "${PLACE} is missing"
    assert masked_values({"a": [CANARY, 3]}) == {"a": ["${PLACE}", 3]}


def test_a_short_value_is_masked_as_a_word_and_a_shorter_one_not_at_all():
    remember("TENANT", "acme")
    remember("N", "7")
    assert masked("acme has 7 rows of acmeism") == "${TENANT} has 7 rows of acmeism"


def test_variables_that_are_called_like_a_secret_are_masked():
    home = {"HOME": "/home/me", "PWD": "/home/me"}
    remember_environment({"PGPASSWORD": "correct horse", "MY_TOKEN": "1"} | home)
    assert masked("/home/me: correct horse 1") == "/home/me: ${PGPASSWORD} 1"
    remember_environment({"A_TOKEN": "hunter2", "B_TOKEN": "true"})
    assert masked("hunter2 is true") == "${A_TOKEN} is true"


def test_the_password_of_an_address_is_masked_where_it_stands_alone():
    remember_passwords("URI", "http://user:hunter2@host")
    assert masked("user with hunter2 was refused") == "user with ${URI} was refused"


@pytest.mark.parametrize(
    "word",
    [
        "sources.impressions.path=s3a://KEY:hunter2@logs/{date}",
        "sources.impressions.options={password: hunter2}",
        "sources.impressions.options={fs.s3a.secret.key: hunter2}",
        "sources.impressions.options={url: 'jdbc:x://h?password=hunter2'}",
        "sources.impressions.options.sfPassword=hunter2",
        "store.path=s3://KEY:hunter2@store",
        "tracking.uri=postgresql://h/db?password=hunter2",
        "score.postgres={url: 'host=h password=hunter2'}",
        "export.path=https://h/?sig=hunter2",
    ],
)
def test_a_password_in_the_configuration_is_refused_and_not_repeated(word):
    with pytest.raises(InputError, match="holds a password") as caught:
        load(Settings, [str(DEMO)], [word])
    assert "hunter2" not in str(caught.value)


def test_sql_and_variables_are_not_taken_for_passwords():
    words = ["sources.impressions.query=SELECT * FROM raw WHERE token = 'a'"]
    words += ["sources.impressions.options={password: '${PGPASSWORD}'}"]
    settings = load(Settings, [str(DEMO)], words)
    assert json.dumps(settings.sources.impressions.options) == '{"password": "${PGPASSWORD}"}'
