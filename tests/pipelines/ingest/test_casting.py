"""Typed rows: a number is one key however it is written, and a value that is none is broken."""

import math
from decimal import Decimal

import pytest

from din_model.errors import InputError
from din_model.features import Feature
from pipelines.ingest.casting import Wanted, cast_rows
from pipelines.ingest.raw_rows import Raw
from pipelines.ingest.sources import Source
from pipelines.ingest.typed_columns import AMOUNT, FLAG
from tests.pipelines.ingest.test_attribution import SPEC

NUMBER = Feature("n", "item", "int64", "n", 4)
NUMBERS = Feature("n", "item", "int64", "n", 4, max_length=3)
BROKEN = "n is not an exact whole number"


@pytest.fixture
def ansi(spark):
    """In ANSI mode a cast that fails ends the job."""
    spark.conf.set("spark.sql.ansi.enabled", "true")
    yield
    spark.conf.set("spark.sql.ansi.enabled", "false")


def cast(frames, wanted: Wanted, **others):
    frames = frames if isinstance(frames, list) else [frames]
    raws = [Raw(frame, f"file {i}") for i, frame in enumerate(frames)]
    return cast_rows(raws, Source(**{"path": "log"} | others), "impressions", SPEC, wanted)


def values(spark, kind: str, given: list, wanted: Wanted, column: str = "n") -> list[tuple]:
    rows = spark.createDataFrame([(n, v) for n, v in enumerate(given)], f"row int, n {kind}")
    wanted_row = Feature("row", "item", "number", "row", 0)
    found = cast(rows, Wanted([*wanted.features, wanted_row], wanted.keys, wanted.numbers))
    return [(row[column], row["reason"]) for row in found.orderBy("row").collect()]


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        ("string", ["7", "007", " 7 ", "7.0", "7.", "-7"], ["7", "7", "7", "7", "7", "-7"]),
        ("string", ["", " ", None], [None] * 3),
        ("bigint", [7, 2**53 + 1, None], ["7", str(2**53 + 1), None]),
        ("double", [7.0, -7.0, math.nan, None], ["7", "-7", None, None]),
        ("float", [7.0, 2.0**24 - 1], ["7", str(2**24 - 1)]),
        ("decimal(20,2)", [Decimal("7.00"), Decimal(2**53 + 1)], ["7", str(2**53 + 1)]),
    ],
)
def test_a_whole_number_is_one_key_however_it_is_written(spark, ansi, kind, given, wanted):
    assert values(spark, kind, given, Wanted([NUMBER])) == [(key, None) for key in wanted]
    if kind != "string":
        found = values(spark, kind, given, Wanted([], ["n"]), "key_0")
        missing = "n is missing or of the wrong type"
        assert found == [(key, None if key else missing) for key in wanted]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("string", ["7.5", "7.999", "seven", "1e3", "9" * 19]),
        ("double", [7.5, math.inf, 2.0**53]),
        ("float", [2.0**24]),
        ("decimal(20,2)", [Decimal("7.01")]),
    ],
)
def test_a_fraction_is_broken_and_never_truncated(spark, ansi, kind, given):
    assert values(spark, kind, given, Wanted([NUMBER])) == [(None, BROKEN)] * len(given)
    if kind != "string":
        assert values(spark, kind, given, Wanted([], ["n"]), "key_0") == [(None, BROKEN)] * len(
            given
        )


def test_without_ansi_mode_text_is_not_truncated_either(spark):
    assert values(spark, "string", ["7.5", "7.0"], Wanted([NUMBER])) == [
        (None, BROKEN),
        ("7", None),
    ]


def test_lists_of_ids_are_cast_by_the_same_rule(spark, ansi):
    lists = [["7.0", "08"], ["7", "7.5"], [], None]
    found = values(spark, "array<string>", lists, Wanted([NUMBERS]))
    assert found == [(["7", "8"], None), (["7", None], BROKEN), ([], None), (None, None)]
    assert values(spark, "array<double>", [[7.0]], Wanted([NUMBERS])) == [(["7"], None)]


def test_a_decimal_key_equals_its_integer_and_other_text_is_kept(spark, ansi):
    texts = ["2.0", "-2.00", "2", "2.5", "a2.0", "007"]
    found = values(spark, "string", texts, Wanted([], ["n"]), "key_0")
    assert [key for key, _ in found] == ["2", "-2", "2", "2.5", "a2.0", "007"]


def test_an_amount_is_finite_and_not_negative_and_a_flag_is_0_or_1(spark, ansi):
    given = ["1.5", "0", "-1", "NaN", "Infinity", "-Infinity", "much", None]
    found = values(spark, "string", given, Wanted([], [], {"n": ("n", AMOUNT)}))
    bad, none = "n is negative or not finite", "n is missing or of the wrong type"
    assert [why for _, why in found] == [None, None, bad, bad, bad, bad, none, none]
    found = values(
        spark, "string", ["0", "1.0", "0.5", "NaN", "yes"], Wanted([], [], {"n": ("n", FLAG)})
    )
    no_flag = "n is neither 0 nor 1"
    assert [why for _, why in found] == [None, None, no_flag, no_flag, none]
    assert values(spark, "boolean", [True], Wanted([], [], {"n": ("n", FLAG)})) == [(1.0, None)]
    with pytest.raises(InputError, match=r"impressions: column 'n' is array<int>, not a number"):
        values(spark, "array<int>", [[1]], Wanted([], [], {"n": ("n", FLAG)}))


@pytest.mark.parametrize(
    ("unit", "number"), [("s", 1795176000), ("ms", 1795176000000), ("ns", 1795176000000000123)]
)
def test_a_whole_number_is_a_time_in_its_unit_and_null_if_too_large(spark, ansi, unit, number):
    rows = spark.createDataFrame([(number,), (2**63 - 1,)], "at bigint")
    found = cast(rows, Wanted([], span=(None, 2**62)), time_unit=unit).collect()
    assert found[0]["time"] == 1795176000 * 10**6
    if unit != "ns":
        assert found[1]["reason"] == "at is missing or of the wrong type"


def test_files_with_different_types_and_column_orders_become_one_frame(spark):
    one = spark.createDataFrame([(7, "u")], "n bigint, user string")
    two = spark.createDataFrame([("u", 8.0, "x")], "user string, n double, more string")
    none = spark.createDataFrame([("v",)], "user string").selectExpr("null n", "user")
    user = Feature("user", "user", "string", "user", 4)
    found = cast([one, two, none], Wanted([NUMBER, user])).collect()
    assert [(row["n"], row["user"], row["reason"]) for row in found] == [
        ("7", "u", None), ("8", "u", None), (None, "v", None)
    ]  # fmt: skip
    with pytest.raises(InputError, match="impressions: no column 'n' among user in file 1: name"):
        cast([one, two.select("user")], Wanted([NUMBER, user]))


def test_a_date_without_rows_gives_typed_columns(spark):
    wanted = Wanted(
        [NUMBERS, Feature("x", "item", "number", "x", 0)], ["k"], {"w": ("w", AMOUNT)}, (0, 1)
    )
    found = cast(spark.createDataFrame([], "n string").select(), wanted)
    assert found.dtypes == [
        ("n", "array<string>"), ("x", "double"), ("key_0", "string"), ("w", "double"),
        ("time", "bigint"), ("reason", "string"), ("raw", "string"),
    ]  # fmt: skip
    assert found.isEmpty()


def test_the_text_of_a_broken_row_holds_columns_of_any_name(spark):
    rows = spark.createDataFrame([("x", "NO", 1)], "n string, `geo.country` string, `a``b` int")
    (row,) = cast(rows, Wanted([NUMBER])).collect()
    assert (row["reason"], row["raw"]) == (BROKEN, '{"n":"x","geo.country":"NO","a`b":1}')


@pytest.mark.parametrize(
    ("kind", "lossy"),
    [("csv", ("Jos\ufffd", "user is not in UTF-8")), ("json", (None, "malformed"))],
)
def test_an_id_of_another_encoding_is_broken_until_it_is_named(spark, tmp_path, kind, lossy):
    names = ["Jos\xe9", "Jos\xe8", "Jos"]
    lines = {
        "csv": ["user,item", *(f"{name},i1" for name in names)],
        "json": [f'{{"user": "{name}", "item": "i1"}}' for name in names],
    }
    (tmp_path / f"log.{kind}").write_text("\n".join(lines[kind]), "latin-1")

    def users(**options: str) -> list[tuple]:
        reader = spark.read.options(header="true", lineSep="\n", **options)
        rows = reader.format(kind).load(str(tmp_path))
        wanted = [Feature(side, side, "string", side, 4) for side in ("user", "item")]
        found = cast(rows, Wanted(wanted)).collect()
        return sorted(((row["user"], row["reason"]) for row in found), key=str)

    assert users() == sorted([("Jos", None), lossy, lossy], key=str)
    assert users(encoding="ISO-8859-1") == [(name, None) for name in sorted(names)]
