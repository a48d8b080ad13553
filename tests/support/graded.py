"""A small multiclass project: three grades that age and visits say much about."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from lifecycle.project import Project
from tests.support.small import SMALL, small_frame

GRADES = ("poor", "So-so", "very good")
"""In no alphabetical order, one with a space."""


def graded_frame(rows: int = 400) -> pd.DataFrame:
    frame = small_frame(rows)
    score = frame["age"] / 60 + frame["visits"] / 11
    grades = pd.cut(score.rank(pct=True), [0, 0.3, 0.7, 1], labels=list(GRADES)).astype(object)
    return frame.drop(columns="bought").assign(grade=grades)


def graded_project(make_project: Callable[..., Project], **changes: Any) -> Project:
    columns = {k: v for k, v in SMALL["contract"]["columns"].items() if k != "bought"}
    columns["grade"] = {"type": "category", "categories": list(GRADES)}
    given = {"task": "multiclass", "target": "grade", "contract": {"columns": columns}}
    return make_project(graded_frame(), **(given | changes))
