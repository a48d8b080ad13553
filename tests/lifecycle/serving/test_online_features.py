"""What a replica looks up is what would be joined offline as of now, bit by bit."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lifecycle.data.privacy import pii_key
from lifecycle.errors import BackendError, BundleError, RequestError
from lifecycle.features.encode import view_uses
from lifecycle.features.join import join_batch
from lifecycle.features.store import made_like, materialise, open_view
from lifecycle.lake.column_types import to_frame
from lifecycle.lake.logged_predictions import read_log
from lifecycle.lake.read import is_nullable, read_table, read_version
from lifecycle.project import ColumnSpec, Project
from lifecycle.serving import online_features as serving_views
from lifecycle.serving.batch import Scorer
from lifecycle.serving.online_features import ServedViews, as_requests
from lifecycle.serving.predictor import ServedModel
from lifecycle.serving.records import PredictionRequest, to_records
from lifecycle.training.bundle import load_bundle
from lifecycle.training.predictor import open_predictor
from tests.support.payments import FUNCTIONS, payments
from tests.support.replica import serving

FEATURES = ["paid__total", "paid__times", "paid__shop", "paid__large"]
AFTER_ALL = 5
"""The year after the newest fact's."""


@pytest.fixture
def made(make_paying: Callable[..., Project], train: Callable[..., Any], settings: Any) -> Any:
    return train(make_paying(), settings)


def offline(made: Any, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows joined as training's are, as if their time were now."""
    use = view_uses(made.project)["paid"]
    view = open_view(made_like(made.settings, made.project.name, "paid", use), use)
    now = pa.Table.from_pandas(rows.assign(year=AFTER_ALL)[["customer", "year", "age"]])
    joined = join_batch(made.project, now.combine_chunks().to_batches()[0], {"paid": view})
    return to_frame(pa.Table.from_batches([joined]), is_nullable)


def test_every_holdout_row_alike(made: Any) -> None:
    holdout = made.holdout()
    assert list(holdout.columns[-4:]) == FEATURES
    expected = offline(made, holdout)
    assert expected.paid__total.isna().any()
    assert expected.paid__total.notna().any()
    assert not expected.paid__total.equals(holdout.paid__total)  # it is later now
    loaded = load_bundle(made.bundle.path, made.bundle.digest)
    predicted = open_predictor(loaded, made.project).predict(expected)
    rows = as_requests(holdout, loaded.schema, made.project)
    assert list(rows) == ["customer", "age"]
    with serving(made) as (served, ask):
        assert served.views is not None
        pd.testing.assert_frame_equal(served.views.frame(rows)[FEATURES], expected[FEATURES])
        answer = ask("/predict", {"records": to_records(rows)}).json()
        np.testing.assert_array_equal(answer["predictions"], predicted)
        one = [ask("/predict", {"records": [r]}).json() for r in to_records(rows.head(3))]
        assert [row["predictions"][0] for row in one] == predicted[:3].tolist()
        columns = {name: rows[name].tolist() for name in rows}
        scored = ask("/invocations", {"inputs": columns}).json()
        np.testing.assert_array_equal(scored["predictions"], predicted)
        tensors = [
            {"name": name, "shape": [len(rows)], "datatype": kind, "data": rows[name].tolist()}
            for name, kind in (("customer", "INT64"), ("age", "FP64"))
        ]
        inferred = ask("/v2/models/small/infer", {"inputs": tensors}).json()
        np.testing.assert_array_equal(inferred["outputs"][0]["data"], predicted)
    log = read_log(made.settings, made.project.name, 0.0)
    first = log[log.id.str.startswith(answer["id"])]
    first = first.sort_values("id", key=lambda ids: ids.str.rsplit("-").str[-1].astype(int))
    kept = first[[f"input_{name}" for name in FEATURES]].set_axis(FEATURES, axis=1)
    pd.testing.assert_frame_equal(kept.reset_index(drop=True), expected[FEATURES])
    assert first.entity.tolist() == rows.customer.astype(str).tolist()


def test_unknown_people_and_wrong_requests(made: Any) -> None:
    with serving(made) as (_, ask):

        def problem(**row: Any) -> str:
            answer = ask("/predict", {"records": [row]})
            assert answer.status_code == 422
            return str(answer.json()["error"])

        nobody = ask("/predict", {"records": [{"customer": 77, "age": 40.0}]})
        assert nobody.status_code == 200
        blank = offline(made, pd.DataFrame({"customer": [77], "age": [40.0]}))
        assert blank[FEATURES].isna().all(axis=None)
        assert nobody.json()["predictions"] == made.expected(blank).tolist()
        assert problem(age=40.0) == "row 0: customer: this field is missing"
        assert problem(age=40.0, customer=None) == "row 0: customer: must not be null"
        assert "row 0: customer: must be a whole number" in problem(age=40.0, customer="x")
        assert "row 0: customer: must be a whole number" in problem(age=40.0, customer=2**70)
        assert problem(age=1.0, customer=1, paid__total=3.0) == "row 0: paid__total: unknown field"
        assert "row 0: age" in problem(customer=1001)
        assert problem(age=1.0, customer=1, shoe=3) == "row 0: shoe: unknown field"
        column = ask("/invocations", {"inputs": {"age": [1.0], "customer": [1], "paid__shop": [1]}})
        assert "paid__shop: unknown field" in column.text
        whole = ask("/predict", {"records": [{"customer": 1001.0, "age": 40.0}]})
        same = ask("/predict", {"records": [{"customer": 1001, "age": 40.0}]})
        assert whole.json()["predictions"] == same.json()["predictions"]


def test_what_the_endpoint_tells(made: Any) -> None:
    use = view_uses(made.project)["paid"]
    version = made_like(made.settings, made.project.name, "paid", use)
    with serving(made) as (_, ask):
        told = ask("/model").json()
        assert list(told["inputs"]) == ["customer", "age"]
        assert told["views"] == {
            "paid": {"version": 0, "digest": version.digest, "features": FEATURES}
        }
        record = ask("/openapi.json").json()["components"]["schemas"]["Record"]
        assert sorted(record["required"]) == ["age", "customer"]
        names = [one["name"] for one in ask("/v2/models/small").json()["inputs"]]
        assert names == ["customer", "age"]


def test_newer_facts_come_by_themselves(
    made: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(serving_views, "REFRESH_SECONDS", 0.05)
    row = {"customer": 1001, "age": 40.0}
    with serving(made) as (served, _):
        views = served.views
        assert views is not None
        before = views.frame(pd.DataFrame([row])).paid__total[0]
        views.follow()
        facts = pd.concat([payments(), pd.DataFrame([payments().iloc[0]])], ignore_index=True)
        facts.loc[len(facts) - 1] = [1001, 9, 1000.0, "north"]
        facts.to_csv(tmp_path / "payments.csv", index=False)
        materialise(made.project, made.settings, "paid")
        end = time.monotonic() + 10
        while views.versions["paid"].version == 0 and time.monotonic() < end:
            time.sleep(0.02)
        views.close()
        assert views.versions["paid"].version == 1
        after = views.frame(pd.DataFrame([row])).paid__total[0]
        assert after == pytest.approx((0 if np.isnan(before) else before) + 1000)


def test_features_made_otherwise_are_not_served(made: Any, tmp_path: Path) -> None:
    (tmp_path / "spending.py").write_text(FUNCTIONS + "\n# changed\n")
    schema = load_bundle(made.bundle.path).schema
    materialise(made.project, made.settings, "paid")
    views = ServedViews(schema.views, made.project, made.settings)
    assert views.versions["paid"].version == 0  # the one the model knows
    with pytest.raises(BundleError, match=r"view 'paid' .* train again"):
        Scorer(made.bundle.path, made.model, made.project)
    elsewhere = made.settings.model_copy(update={"home": tmp_path / "elsewhere"})
    with pytest.raises(BackendError, match="no version has the features of view 'paid'"):
        ServedModel.open(made.bundle.path, made.model, made.project, settings=elsewhere)


def test_a_hashed_entity_is_hashed_here_too(
    make_paying: Callable[..., Project], train: Callable[..., Any], settings: Any
) -> None:
    plain = make_paying()
    columns = plain.contract.columns
    hashed = columns | {"customer": columns["customer"].model_copy(update={"pii": "hash"})}
    contract = plain.contract.model_copy(update={"columns": hashed})
    made = train(plain.model_copy(update={"contract": contract}), settings)
    table = read_table(made_like(settings, "small", "paid", view_uses(made.project)["paid"]))
    assert pa.types.is_string(table["entity"].type)
    assert len(pii_key(settings)) == 64
    known = payments().customer.unique()
    with serving(made) as (served, ask):
        assert served.views is not None
        people = pd.DataFrame({"customer": [*known[:5], 77], "age": 30.0})
        totals = served.views.frame(people).paid__total
        expected = [payments().query("customer == @who").amount.sum() for who in known[:5]]
        assert totals[:5].tolist() == pytest.approx(expected)
        assert np.isnan(totals[5])
        sent = as_requests(made.holdout(), load_bundle(made.bundle.path).schema, made.project)
        assert sent.customer.tolist() == [0] * len(sent)
        assert ask("/predict", {"records": to_records(sent)}).status_code == 200


def test_the_holdout_is_joined_by_its_own_time(made: Any) -> None:
    train, holdout = read_version(made.split.train), made.holdout()
    for part in (train, holdout):
        for row in part.itertuples():
            facts = payments().query("customer == @row.customer and year < @row.year")
            assert np.nansum([row.paid__total]) == pytest.approx(facts.amount.sum())


def test_an_entity_is_held_to_its_pattern(
    make_paying: Callable[..., Project], settings: Any
) -> None:
    plain = make_paying()
    coded = {"customer": ColumnSpec(type="string", pattern="C[0-9]+")}
    contract = plain.contract.model_copy(update={"columns": plain.contract.columns | coded})
    views = ServedViews({}, plain.model_copy(update={"contract": contract}), settings)
    good, bad = (
        PredictionRequest(records=[{"customer": name}], rows=1) for name in ("C17", "nonsense")
    )
    assert views._entities(good).to_pylist() == ["C17"]
    with pytest.raises(RequestError, match=r"row 0: customer: must be of the form C\[0-9\]\+"):
        views._entities(bad)
