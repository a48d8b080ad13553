"""Versions in an MLflow store."""

import pytest

from lifecycle.records import ModelVersion
from lifecycle.release.mlflow_store import connect
from lifecycle.release.registry import (
    BUNDLE,
    CHALLENGER,
    CHAMPION,
    COMPLETE,
    IDENTITY,
    as_record,
    set_alias,
)
from lifecycle.settings import Settings


@pytest.fixture
def three(settings: Settings) -> tuple[ModelVersion, ModelVersion, ModelVersion]:
    """Registered versions without files: the first is champion, the second challenger."""
    client = connect(settings)
    client.create_registered_model("small")
    made = []
    for letter in "abc":
        tags = {IDENTITY: letter * 64, BUNDLE: letter.upper() * 64, COMPLETE: "true"}
        made.append(as_record(client.create_model_version("small", f"file:///{letter}", tags=tags)))
    one, two, third = made
    set_alias(one, CHAMPION, settings)
    set_alias(two, CHALLENGER, settings)
    return one, two, third
