"""`serving.unknown_fields: ignore`: other fields are left out, whatever is in them, and counted."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lifecycle.lake.logged_predictions import read_log
from lifecycle.project import Project
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings
from tests.support.replica import serving

INPUTS = ["age", "visits", "city"]
ODD = {"colour": "red", "meta": {"a": [1]}}
"""Fields of no model; the second is nested, which no column is."""
Make = Callable[..., Project]
HOOK = "def build(inputs):\n    return inputs.assign(old=inputs['age'] > 50)\n"


@pytest.fixture(params=["plain", "hook"])
def changes(request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, Any]:
    """Both ways from a request to the matrix."""
    (tmp_path / "features.py").write_text(HOOK)
    return {"features": "features:build"} if request.param == "hook" else {}


def bodies(rows: Any) -> dict[str, tuple[str, Any]]:
    """Name → path and a request with two fields a row that the model does not take."""
    records = [record | ODD for record in to_records(rows)]
    count = len(rows)
    columns = {name: rows[name].tolist() for name in rows} | {
        name: [value] * count for name, value in ODD.items()
    }
    kinds = {"age": "FP64", "visits": "INT64", "city": "BYTES"}
    tensors = [
        {"name": name, "shape": [count], "datatype": kind, "data": rows[name].tolist()}
        for name, kind in kinds.items()
    ]
    tensors.insert(
        0, {"name": "colour", "shape": [count], "datatype": "BYTES", "data": ["red"] * count}
    )
    tensors.append(
        {"name": "meta", "shape": [count, 3], "datatype": "FP32", "data": [1.0] * 3 * count}
    )
    split = {"columns": list(columns), "data": [list(r.values()) for r in records]}
    return {
        "records": ("/predict", {"records": records}),
        "split": ("/invocations", {"dataframe_split": split}),
        "dataframe": ("/invocations", {"dataframe_records": records}),
        "columns": ("/invocations", {"inputs": columns}),
        "instances": ("/invocations", {"instances": records}),
        "tensors": ("/v2/models/small/infer", {"inputs": tensors}),
    }


def answers(content: Any) -> Any:
    return content["predictions"] if "predictions" in content else content["outputs"][0]["data"]


def test_every_protocol_leaves_them_out_and_counts_them(
    make_project: Make,
    train: Callable[..., Any],
    settings: Settings,
    changes: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = train(make_project(serving={"unknown_fields": "ignore"}, **changes), settings)
    rows = made.holdout()[INPUTS].head(7)
    expected = made.expected(rows)
    with serving(made) as (_, ask), caplog.at_level(logging.WARNING):
        asked = 0
        for count in (1, 7):
            for name, (path, body) in bodies(rows.head(count)).items():
                answer = ask(path, body)
                assert answer.status_code == 200, (name, answer.text)
                np.testing.assert_allclose(answers(answer.json()), expected[:count], atol=1e-6)
                asked += count
        text = f"{','.join(INPUTS)},colour\n" + "".join(
            f"{r.age},{r.visits},{r.city},red\n" for r in rows.itertuples()
        )
        answer = ask("/invocations", text.encode(), **{"content-type": "text/csv"})
        np.testing.assert_allclose(answer.json()["predictions"], expected, atol=1e-6)
        fields = 2 * asked + 7
        assert f"lifecycle_ignored_fields_total {fields:.1f}" in ask("/metrics").text
        document = ask("/openapi.json").json()
        assert document["components"]["schemas"]["Record"]["additionalProperties"] is True
        # what the model does take is looked at as ever
        records = to_records(rows.head(1))
        short = {name: value for name, value in records[0].items() if name != "visits"} | ODD
        answer = ask("/predict", {"records": [short]})
        assert (answer.status_code, answer.json()["error"]) == (
            422,
            "row 0: visits: this field is missing",
        )
        nested = ask("/predict", {"records": [records[0] | {"city": ["Rome"]}]})
        assert nested.json()["error"] == "row 0: city: must be a single value, got a list"
    told = [r.getMessage() for r in caplog.records if "does not take" in r.getMessage()]
    assert len(told) == 1
    assert "such as 'colour'" in told[0]
    log = read_log(settings, "small", 0.0)
    assert len(log) == asked + 7
    assert log["input_city"].notna().all()
    assert not [name for name in log if "colour" in name or "meta" in name]


def test_they_are_refused_unless_told_otherwise(
    make_project: Make, train: Callable[..., Any], settings: Settings
) -> None:
    made = train(make_project(), settings)
    rows = made.holdout()[INPUTS].head(2)
    with serving(made) as (_, ask):
        for name, (path, body) in bodies(rows).items():
            answer = ask(path, body)
            assert answer.status_code == 422, (name, answer.text)
        record = to_records(rows)[0] | {"colour": "red"}
        answer = ask("/predict", {"records": [record]}).json()
        assert answer["error"] == "row 0: colour: unknown field"
        schemas = ask("/openapi.json").json()["components"]["schemas"]
        assert schemas["Record"]["additionalProperties"] is False
        assert "lifecycle_ignored_fields_total 0.0" in ask("/metrics").text


def test_a_feature_of_a_view_is_looked_up_all_the_same(
    make_paying: Make, train: Callable[..., Any], settings: Settings
) -> None:
    project = make_paying()
    serving_spec = project.serving.model_copy(update={"unknown_fields": "ignore"})
    file = project.file
    ignoring = project.model_copy(update={"serving": serving_spec})
    ignoring._file = file
    made = train(ignoring, settings)
    holdout = made.holdout()
    record = {"customer": int(holdout["customer"].iloc[0]), "age": 40.0}
    with serving(made) as (_, ask):
        plain = ask("/predict", {"records": [record]}).json()["predictions"]
        more = record | {"paid__total": 1e6, **ODD}
        assert ask("/predict", {"records": [more]}).json()["predictions"] == plain
