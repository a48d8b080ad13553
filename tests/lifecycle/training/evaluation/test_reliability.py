"""Calibration error: zero where predictions mean what they say, the distance where they don't."""

import numpy as np
import pytest

from lifecycle.training.evaluation.metrics import reliability

RNG = np.random.default_rng(3)


def test_calibrated_predictions_have_almost_no_error():
    scores = RNG.random(50_000)
    truth = RNG.random(50_000) < scores
    assert reliability(truth, scores, "binary").error < 0.01
    assert reliability(truth, np.clip(scores + 0.2, 0, 1), "binary").error == pytest.approx(
        0.18, abs=0.02
    )


def test_multiclass_looks_at_the_most_probable_class():
    shares = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]] * 50)
    truth = np.array([0, 0] * 50)  # every second row is right
    found = reliability(truth, shares, "multiclass")
    assert found.predicted.mean() == pytest.approx(0.75)
    assert found.observed.mean() == pytest.approx(0.5)
    assert found.error == pytest.approx(0.5 * 0.3 + 0.5 * 0.8)


def test_bins_are_of_equal_size_and_few_rows_make_few():
    assert reliability([0, 1, 1], [0.1, 0.9, 0.2], "binary").rows.tolist() == [1, 1, 1]
    assert reliability(np.zeros(95), RNG.random(95), "binary").rows.tolist() == [10] * 5 + [9] * 5
