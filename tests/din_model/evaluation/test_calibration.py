"""Buckets of about equal rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from din_model.evaluation.calibration import buckets_of


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200).map(np.array))
def test_buckets_are_in_order_and_about_equal(counts):
    bucket = buckets_of(counts, 4)
    rows = np.bincount(bucket, counts, 4)
    assert (np.diff(bucket) >= 0).all()
    assert np.abs(rows - counts.sum() / 4).max() <= counts.max() + 1


def test_bins_around_a_heavy_bin_get_other_buckets():
    assert buckets_of(np.array([1, 1, 96, 1, 1]), 10).tolist() == [0, 0, 5, 9, 9]


def test_a_histogram_without_rows_has_one_bucket():
    assert buckets_of(np.zeros(3), 10).tolist() == [0, 0, 0]
