"""A view's function: one that looks ahead or at others is refused, and so is a wrong result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lifecycle.errors import ContractError, FeatureError, SourceError
from lifecycle.features.store import materialise, view_table
from lifecycle.lake.table import history
from lifecycle.project import Project
from lifecycle.settings import Settings
from tests.support.payments import payments

Make = Callable[..., Project]

DAYS = """
import pandas as pd


def spending(facts):
    total = facts.groupby("customer")["amount"].cumsum()
    return pd.DataFrame({{"total": total, "times": 1, "shop": facts["shop"], "large": {large}}})
"""


def refused(project: Project, settings: Settings, kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        materialise(project, settings, "paid")
    assert history(view_table(settings, project.name, "paid")).empty


def test_a_function_that_looks_ahead(make_paying: Make, settings: Settings) -> None:
    refused(
        make_paying(function="spending:average"),
        settings,
        FeatureError,
        r"feature_views\.paid\.function: feature 'total' looks ahead: that of a fact known since "
        r"\d is another one without the facts from \d on",
    )


def test_a_function_that_looks_at_others(make_paying: Make, settings: Settings) -> None:
    facts = payments().assign(year=1)  # of one instant: only the other entities tell
    refused(
        make_paying(facts, function="spending:everybody"),
        settings,
        FeatureError,
        "feature 'total' of a fact known since 1 is another one without the facts of other "
        "entities: group by 'customer'",
    )


@pytest.mark.parametrize(
    ("large", "match"),
    [
        ("1 / 0", r"spending\.py:7: ZeroDivisionError"),
        ("facts['amount'] * 7", r"large: .* \(\d+\)"),
        ("[[]] * len(facts)", "feature"),
    ],
)
def test_what_is_not_declared(
    make_paying: Make, settings: Settings, tmp_path: Path, large: str, match: str
) -> None:
    project = make_paying()
    (tmp_path / "spending.py").write_text(DAYS.format(large=large))
    refused(project, settings, FeatureError, match)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("3", "it returned int, not a DataFrame"),
        ("facts.head(2)", "one row per fact with the same index: got 2 rows for"),
        ("facts[['amount']]", "it returned amount, and .* names total, times, shop, large"),
    ],
)
def test_another_shape(
    make_paying: Make, settings: Settings, tmp_path: Path, body: str, match: str
) -> None:
    project = make_paying()
    (tmp_path / "spending.py").write_text(f"def spending(facts):\n    return {body}\n")
    refused(project, settings, FeatureError, match)


def test_facts_keep_their_contract(make_paying: Make, settings: Settings) -> None:
    facts = payments()
    facts.loc[[3, 5], "shop"] = "east"
    match = r"feature_views\.paid: .*payments\.csv: 2 of \d+ facts break the contract of the view"
    refused(make_paying(facts), settings, ContractError, match)
    refused(make_paying(facts.head(0)), settings, SourceError, r"^feature_views\.paid: .*no ")
    bare = facts.rename(columns={"shop": "Shop"})
    match = r"^feature_views\.paid: contract\.columns: .*payments\.csv has no column 'shop'"
    refused(make_paying(bare), settings, ContractError, match)


def declared(make_paying: Make, **changes: Any) -> str:
    from lifecycle.errors import ProjectError

    with pytest.raises(ProjectError) as error:
        make_paying(**changes)
    return str(error.value)


def test_a_view_that_cannot_be(make_paying: Make, make_project: Make) -> None:
    assert "feature_views.paid.key: names 'who'" in declared(make_paying, key="who")
    text = {"total": {"type": "string"}}
    assert "features.total.type: string cannot be a feature" in declared(make_paying, features=text)
    columns = {"customer": {"type": "string"}, "year": {"type": "integer"}}
    assert "feature_views.paid.key: 'customer' is string, and 'customer'" in declared(
        make_paying, columns=columns
    )
    assert "feature_views" in declared(make_paying, features={})


def test_inputs_and_requests(make_paying: Make) -> None:
    project = make_paying()
    made = ("paid__total", "paid__times", "paid__shop", "paid__large")
    assert project.input_columns == ("age", *made)
    assert project.source_inputs == ("age",)
    assert list(project.asked_columns) == ["customer", "age"]
    assert all(project.columns[name].nullable for name in made)
    assert pd.Series(project.columns).index.is_unique
