"""Views in the lake: written once, joined by time, erased people left out, entities hashed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.privacy import pii_key, pseudonym, suppress
from lifecycle.data.windows import first_window
from lifecycle.errors import BackendError
from lifecycle.features.encode import view_uses
from lifecycle.features.join import join_views
from lifecycle.features.store import made_like, materialise
from lifecycle.lake.read import read_version
from lifecycle.lake.table import history, noted_version, table_uri
from lifecycle.project import Project
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings
from tests.support.payments import FUNCTIONS, PROJECT, customers, payments

Make = Callable[..., Project]


def joined(project: Project, settings: Settings) -> DatasetVersion:
    return join_views(project, settings, ingest(project, settings, first_window(project)).dataset)


def test_each_row_has_what_was_known(make_paying: Make, settings: Settings) -> None:
    project = make_paying()
    frame = read_version(joined(project, settings))
    rows = customers()
    typed = frame.astype({"bought": "int64"})  # a label may come later
    pd.testing.assert_frame_equal(typed[rows.columns], rows)
    facts = payments()
    for row in frame.itertuples():
        earlier = facts[(facts.customer == row.customer) & (facts.year < row.year)]
        if earlier.empty:
            assert pd.isna(row.paid__total)
            assert pd.isna(row.paid__times)
            assert pd.isna(row.paid__shop)
        else:
            last = earlier.sort_values("year", kind="stable").iloc[-1]
            assert row.paid__total == pytest.approx(earlier.amount.sum())
            assert (row.paid__times, row.paid__shop) == (len(earlier), last.shop)
            assert row.paid__large == (last.amount > 50)
    assert frame.paid__total.isna().any()
    assert frame.dtypes[["paid__times", "paid__large"]].map(str).tolist() == ["Int64", "boolean"]


def test_nothing_is_done_twice(
    make_paying: Make, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = make_paying()
    first = joined(project, settings)
    uri = table_uri(settings, project.name, "view_paid")
    with monkeypatch.context() as patched:
        patched.setattr("lifecycle.features.store.read_facts", None)
        assert joined(project, settings) == first
    assert len(history(uri)) == 1
    note = noted_version(first.uri, {"project": project.name})
    assert note is not None
    assert json.loads(note.note["views"]) == {"paid": [0, made(project, settings).digest]}

    (tmp_path / "spending.py").write_text(FUNCTIONS.replace("> 50", "> 60"))
    assert joined(project, settings) != first
    assert len(history(uri)) == 2
    more = payments(people=70)
    more.to_csv(tmp_path / "payments.csv", index=False)
    assert joined(project, settings) != first
    assert len(history(uri)) == 3


def made(project: Project, settings: Settings) -> DatasetVersion:
    return made_like(settings, project.name, "paid", view_uses(project)["paid"])


def test_serving_takes_what_was_made_last_of_its_kind(
    make_paying: Make, settings: Settings, tmp_path: Path
) -> None:
    project = make_paying()
    use = view_uses(project)["paid"]
    with pytest.raises(BackendError, match="no version has the features of view 'paid'"):
        made(project, settings)
    first = materialise(project, settings, "paid")
    payments(seed=2).to_csv(tmp_path / "payments.csv", index=False)
    second = materialise(project, settings, "paid")
    payments().to_csv(tmp_path / "payments.csv", index=False)  # as they were at first
    third = materialise(project, settings, "paid")
    assert made(project, settings) == third
    assert len({first.version, second.version, third.version}) == 3
    pd.testing.assert_frame_equal(read_version(first), read_version(third))

    (tmp_path / "spending.py").write_text(FUNCTIONS + "\n# changed\n")
    changed = materialise(project, settings, "paid")
    assert made_like(settings, project.name, "paid", use) == third
    assert made(project, settings) == changed


def test_who_was_erased_is_left_out(make_paying: Make, settings: Settings) -> None:
    project = make_paying()
    person = int(payments().customer.iloc[0])
    before = read_version(materialise(project, settings, "paid"))
    suppress(settings, project, [person])
    after = read_version(materialise(project, settings, "paid"))
    assert person in set(before.entity)
    expected = before[before.entity != person].reset_index(drop=True)
    pd.testing.assert_frame_equal(after, expected)


def test_a_hashed_entity(make_paying: Make, settings: Settings) -> None:
    plain = make_paying()
    expected = read_version(joined(plain, settings))
    contract: Any = json.loads(json.dumps(PROJECT["contract"]))
    contract["columns"]["customer"]["pii"] = "hash"
    project = plain.model_copy(
        update={"contract": type(plain.contract).model_validate(contract), "name": "hashed"}
    )
    frame = read_version(joined(project, settings))
    key = pii_key(settings)
    assert frame.customer.tolist() == pseudonym(expected.customer, key)
    features = list(project.view_columns)
    pd.testing.assert_frame_equal(frame[features], expected[features])
    table = read_version(made(project, settings))
    assert set(table.entity) == set(pseudonym(payments().customer, key))


def test_without_views_nothing_happens(make_project: Make, settings: Settings) -> None:
    project = make_project()
    dataset = ingest(project, settings, first_window(project)).dataset
    assert join_views(project, settings, dataset) == dataset
    assert history(table_uri(settings, project.name, "joined")).empty


def test_times_are_days(make_paying: Make, make_project: Make, settings: Settings) -> None:
    """With datetimes, and facts that get too old."""
    start = pd.Timestamp("2024-01-01")
    contract: Any = json.loads(json.dumps(PROJECT["contract"]))
    contract["columns"]["year"]["type"] = "datetime"
    columns = {
        "customer": {"type": "integer"},
        "year": {"type": "datetime"},
        "amount": {"type": "number"},
        "shop": {"type": "category", "categories": ["north", "south"]},
    }
    rows, facts = customers(), payments()
    rows["year"] = start + pd.to_timedelta(rows.year, unit="D")
    facts["year"] = start + pd.to_timedelta(facts.year, unit="D")
    make_paying(facts, rows)
    from tests.support.payments import view

    project = make_project(
        rows,
        **(PROJECT | {"contract": contract}),
        feature_views={"paid": view(columns=columns, max_age=1)},
    )
    frame = read_version(joined(project, settings))
    assert frame.paid__total.notna().any()
    for row in frame.itertuples():
        age = row.year - facts[(facts.customer == row.customer) & (facts.year < row.year)].year
        assert pd.isna(row.paid__total) == (not (age <= pd.Timedelta(days=1)).any())
