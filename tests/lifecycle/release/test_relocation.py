"""State that was moved or renamed is found: artifacts, reference versions, models."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lifecycle.governance import erase as erasing
from lifecycle.lake.read import read_version
from lifecycle.lake.table import missing, relocated, table_uri
from lifecycle.lake.write import write_version
from lifecycle.lineage.walk import lineage
from lifecycle.records import DatasetVersion, Split
from lifecycle.release.artifacts import predict_of, record_of, registered_bundle
from lifecycle.release.mlflow_store import connect, experiment_id, relocate
from lifecycle.release.registry import by_alias, find_by_identity
from lifecycle.settings import Settings

NAMES = (
    "100%",
    "a:b",
    "ä&b",
    "日本",
    "a;b",
    "a b",
    "a+b=c@d",
    "{a}",
    "a'b",
    "~x",
    "50%x",
    "a#1",
    "a?x",
    "a?b%c#d",
    "a::b",
)


def moved(settings: Settings, place: Path) -> Settings:
    """The same state in another place, as a process that begins there finds it."""
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    _artifact_repos_cache.clear()
    place.parent.mkdir(exist_ok=True)
    settings.home.rename(place)
    return settings.model_copy(update={"home": place})


@pytest.mark.parametrize("name", NAMES)
def test_artifacts_are_in_a_home_of_any_name_and_found_when_it_moves(
    name: str, tmp_path: Path
) -> None:
    import mlflow

    place = tmp_path / "odd" / name
    settings = Settings(home=place)
    client = connect(settings)
    experiment = experiment_id(client, "small", settings)
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "as it was", "lifecycle/note.txt")
    for here in (settings, None):
        here = here or moved(settings, tmp_path / "odd" / f"{name} moved")
        connect(here)
        text = mlflow.artifacts.load_text(f"runs:/{run}/lifecycle/note.txt")
        assert text == "as it was"
        assert [path.name for path in (tmp_path / "odd").iterdir()] == [here.home.name]
        assert len([*here.home.glob("mlartifacts/small/*/artifacts/lifecycle/note.txt")]) == 1


@pytest.mark.parametrize("name", ["home 2", "a?x=1 #2 ä&b::c 100% d+e;f@g {h} 'i' <j>"])
def test_a_registered_model_and_what_it_learned_from_are_found_after_a_move(
    small_model: Any, tmp_path: Path, name: str
) -> None:
    trained = small_model.register()
    project, model = small_model.project, trained.model
    frame = read_version(trained.split.holdout)
    before = predict_of(model, small_model.settings)(frame)
    here = moved(small_model.settings, tmp_path / "elsewhere" / name)
    assert by_alias(project.name, "challenger", here) == model
    assert find_by_identity(project, here, trained.identity.digest) == model
    record = record_of(model, here)
    for part in (record.split.train, record.split.validation, record.split.holdout):
        assert Path(part.uri).is_relative_to(here.home)
        assert len(read_version(part)) == part.rows
    assert predict_of(model, here)(frame).tolist() == before.tolist()
    with registered_bundle(connect(here), model, here) as bundle:
        assert bundle.is_relative_to(here.home)
    assert lineage(project, here, "model:1")
    person = str(frame[project.entity].iloc[0])
    found = erasing.check(project, here, [person], []).left
    assert [place for place in found if "accepted" in place], found
    assert not small_model.settings.home.exists()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [name]


def test_nothing_is_written_where_nothing_moved(small_model: Any) -> None:
    small_model.register()
    settings = small_model.settings
    database = settings.home / "mlflow.db"
    assert relocate(database, settings) == 0
    # artifacts that somebody keeps elsewhere on purpose stay there
    elsewhere = settings.model_copy(update={"mlflow_artifact_root": "file:///elsewhere"})
    assert relocate(database, elsewhere) == 0
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, "
            "workspace) VALUES (99, 'other', 's3://models/mlartifacts/other', 'active', 'default')"
        )
    assert relocate(database, settings) == 0


def test_a_reference_to_another_lake_stays(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    frame = pd.DataFrame({"a": [1, 2]})
    here = write_version(frame, table_uri(settings, "small", "train"), note={})
    stale = here.model_copy(update={"uri": "/old/home/lake/small/train"})
    other = stale.model_copy(update={"digest": "0" * 64})
    nowhere = DatasetVersion(uri="/old/home/lake/small/gone", version=0, digest="1" * 64, rows=1)
    split = Split(train=stale, validation=other, holdout=nowhere, withheld=0, rule="")
    found = relocated(split, settings)
    assert found.train == here
    assert found.validation == other
    assert found.holdout == nowhere
    assert not missing(here)
    assert missing(found)
    assert missing(stale)
