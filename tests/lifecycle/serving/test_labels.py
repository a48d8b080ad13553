"""`POST /labels`: taken in before it is answered, refused in words, joined by prediction id."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from lifecycle.data.privacy import suppress
from lifecycle.labels.ledger import Ledger
from lifecycle.labels.truth import truth_by_id
from lifecycle.lake.logged_predictions import read_log
from lifecycle.project import Project
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings
from tests.support.replica import serving

Make = Callable[..., Project]
ID = "0123456789abcdef000000000000"


def test_labels_are_in_the_ledger_once_they_are_answered(
    make_project: Make, train: Callable[..., Any], settings: Settings
) -> None:
    made = train(make_project(), settings)
    records = to_records(made.holdout()[["age", "visits", "city"]].head(3))
    with serving(made) as (_, ask):
        answer = ask("/predict", {"records": records}).json()
        labels = [{"prediction_id": f"{answer['id']}-{at}", "bought": at % 2} for at in range(3)]
        reply = ask("/labels", {"labels": labels[:2]})
        assert (reply.status_code, reply.json()) == (200, {"labels": 2})
        ask("/labels", {"labels": labels})  # sent again, with one more
        ledger = Ledger(made.settings, "small")
        assert ledger.rows().num_rows == 5
        schema = ask("/openapi.json").json()["paths"]["/labels"]["post"]
        assert "bought" in str(schema["requestBody"])
        assert ask("/labels").status_code == 405
    log = read_log(made.settings, "small", 0)
    truth = truth_by_id(ledger.rows(), made.project, pa.array(log["id"]))
    assert dict(zip(log["id"], truth.values, strict=True)) == {
        f"{answer['id']}-{at}": at % 2 for at in range(3)
    }


def test_labels_of_an_erased_entity_stay_away(
    make_project: Make, train: Callable[..., Any], settings: Settings
) -> None:
    made = train(make_project(), settings)
    suppress(made.settings, made.project, [7])
    with serving(made) as (_, ask):
        labels = [{"customer": customer, "bought": 1} for customer in (7, 8)]
        assert ask("/labels", {"labels": labels}).json() == {"labels": 2}, "it tells nobody"
    assert Ledger(made.settings, "small").rows()["entity"].to_pylist() == ["8"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "JSON"),
        ({"labels": {}}, 400, "a list of objects"),
        ({"labels": []}, 422, "got 0 rows"),
        ({"label": []}, 422, "the body must be"),
        ({"labels": [{"prediction_id": ID, "bought": 7}]}, 422, "row 0: bought: above 1"),
        ({"labels": [{"prediction_id": ID}]}, 422, "row 0: bought: missing"),
        ({"labels": [{"prediction_id": ID, "bought": 1, "customer": None}]}, 422, "leave it out"),
        ({"labels": [{"bought": 1}]}, 422, "need the column prediction_id, or customer"),
        ({"labels": [{"prediction_id": "x", "bought": 1}]}, 422, "not the id of a prediction"),
        ({"labels": [{"prediction_id": ID, "bought": 1, "age": 3}]}, 422, "'age'"),
        (
            {"labels": [{"customer": 7, "bought": 1, "known_at": "2999-01-01"}]},
            422,
            "known_at: in the future",
        ),
    ],
)
def test_what_is_no_label_is_refused_in_words(
    make_project: Make,
    train: Callable[..., Any],
    settings: Settings,
    body: Any,
    status: int,
    reason: str,
) -> None:
    made = train(make_project(), settings)
    with serving(made) as (_, ask):
        reply = ask("/labels", body)
        assert reply.status_code == status
        assert reason in reply.json()["error"]
    assert not Ledger(made.settings, "small").rows().num_rows


def test_a_ledger_that_cannot_be_written_is_said(
    make_project: Make, train: Callable[..., Any], settings: Settings
) -> None:
    made = train(make_project(), settings)
    place = settings.home / "lake" / "small" / "labels"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("no table")
    with serving(made) as (_, ask):
        reply = ask("/labels", {"labels": [{"customer": 7, "bought": 1}]})
    assert reply.status_code == 503
    assert "send them again" in reply.json()["error"]
