"""No row sees its future: whatever is changed there, its features are the same, bit by bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.features.asof import FEW, AsOf, as_numbers
from lifecycle.features.compute import ViewFunction
from lifecycle.features.encode import ViewUse
from lifecycle.features.join import known_of
from lifecycle.features.store import in_order
from lifecycle.lake.column_types import to_arrow
from lifecycle.project import FeatureViewSpec
from tests.support.payments import FUNCTIONS, view

FACT = st.tuples(
    st.integers(0, 3),  # customer
    st.integers(0, 6),  # year
    st.floats(-1e6, 1e6, allow_nan=False),
    st.sampled_from(["north", "south"]),
)
FACTS = st.lists(FACT, min_size=1, max_size=30)
COLUMNS = ["customer", "year", "amount", "shop"]


def function() -> ViewFunction:
    names: dict[str, Any] = {}
    exec(FUNCTIONS, names)  # noqa: S102 - our own text
    spec = FeatureViewSpec.model_validate(view())
    return ViewFunction("paid", spec, names["spending"], Path("spending.py"))


FUNCTION = function()


def known(facts: list[Any], max_age: float | None = None, same_instant: bool = False) -> AsOf:
    use = ViewUse(
        how="", columns=tuple(FUNCTION.spec.features), max_age=max_age, same_instant=same_instant
    )
    table = to_arrow(pd.DataFrame(facts, columns=COLUMNS))
    return known_of(FUNCTION, in_order(table, FUNCTION.spec), use)


def seen(view: AsOf, customers: Any, years: Any) -> list[pa.Array]:
    times, people = np.asarray(years, dtype=np.int64), pa.array(customers, pa.int64())
    singly = view.lookup(people, times)
    many = FEW // len(people) + 1
    together = view.lookup(pa.concat_arrays([people] * many), np.tile(times, many))
    assert together.tolist() == singly.tolist() * many
    taken = view.take(singly)
    assert [column.to_pylist() for column in taken] == view.values(singly)
    return taken


@given(
    facts=FACTS,
    others=st.lists(FACT, max_size=10),
    kept=st.randoms(use_true_random=False),
    who=st.integers(0, 4),
    year=st.integers(0, 7),
    max_age=st.one_of(st.none(), st.integers(1, 4)),
    same_instant=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_no_row_sees_its_future(
    facts: list[Any],
    others: list[Any],
    kept: Any,
    who: int,
    year: int,
    max_age: float | None,
    same_instant: bool,
) -> None:
    def is_known(fact: Any) -> bool:
        return bool(fact[1] <= year if same_instant else fact[1] < year)

    before = seen(known(facts, max_age, same_instant), [who], [year])
    # facts of the future: some dropped, some changed, some invented
    changed = [
        fact if is_known(fact) else (fact[0], fact[1], fact[2] * 2 + 1, "south")
        for fact in facts
        if is_known(fact) or kept.random() < 0.5
    ]
    changed += [fact for fact in others if not is_known(fact)]
    if not changed:
        assert [column[0].as_py() for column in before] == [None] * 4
        return
    after = seen(known(changed, max_age, same_instant), [who], [year])
    for one, other in zip(before, after, strict=True):
        assert one.equals(other)
        if pa.types.is_floating(one.type):  # `equals` takes -0.0 for 0.0
            assert one.to_numpy(False).tobytes() == other.to_numpy(False).tobytes()


@given(facts=FACTS, rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), min_size=1))
@settings(max_examples=100, deadline=None)
def test_the_newest_fact_counts(facts: list[Any], rows: list[tuple[int, int]]) -> None:
    got = seen(known(facts, max_age=3), *zip(*rows, strict=True))
    for at, (who, year) in enumerate(rows):
        ours = sorted((f for f in facts if f[0] == who and f[1] < year), key=lambda f: f[1])
        told = [column[at].as_py() for column in got]
        if not ours or year - ours[-1][1] > 3:
            assert told == [None] * 4
        else:
            assert told[1:] == [len(ours), ours[-1][3], ours[-1][2] > 50]


@pytest.mark.parametrize("same_instant", [False, True])
@pytest.mark.parametrize("max_age", [None, 2.0])
@pytest.mark.parametrize("text", [False, True])
def test_pandas_joins_alike(same_instant: bool, max_age: float | None, text: bool) -> None:
    """`pandas.merge_asof` by day."""
    draw = np.random.default_rng(3)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 20, 500), unit="D")
    facts = pd.DataFrame({"who": draw.integers(0, 30, 500), "day": days, "value": range(500)})
    if text:
        facts["who"] = "näme " + facts["who"].astype(str)
    facts = facts.sort_values(["who", "day"], kind="stable")
    rows = facts.sample(300, random_state=1).assign(row=range(300))
    rows["day"] += pd.to_timedelta(draw.integers(0, 3, 300), unit="D")
    rows.loc[rows.index[:5], "who"] = "nobody" if text else 77
    table = to_arrow(facts)
    asof = AsOf(table["who"], table["day"], table.select(["value"]), max_age, same_instant)
    asked = to_arrow(rows)
    found = asof.lookup(asked["who"].combine_chunks(), as_numbers(asked["day"]))
    merged = pd.merge_asof(
        rows.sort_values("day"),
        facts.sort_values("day", kind="stable"),
        on="day",
        by="who",
        suffixes=("_row", ""),
        allow_exact_matches=same_instant,
        tolerance=None if max_age is None else pd.Timedelta(days=max_age),
    ).sort_values("row")
    assert len(rows) > FEW
    assert asof.take(found)[0].to_pylist() == [
        None if np.isnan(value) else int(value) for value in merged["value"]
    ]
    few = slice(0, FEW // 2)
    singly = asof.lookup(asked["who"].combine_chunks()[few], as_numbers(asked["day"])[few])
    assert singly.tolist() == found[few].tolist()


@given(facts=FACTS, now=st.integers(0, 8), later=st.integers(0, 3), same=st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_a_replica_forgets_is_never_found(
    facts: list[Any], now: int, later: int, same: bool
) -> None:
    whole = known(facts, same_instant=same)
    smaller = whole.since(now)
    assert len(smaller) <= len(whole)
    people = list(range(5))
    for one, other in zip(
        seen(whole, people, [now + later] * 5),
        seen(smaller, people, [now + later] * 5),
        strict=True,
    ):
        assert one.equals(other)
    if all(fact[1] < now for fact in facts):
        assert len(smaller) == len({fact[0] for fact in facts})
