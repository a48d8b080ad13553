"""Batch inference into a versioned table."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lifecycle.errors import BackendError, BundleError
from lifecycle.lake.read import open_rows, read_version
from lifecycle.lake.table import history, table_uri
from lifecycle.project import Project
from lifecycle.records import Scored, Window
from lifecycle.serving.batch import Scorer, key_columns, score
from lifecycle.settings import Settings


def run(
    made: Any, project: Project | None = None, ray_address: str = "local", **changes: Any
) -> Scored:
    settings = made.settings.model_copy(update={"ray_address": ray_address})
    model = made.model.model_copy(update=changes)
    dataset = made.ingested.dataset
    project = project or made.project
    return score(project, settings, dataset, Window(), model, made.bundle.path)


def test_every_row_gets_its_prediction_with_its_keys(small_model: Any) -> None:
    scored = run(small_model)
    source = read_version(small_model.ingested.dataset)
    table = read_version(scored.predictions)

    assert scored.engine == "process"
    assert list(table) == ["customer", "row", "prediction", "model_version"]
    np.testing.assert_array_equal(table["row"], np.arange(len(source)))
    np.testing.assert_array_equal(table["customer"], source["customer"])
    np.testing.assert_array_equal(table["prediction"], small_model.expected(source))
    assert set(table["model_version"]) == {1}


def test_keys_are_what_tells_rows_apart(make_project: Callable[..., Project]) -> None:
    columns = {
        "customer": {"type": "string"},
        "order": {"type": "integer", "unique": True},
        "mail": {"type": "string", "unique": True, "pii": "drop"},
        "line": {"type": "integer"},
    }
    contract = make_project().contract.model_dump(mode="json", exclude_defaults=True)
    contract["columns"] |= columns
    contract["key"] = ["line"]
    project = make_project(contract=contract)
    assert key_columns(project)[:3] == ["customer", "line", "order"]
    assert "mail" not in key_columns(project)


def test_the_same_model_and_dataset_are_scored_once(small_model: Any) -> None:
    first = run(small_model)
    assert run(small_model) == first
    run(small_model, version=2, uri="models:/small/2")
    assert len(history(table_uri(small_model.settings, "small", "predictions"))) == 2


def test_rows_are_scored_while_they_are_read_in_slices_of_one_size(
    small_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read_version(small_model.ingested.dataset)
    read, scored = 0, []

    def batches(*arguments: Any) -> Iterator[pa.RecordBatch]:
        nonlocal read
        for some in open_rows(*arguments):
            for start in range(0, some.num_rows, 40):
                batch = some.slice(start, 40)
                read += batch.num_rows
                yield batch

    class Spy(Scorer):
        def score(self, frame: pd.DataFrame, rows: Any) -> pa.Table:
            scored.append((len(frame), read))
            return super().score(frame, rows)

    for name, value in (("open_rows", batches), ("Scorer", Spy), ("SLICE", 90)):
        monkeypatch.setattr(f"lifecycle.serving.batch.{name}", value)
    table = read_version(run(small_model).predictions)

    sizes = [size for size, _ in scored]
    assert sizes == [90] * (len(source) // 90) + [len(source) % 90]
    assert all(at < 90 * number + 40 for number, (_, at) in enumerate(scored, 1))
    np.testing.assert_array_equal(table["row"], np.arange(len(source)))
    np.testing.assert_array_equal(table["prediction"], small_model.expected(source))


def test_a_changed_bundle_scores_nothing(small_model: Any) -> None:
    model = small_model.bundle.path / "model.ubj"
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(BundleError, match=r"model\.ubj"):
        run(small_model)
    assert history(table_uri(small_model.settings, "small", "predictions")).empty


def test_a_project_without_keys(
    train: Callable[..., Any], make_project: Any, settings: Settings
) -> None:
    made = train(make_project(entity=None, inputs=["age", "visits", "city"]), settings)
    assert list(read_version(run(made).predictions)) == ["row", "prediction", "model_version"]


@pytest.mark.component
@pytest.mark.usefixtures("ray_cluster")
def test_ray_data_gives_the_same_table_and_says_nothing(
    small_model: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    here = read_version(run(small_model).predictions)
    scoring = small_model.project.scoring.model_copy(update={"ray_data_above_rows": 1})
    project = small_model.project.model_copy(update={"scoring": scoring})
    assert run(small_model, project).engine == "process"  # where no cluster is joined
    scored = run(small_model, project, "connected", version=2, uri="models:/small/2")

    assert scored.engine == "ray_data"
    assert capfd.readouterr() == ("", "")
    there = read_version(scored.predictions)
    pd.testing.assert_frame_equal(
        here.drop(columns="model_version"), there.drop(columns="model_version")
    )


@pytest.mark.component
@pytest.mark.usefixtures("ray_cluster")
def test_an_error_of_ours_out_of_ray_data_is_one_message(
    small_model: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    scoring = small_model.project.scoring.model_copy(update={"ray_data_above_rows": 1})
    project = small_model.project.model_copy(update={"scoring": scoring})
    data = next(Path(small_model.ingested.dataset.uri).glob("part-*.parquet"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 16
    data.write_bytes(content)
    with pytest.raises(BackendError, match=rf"{data.name}: its SHA-256 is") as told:
        run(small_model, project, "connected")
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")
    assert history(table_uri(small_model.settings, "small", "predictions")).empty
