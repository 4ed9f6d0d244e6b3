import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from din_model import metrics

ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 4)), min_size=2, max_size=60
)


@given(ROWS)
def test_metrics_equal_scikit_learn_ties_and_all(rows):
    label, score, user = (np.array(column) for column in zip(*rows, strict=True))
    score = score / 7 + 0.1
    if 0 < label.sum() < len(label):
        assert np.isclose(metrics.auc(label, score), roc_auc_score(label, score))
    assert np.isclose(metrics.log_loss(label, score), sklearn_log_loss(label, score, labels=[0, 1]))
    each = [
        (roc_auc_score(label[user == u], score[user == u]), (user == u).sum())
        for u in set(user.tolist())
        if 0 < label[user == u].sum() < (user == u).sum()
    ]
    found = metrics.gauc(label, score, user)
    if each:
        assert np.isclose(found, np.average([a for a, _ in each], weights=[n for _, n in each]))
    else:
        assert np.isnan(found)
