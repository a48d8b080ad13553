"""Serving out of a state folder whose name has every sign that a URL gives a meaning to."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lifecycle.lake.logged_predictions import read_log
from lifecycle.project import Project
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings
from tests.support.replica import serving

NAME = "a?x=1 #2 ä&b::c 100% d+e;f@g {h} 'i' <j>"


def test_a_model_is_served_and_logged_there(
    make_project: Callable[..., Project], train: Callable[..., Any], tmp_path: Any
) -> None:
    settings = Settings(home=tmp_path / "odd" / NAME)
    made = train(make_project(), settings)
    rows = made.holdout()[["age", "visits", "city"]].head(100)
    with serving(made) as (_, ask):
        for count in (1, 100):
            body = {"records": to_records(rows.head(count))}
            got = ask("/predict", body).json()["predictions"]
            np.testing.assert_allclose(got, made.expected(rows.head(count)), atol=1e-6)
    assert len(read_log(settings, "small", 0.0)) == 1 + len(rows)
    assert [path.name for path in (tmp_path / "odd").iterdir()] == [NAME]
