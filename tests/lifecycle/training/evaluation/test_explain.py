"""SHAP values add up to what the model says, and the summary shows the strongest on top."""

import io

import numpy as np
import pytest
from scipy.special import expit

from lifecycle.features.encode import build_features
from lifecycle.training.bundle import load_bundle
from lifecycle.training.evaluation.explain import WIDTH, Explained, _spread, explain, summary_plot


def drawn(figure):
    figure.savefig(buffer := io.BytesIO(), format="png")
    return buffer.getvalue()


def shown(figure):
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


@pytest.fixture
def made(small_model):
    loaded = load_bundle(small_model.bundle.path, small_model.bundle.digest)
    holdout = small_model.holdout()
    return small_model, loaded, build_features(holdout, small_model.project, None)


def test_contributions_are_those_of_seeded_rows(made):
    _, loaded, features = made
    found = explain(loaded, features, rows=30, seed=3)
    assert found.values.shape == (30, 3)
    assert found.names == ("age", "visits", "city")
    assert found.categorical == (False, False, True)
    again = explain(loaded, features, rows=30, seed=3)
    assert np.array_equal(found.values, again.values)
    assert not np.array_equal(found.values, explain(loaded, features, rows=30, seed=4).values)


def test_contributions_and_bias_add_up_to_the_prediction(made):
    model, loaded, features = made
    found = explain(loaded, features, rows=10_000, seed=1)
    assert len(found.values) == len(features)
    bias = loaded.model.contributions(found.matrix)[:, -1]
    answers = model.expected(model.holdout())
    assert expit(found.values.sum(axis=1) + bias) == pytest.approx(answers, abs=1e-5)


def test_summary_of_a_real_model(made):
    _, loaded, features = made
    found = explain(loaded, features, rows=100, seed=1)
    figure = summary_plot(found)
    names = [found.names[at] for at in found.strongest()]
    assert shown(figure) == names[::-1]  # rows are drawn upwards
    assert np.array_equal(np.sort(found.strength)[::-1], found.strength[found.strongest()])
    assert drawn(figure)


def test_a_model_that_cannot_say_has_no_summary(made):
    from dataclasses import replace

    class Silent:
        def contributions(self, matrix, threads=1):
            return None

    _, loaded, features = made
    assert explain(replace(loaded, model=Silent()), features, rows=10, seed=1) is None


def test_multiclass_shows_each_class():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(50, 3, 2)) * [1, 5]
    found = Explained(("weak", "strong"), (False, False), np.zeros((50, 2), "f4"), values)
    figure = summary_plot(found, ("red", "green", "blue"))
    assert shown(figure) == ["weak", "strong"]
    bars = figure.axes[0].patches
    assert len(bars) == 6
    assert bars[1].get_width() == pytest.approx(np.abs(values[:, 0, 1]).mean())
    assert drawn(figure)


def test_points_that_share_a_value_are_spread_within_their_row():
    offsets = _spread(np.r_[np.zeros(100), 1.0])
    assert np.abs(offsets).max() <= WIDTH
    assert len(np.unique(offsets[:100])) == 100
    assert offsets[100] == 0


def test_missing_values_and_constant_features_are_drawn():
    matrix = np.array([[np.nan, 1.0], [2.0, 1.0], [3.0, 1.0]], dtype="f4")
    found = Explained(("a", "b"), (False, True), matrix, np.array([[0.1, 0], [0.2, 0], [0.3, 0]]))
    assert drawn(summary_plot(found))
