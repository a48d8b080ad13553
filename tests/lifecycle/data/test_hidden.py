"""Personal data at ingestion: hashed once or left out, unless the model reads it."""

from collections.abc import Callable
from typing import Any

import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.privacy import pii_key, pseudonym
from lifecycle.data.split import split_dataset
from lifecycle.errors import ProjectError
from lifecycle.lake.read import read_version
from lifecycle.project import Project
from lifecycle.records import Window
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame

MakeProject = Callable[..., Project]


def declared(make_project: MakeProject, **pii: str) -> Project:
    """The small project with an ignored column `note`, and some columns of personal data."""
    columns: dict[str, Any] = SMALL["contract"]["columns"] | {"note": {"type": "string"}}
    columns = {n: spec | ({"pii": pii[n]} if n in pii else {}) for n, spec in columns.items()}
    frame = small_frame().assign(note=[f"note {at % 7}" for at in range(400)])
    ignored = [*SMALL.get("ignore", []), "note"]
    contract = SMALL["contract"] | {"columns": columns}
    return make_project(frame, contract=contract, ignore=ignored)


def test_the_entity_is_hashed_and_told_apart_by_its_hash(
    make_project: MakeProject, settings: Settings
) -> None:
    project = declared(make_project, customer="hash", note="drop", city="hash")
    done = ingest(project, settings, Window())
    rows = read_version(done.dataset)
    plain = small_frame()
    assert rows["customer"].tolist() == pseudonym(plain["customer"], pii_key(settings))
    assert "note" not in rows
    assert rows["city"].tolist() == plain["city"].tolist()  # the model reads it
    parts = split_dataset(project, settings, done)
    held, learned = (set(read_version(p)["customer"]) for p in (parts.holdout, parts.train))
    assert held
    assert not held & learned


def test_other_columns_are_hashed_too(make_project: MakeProject, settings: Settings) -> None:
    rows = read_version(ingest(declared(make_project, note="hash"), settings, Window()).dataset)
    assert rows["note"].nunique() == 7
    assert rows["note"].str.fullmatch("[0-9a-f]{64}").all()
    assert rows["customer"].tolist() == small_frame()["customer"].tolist()


def test_without_its_entity_a_row_is_nobodys(make_project: MakeProject) -> None:
    with pytest.raises(ProjectError, match=r"customer\.pii: the entity cannot be dropped"):
        declared(make_project, customer="drop")
