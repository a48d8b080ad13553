"""Splitting: nobody and no moment of the holdout is in training, whatever the data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.data.ingest import ingest
from lifecycle.data.split import Parts, divide, small_holdout, split, split_dataset
from lifecycle.data.split_parts import hash_share
from lifecycle.data.windows import first_window, period_of
from lifecycle.errors import SplitError, TargetError
from lifecycle.lake import read
from lifecycle.lake.read import read_version
from lifecycle.lake.table import history
from lifecycle.project import Project, SplitSpec, TimeSpec
from lifecycle.records import Split, Window
from lifecycle.settings import Settings
from tests.support.small import small_frame

MakeProject = Callable[..., Project]
SPEC = SplitSpec(holdout=0.25, validation=0.15)


def check(parts: Parts, rows: int) -> None:
    together = parts.train.astype(int) + parts.validation + parts.holdout
    assert together.max(initial=0) <= 1
    assert together.sum() + parts.withheld == rows


@given(st.lists(st.integers(0, 20), min_size=1, max_size=200), st.integers(0, 5))
def test_by_entity(entities: list[int], seed: int) -> None:
    frame = pd.DataFrame({"who": entities})
    parts = split(frame, SPEC.model_copy(update={"seed": seed}), "who")
    check(parts, len(frame))
    assert parts.withheld == 0
    seen = [set(frame["who"][mask]) for mask in parts[:3]]
    assert len(set.union(*seen)) == sum(map(len, seen))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), min_size=1, max_size=200))
def test_by_entity_and_time(rows: list[tuple[int, int]]) -> None:
    frame = pd.DataFrame(rows, columns=["who", "year"])
    parts = split(frame, SPEC, "who", TimeSpec(column="year"))
    check(parts, len(frame))
    people, years = frame["who"], frame["year"]
    assert not set(people[parts.holdout]) & set(people[parts.train | parts.validation])
    assert not set(people[parts.train]) & set(people[parts.validation])
    assert set(years[parts.holdout]) <= {years.max()}
    assert (years[parts.train | parts.validation] < years.max()).all()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.sampled_from([None, 1, 2]))
def test_by_time(years: list[int], periods: int | None) -> None:
    frame = pd.DataFrame({"year": years})
    spec = SPEC.model_copy(update={"holdout_periods": periods})
    parts = split(frame, spec, None, TimeSpec(column="year"))
    check(parts, len(frame))
    assert parts.withheld == 0
    assert parts.holdout.any()
    train, validation, holdout = (frame["year"][mask] for mask in parts[:3])
    if len(validation):
        assert validation.max() < holdout.min()
    if len(train):
        assert train.max() < validation.min() < holdout.min()


def test_shares_come_close() -> None:
    frame = pd.DataFrame({"who": np.arange(20_000), "text": [f"c{i}" for i in range(20_000)]})
    for entity in ("who", "text", None):
        parts = split(frame, SPEC, entity)
        assert parts.holdout.mean() == pytest.approx(0.25, abs=0.01)
        assert parts.validation.mean() == pytest.approx(0.15, abs=0.01)
    days = pd.DataFrame({"day": pd.date_range("2020", periods=2_000)})
    parts = split(days, SPEC, None, TimeSpec(column="day", period="week"))
    assert parts.holdout.mean() == pytest.approx(0.25, abs=0.01)
    assert parts.validation.mean() == pytest.approx(0.15, abs=0.01)


def test_rows_of_a_calendar_period_stay_together() -> None:
    frame = pd.DataFrame({"hour": pd.date_range("2020", periods=5_000, freq="h")})
    spec = SPEC.model_copy(update={"holdout_periods": 2})
    parts = split(frame, spec, None, TimeSpec(column="hour", period="month"))
    months = frame["hour"].dt.to_period("M").astype(str)
    assert set(months[parts.holdout]) == {"2020-06", "2020-07"}
    assert not set(months[parts.train]) & set(months[parts.validation])


def test_an_entity_keeps_its_part_when_rows_come() -> None:
    few, many = pd.Series(np.arange(100)), pd.Series(np.arange(1_000)[::-1])
    assert (hash_share(few, 17) == hash_share(many, 17)[::-1][:100]).all()
    assert (hash_share(few, 17) != hash_share(few, 18)).any()


def test_the_hash_is_for_ever() -> None:
    """Written down once: another value would move people between training and holdout."""
    assert hash_share(pd.Series([125024, 0, -1]), 17).round(6).tolist() == WHOLE
    assert hash_share(pd.Series(["7590-VHVEG", "é"]), 17).round(6).tolist() == TEXT


WHOLE = [0.407449, 0.365009, 0.768379]
TEXT = [0.971185, 0.650151]


def prepare(project: Project, settings: Settings) -> Split:
    return split_dataset(project, settings, ingest(project, settings, first_window(project)))


def test_split_dataset_adds_up_and_is_idempotent(
    make_project: MakeProject, settings: Settings
) -> None:
    project = make_project()
    done = prepare(project, settings)
    rows = done.train.rows + done.validation.rows + done.holdout.rows + done.withheld
    assert rows == 400
    people = [set(read_version(part)["customer"]) for part in (done.train, done.holdout)]
    assert not people[0] & people[1]
    assert prepare(project, settings) == done
    assert len(history(done.train.uri)) == 1


def test_rows_without_target_are_withheld(make_project: MakeProject, settings: Settings) -> None:
    frame = small_frame().astype({"bought": "Int64"})
    frame.loc[:9, "bought"] = pd.NA
    contract = _contract(make_project, bought={"type": "integer", "nullable": True})
    done = prepare(make_project(frame, contract=contract), settings)
    assert done.withheld == 10
    assert "10 rows without target" in done.rule


def _contract(make_project: MakeProject, **columns: Any) -> dict[str, Any]:
    contract = make_project().contract.model_dump(mode="json", exclude_none=True)
    return contract | {"columns": contract["columns"] | columns}


@pytest.mark.parametrize(
    ("bought", "changes", "says"),
    [
        (1, {}, "one class only (1)"),
        (1, {"target": "visits", "task": "regression"}, None),
        ([0, 1, 2, 0], {}, "has 3 classes (0, 1, 2…) and task: binary takes two"),
        (["yes", "no"], {"task": "regression"}, "is string with 2 values, and task: regr"),
        (["a", "b", "c"], {"task": "count"}, "use task: multiclass, another target"),
        ([0, 1], {"positive": 2}, "never is 2, only 0, 1; set `positive`"),
        (1, {"task": "regression"}, "is constant (always 1)"),
        (None, {}, "is missing in every row"),
    ],
)
def test_targets_that_cannot_be_learned(
    make_project: MakeProject,
    settings: Settings,
    bought: Any,
    changes: dict[str, Any],
    says: str | None,
) -> None:
    values = np.resize(np.array(bought, dtype=object), 400)
    kind = "string" if isinstance(values[0], str) else "integer"
    contract = _contract(make_project, bought={"type": kind, "nullable": True})
    project = make_project(small_frame().assign(bought=values), contract=contract, **changes)
    if says is None:
        assert prepare(project, settings).train.rows
        return
    with pytest.raises(TargetError) as caught:
        prepare(project, settings)
    assert says in str(caught.value)
    assert history(f"{settings.lake}/small/train").empty


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0, 3, 1, 7], None),
        ([0, 3, -1, 7], "has -1.0, which is no count"),
        ([0, 3, 1.5, 7], "has 1.5, which is no count"),
        ([3], "is constant (always 3"),
    ],
)
def test_counts(
    make_project: MakeProject, settings: Settings, values: list[float], says: str | None
) -> None:
    frame = small_frame().assign(calls=np.resize(np.array(values), 400))
    contract = _contract(make_project, calls={"type": "number", "nullable": True})
    project = make_project(frame, contract=contract, target="calls", task="count")
    if says is None:
        assert prepare(project, settings).withheld == 0
        return
    with pytest.raises(TargetError) as caught:
        prepare(project, settings)
    assert says in str(caught.value)


@pytest.mark.parametrize(("cities", "fits"), [(["Rome", "Oslo", "Lima"], True), (["Rome"], False)])
def test_classes(
    make_project: MakeProject, settings: Settings, cities: list[str], fits: bool
) -> None:
    frame = small_frame().assign(city=np.resize(np.array(cities), 400))
    project = make_project(frame, target="city", task="multiclass")
    if fits:
        parts = prepare(project, settings)
        assert parts.train.rows + parts.validation.rows + parts.holdout.rows == 400
        return
    with pytest.raises(TargetError, match="is constant"):
        prepare(project, settings)


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_calendar_periods_are_those_of_arrivals(period: Any) -> None:
    """Splitting reckons in days since 1970 and arrivals in pandas' periods: they must agree."""
    seconds = np.random.default_rng(3).integers(-(10**9), 2 * 10**9, 2_000)
    times = pd.Series(pd.to_datetime(seconds, unit="s")).astype("datetime64[us]")
    spec = TimeSpec(column="time", period=period)
    found = split(pd.DataFrame({"time": times}), SPEC, None, spec)
    periods = period_of(times, spec)
    first, first_held = periods[found.validation].min(), periods[found.holdout].min()
    assert f"training before {first}, validation before {first_held}," in found.rule
    assert (found.train == (periods < first)).all()
    assert (found.holdout == (periods >= first_held)).all()


def test_one_class_in_a_part(make_project: MakeProject, settings: Settings) -> None:
    """The newest year has buyers only: an AUC of the holdout would mean nothing."""
    frame = small_frame().assign(year=np.arange(400) // 100)
    frame.loc[300:, "bought"] = 1
    contract = _contract(make_project, year={"type": "integer"})
    project = make_project(frame, contract=contract, entity=None, time={"column": "year"})
    with pytest.raises(TargetError, match="'bought' in the holdout part of 100 rows has one"):
        prepare(project, settings)


@pytest.mark.parametrize(
    ("rows", "changes", "says"),
    [
        (2, {"split": {"holdout": 0.01, "validation": 0.98}}, "train part of 2 rows"),
        (2, {"split": {"holdout": 0.01, "validation": 0.01}}, "validation part of 2 rows"),
        (2, {"split": {"holdout": 0.5, "validation": 0.01, "seed": 3}}, "change split.validation"),
    ],
)
def test_an_empty_part_names_the_key(
    make_project: MakeProject, settings: Settings, rows: int, changes: dict[str, Any], says: str
) -> None:
    frame = small_frame().iloc[:rows].assign(bought=[0, 1])
    project = make_project(frame, **changes)
    with pytest.raises(SplitError) as caught:
        prepare(project, settings)
    assert says in str(caught.value)
    assert history(f"{settings.lake}/small/train").empty


def test_empty_holdout(make_project: MakeProject, settings: Settings) -> None:
    """Two periods, but nobody who was held out came back in the newest."""
    contract = _contract(make_project, year={"type": "integer"})
    customers = pd.Series(np.arange(1000, 1200))
    frame = small_frame()
    gone = frame["customer"].isin(customers[hash_share(customers, 17) < 0.25])
    project = make_project(
        frame.assign(year=np.where(gone, 1, 1 + frame.index % 2)),
        contract=contract,
        time={"column": "year"},
    )
    with pytest.raises(
        SplitError, match=r"holdout part of 400 rows would be empty.*split\.holdout"
    ):
        prepare(project, settings)


WEEKS = pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(400) // 40 * 7, "D"))


@pytest.mark.parametrize(
    ("changes", "period", "part", "says"),
    [
        (
            {},
            "week",
            "holdout",
            "raise split.holdout_periods from 1 to 3 or more, choose a coarser",
        ),
        ({"holdout_periods": 3}, "week", "", ""),
        ({"holdout_periods": 10}, "week", "train", "lower split.holdout_periods from 10 to 9 or "),
        ({"holdout_periods": 3, "holdout": 0.98, "validation": 0.019}, "week", "train", "no cust"),
        ({"validation": 0.001, "holdout_periods": 3}, "week", "validation", "split.validation"),
    ],
)
def test_an_empty_part_says_what_to_change(
    make_project: MakeProject, changes: dict[str, Any], period: str, part: str, says: str
) -> None:
    """Nobody who is held out comes in the newest two of ten weeks."""
    frame = small_frame().assign(day=WEEKS)
    hold = hash_share(frame["customer"], 17) < 0.25
    frame = frame[~(hold & WEEKS.isin(WEEKS.unique()[-2:]))].reset_index(drop=True)
    columns = {"day": {"type": "datetime"}}
    project = make_project(
        frame,
        contract=_contract(make_project, **columns),
        time={"column": "day", "period": period},
        split={"holdout": 0.25, "validation": 0.15} | changes,
    )
    if not part:
        assert divide(frame, project).holdout.any()
        return
    with pytest.raises(SplitError) as caught:
        divide(frame, project)
    assert f"the {part} part of" in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "held", "changes", "says"),
    [
        (1_000, 50, {}, ""),
        (1_000, 49, {}, "holdout has 49 of 1,000 rows (4.9%), too few to judge a model by; raise "),
        (100, 29, {}, "raise split.holdout, or use more rows"),
        (100, 29, {"time": {"column": "visits"}}, "raise split.holdout_periods (now 1) or raise s"),
        (100, 29, {"time": {"column": "visits"}, "entity": None}, "by; raise split.holdout."),
    ],
)
def test_a_small_holdout_is_warned_of(
    make_project: MakeProject, rows: int, held: int, changes: dict[str, Any], says: str
) -> None:
    said = small_holdout(held, rows, make_project(**changes))
    assert says in said
    assert bool(said) is bool(says)


def test_one_period_only(make_project: MakeProject, settings: Settings) -> None:
    contract = _contract(make_project, year={"type": "integer"})
    project = make_project(
        small_frame().assign(year=1), contract=contract, entity=None, time={"column": "year"}
    )
    says = r"the rows have one time: name another time\.column, or ingest more periods"
    with pytest.raises(SplitError, match=says):
        prepare(project, settings)
    project = make_project(
        small_frame().assign(year=[1, 2] * 200),
        contract=contract,
        entity=None,
        time={"column": "year", "arrives_from": 2},
    )
    with pytest.raises(SplitError, match=r"one time: .*, or set time\.arrives_from later"):
        prepare(project, settings)


@pytest.mark.parametrize("entity", [None, "customer", "who"])
@pytest.mark.parametrize("period", [None, "value", "week"])
def test_a_version_is_split_as_its_frame_is(
    make_project: MakeProject,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    entity: str | None,
    period: Any,
) -> None:
    """Batch by batch, and with a target of text."""
    monkeypatch.setattr(read, "BATCH", 37)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(400) // 20, unit="D")
    frame = small_frame().assign(day=days, answer=np.where(np.arange(400) % 3, "yes", "no"))
    frame["who"] = [f"c{number}" for number in frame["customer"]]
    frame.loc[::50, "answer"] = None
    columns: dict[str, Any] = {"day": {"type": "datetime"}, "who": {"type": "string"}}
    columns["answer"] = {"type": "category", "nullable": True, "categories": ["no", "yes"]}
    project = make_project(
        frame,
        contract=_contract(make_project, **columns),
        entity=entity,
        time={"column": "day", "period": period} if period else None,
        target="answer",
        ignore=[name for name in ("who", "customer", "bought") if name != entity],
        positive="yes",
        split={"holdout": 0.4, "validation": 0.3, "seed": 2},
    )
    ingested = ingest(project, settings, Window())
    whole = read_version(ingested.dataset)
    expected = divide(whole, project)
    done = split_dataset(project, settings, ingested)
    assert (done.rule, done.withheld) == (expected.rule, expected.withheld)
    for part, mask in expected.masks.items():
        found = read_version(getattr(done, part))
        pd.testing.assert_frame_equal(found, whole[mask].reset_index(drop=True))
