"""What is read ahead comes in order and whole, and an end of any kind reaches both sides."""

import threading
from types import SimpleNamespace

import pytest

from din_model.data.prefetch import Throughput, prefetch


def alive() -> bool:
    return any(thread.name == "read-ahead" for thread in threading.enumerate())


def test_prefetch_keeps_the_order_and_ends_its_thread():
    assert list(prefetch((n for n in range(100)), Throughput(), depth=3)) == list(range(100))
    assert list(prefetch((n for n in range(0)), Throughput())) == []
    assert not alive()


def test_an_error_of_the_reader_is_raised_at_the_consumer():
    def broken():
        yield 1
        raise ValueError("a file is cut short")

    items = prefetch(broken(), Throughput())
    assert next(items) == 1
    with pytest.raises(ValueError, match="a file is cut short"):
        next(items)
    assert not alive()


def test_stopping_early_closes_the_reader():
    closed, made = threading.Event(), []

    def endless():
        try:
            while True:
                made.append(len(made))
                yield made[-1]
        finally:
            closed.set()

    items = prefetch(endless(), Throughput(), depth=2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    assert closed.is_set()
    assert not alive()
    assert len(made) <= 3 + 2 + 1  # taken, in line, and in hand


def test_waiting_is_the_time_a_step_waits_for_the_reader(monkeypatch):
    clock, asked = [0.0], threading.Event()

    def now() -> float:
        told = clock[0]
        asked.set()
        return told

    monkeypatch.setattr("din_model.data.prefetch.time", SimpleNamespace(perf_counter=now))
    pace = Throughput()
    asked.clear()

    def slow():
        asked.wait()  # somebody has begun to wait
        clock[0] += 6
        yield "batch"

    assert next(prefetch(slow(), pace)) == "batch"
    pace.rows += 40
    clock[0] += 2  # the step
    assert pace.take() == {"rows_per_s": 5.0, "waiting": 0.75}
    clock[0] += 1
    assert pace.take() == {"rows_per_s": 0.0, "waiting": 0.0}
