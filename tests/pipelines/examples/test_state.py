"""The state at the end of a date, from the one before and the behaviours since."""

from pyspark.sql import DataFrame, SparkSession

from pipelines.examples.state import advance, as_behaviours
from tests.pipelines.examples.test_point_in_time_join import DAY, SPEC, logs

SCHEMA = "user int, kind byte, time long, item int, category int"
CLICK, CART = 0, 1


def states(state: DataFrame) -> dict[int, tuple[list[int], list[int]]]:
    """Items of the clicks and carts of each user."""
    return {row["user"]: (row["clicks__item"], row["carts__item"]) for row in state.collect()}


def test_the_state_day_by_day_equals_one_cold_build(spark: SparkSession) -> None:
    _, behaviours = logs(seed=5)
    state = None
    for day in range(4):
        of_day = behaviours[behaviours.time // DAY == day]
        state = advance(state, spark.createDataFrame(of_day, SCHEMA), SPEC, (day + 1) * DAY)
        state = state.localCheckpoint()
    cold = advance(None, spark.createDataFrame(behaviours, SCHEMA), SPEC, 4 * DAY)
    chained, rebuilt = (sorted(map(str, frame.collect())) for frame in (state, cold))
    assert chained == rebuilt
    kept = as_behaviours(cold, SPEC).toPandas()
    waiting = kept[(kept.kind == 1) & (kept.time + 300 >= 4 * DAY)]
    expected = behaviours[(behaviours.kind == 1) & (behaviours.time + 300 >= 4 * DAY)]
    assert len(waiting) == len(expected) > 0


def test_a_behaviour_that_becomes_visible_pushes_the_oldest_out(spark: SparkSession) -> None:
    lag = SPEC.histories[CART].lag
    done = [(1, CART, 10, 5, None), (1, CART, 20, 6, None), (1, CART, DAY - lag, 7, None)]
    first = advance(None, spark.createDataFrame(done, SCHEMA), SPEC, DAY)
    assert states(first) == {1: ([], [5, 6, 7])}, "the last is not visible yet, so no one leaves"
    nothing = spark.createDataFrame([], SCHEMA)
    assert states(advance(first, nothing, SPEC, DAY + 1)) == {1: ([], [6, 7])}


def test_users_without_new_behaviours_keep_theirs(spark: SparkSession) -> None:
    old = [(1, CLICK, 10, 5, 2), (2, CLICK, 10, 5, 2)]
    state = advance(None, spark.createDataFrame(old, SCHEMA), SPEC, DAY)
    new = spark.createDataFrame([(2, CLICK, DAY + 1, 9, 2), (3, CART, DAY, 8, None)], SCHEMA)
    assert states(advance(state, new, SPEC, 2 * DAY)) == {
        1: ([5], []), 2: ([5, 9], []), 3: ([], [8]),
    }  # fmt: skip
