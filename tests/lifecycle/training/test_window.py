"""Rows to learn from: what the validation part says; only training rows are ever left out."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pandas as pd
import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.lake.read import read_version
from lifecycle.project import Project
from lifecycle.records import Split, TrainingWindow, Window, WindowChoice
from lifecycle.settings import Settings
from lifecycle.training.window import choose_window
from tests.support.small import SMALL, small_frame
from tests.support.trained import train_small

A_YEAR, YEARS, FORMER = 200, 9, 4
"""Rows of a year; years; the last one that the champion knew."""


class Case(NamedTuple):
    project: Project
    settings: Settings
    split: Split
    champion: Any
    told: list[TrainingWindow]

    def choose(self, change: str) -> WindowChoice:
        return choose_window(
            self.project, self.settings, self.split, self.champion, change, self.told.append
        )

    def years(self, choice: WindowChoice) -> set[Any]:
        return set(read_version(choice.split.train)["year"])


Make = Callable[..., Case]


@pytest.fixture
def make(make_project: Callable[..., Project], settings: Settings) -> Make:
    """A world of nine years that turns at the beginning of one; with `dates`, in months of 2024."""

    def case(turns: int = YEARS, dates: bool = False, **changes: Any) -> Case:
        frame = small_frame(A_YEAR * YEARS).drop(columns="customer")
        year = frame.index // A_YEAR
        frame["bought"] = frame["bought"].where(year < turns, 1 - frame["bought"])
        frame["year"] = (
            pd.Timestamp("2024-01-15") + pd.to_timedelta(year * 31, "D") if dates else year
        )
        columns = {"year": {"type": "datetime" if dates else "integer"}}
        known = SMALL["contract"]["columns"].items()
        columns |= {name: spec for name, spec in known if name != "customer"}
        project = make_project(
            frame,
            entity=None,
            time={"column": "year", **({"period": "month"} if dates else {})},
            contract={"columns": columns},
            **changes,
        )
        last = "2024-05-31" if dates else FORMER
        known_rows = split_dataset(project, settings, ingest(project, settings, Window(last=last)))
        made = train_small(project, settings)
        champion = SimpleNamespace(split=known_rows, identity=made.identity)
        return Case(project, settings, made.split, champion, [])

    return case


def test_rows_from_before_a_change_are_left_out_where_they_mislead(make: Make) -> None:
    case = make(turns=5)
    choice = case.choose("5")
    assert [window.kind for window in choice.windows] == ["all", "rolling", "change"]
    assert case.told == [*choice.windows]
    assert choice.split.rule.endswith("; training from 5 on")
    assert min(case.years(choice)) == 5
    assert choice.split.rows == case.split.rows
    assert choice.split.withheld == case.split.withheld + 5 * A_YEAR
    assert (choice.split.validation, choice.split.holdout) == (
        case.split.validation,
        case.split.holdout,
    )
    every, _, change = choice.windows
    assert change.value > every.value
    assert change.gain is not None
    assert change.gain.least > 0
    for text in ("Learned from the rows since the change, better by more than chance", "from 5)"):
        assert text in choice.reason
    assert case.choose("5").split == choice.split, "the same rows are the same version"


def test_all_rows_are_learned_from_where_nothing_is_surely_better(make: Make) -> None:
    case = make()
    choice = case.choose("5")
    assert choice.split == case.split
    assert "Learned from all rows, no other is better beyond chance" in choice.reason
    assert len(choice.windows) == 3


@pytest.mark.parametrize("change", ["", "0", str(YEARS), "2024-05-01"])
def test_a_change_without_training_rows_before_or_after_is_no_window(
    make: Make, change: str
) -> None:
    case = make(retraining={"windows": ["change"]})
    choice = case.choose(change)
    assert (choice.split, choice.windows, choice.reason, case.told) == (case.split, (), "", [])


def test_the_time_of_a_change_lies_in_a_period(make: Make) -> None:
    choice = make(turns=5, dates=True).choose("2024-06-20T10:00:00+00:00")
    assert [window.first for window in choice.windows] == ["2024-01", "2024-04", "2024-06"]


def test_a_project_without_time_has_one_window(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    made = train_small(make_project(), settings)
    champion: Any = SimpleNamespace(split=made.split, identity=made.identity)
    choice = choose_window(made.project, settings, made.split, champion, "5", print)
    assert (choice.split, choice.windows) == (made.split, ())
