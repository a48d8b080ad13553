"""Batch inference: reads a dataset version and commits a version of the table `predictions`."""

from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.features.encode import most_probable, probability_columns
from lifecycle.lake.column_types import to_arrow, to_frame
from lifecycle.lake.read import batch_frame, is_nullable, open_rows
from lifecycle.lake.stretches import is_for_ray, on_ray
from lifecycle.lake.table import ROW, find_version, table_uri
from lifecycle.lake.write import write_batches
from lifecycle.project import Project
from lifecycle.records import DatasetVersion, ModelVersion, Scored, Window
from lifecycle.runtime.identity import sha256
from lifecycle.runtime.nodes import on_this_machine
from lifecycle.runtime.run import provenance
from lifecycle.serving.node_bundle import local_bundle
from lifecycle.settings import Settings
from lifecycle.training.bundle import BundleSchema, load_bundle
from lifecycle.training.predictor import check_views, open_predictor

TABLE = "predictions"
SLICE = 100_000
"""Rows predicted at a time."""
THREADS = 2
"""XGBoost threads of one scorer; batches use them, single rows would not."""


def score(
    project: Project,
    settings: Settings,
    dataset: DatasetVersion,
    window: Window,
    model: ModelVersion,
    bundle: Path,
) -> Scored:
    """Predict every row of a dataset version. The same dataset and model are scored only once.

    The table has the columns of `key_columns`, `row` (0..n-1 in the dataset), `prediction` and
    `model_version`, in the dataset's order. Multiclass: `prediction` is the most probable class,
    and each class has a column with its probability (`classes.probability_columns`). Binary with a
    `decision`: `predicted` is what the threshold makes of the probability.

    Args:
        bundle: the model's verified bundle.

    Raises:
        BackendError: a table cannot be read or written, or Ray is needed and not there.
        BundleError: the bundle is not the model's, or the features hook is not training's.
        FeatureError: the features hook fails.
    """
    engine: Literal["process", "ray_data"] = (
        "ray_data" if is_for_ray(dataset.rows, project, settings) else "process"
    )
    uri = table_uri(settings, project.name, TABLE)
    digest = sha256({"dataset": dataset.digest, "model": model.digest, "version": model.uri})
    predictions = find_version(uri, digest, dataset)
    if predictions is None:
        rows = f"{dataset.uri.rstrip('/').rpartition('/')[2]}@{dataset.version}"
        note = {"window": str(window), "model": model.uri, "table": rows} | provenance()
        columns = list(dict.fromkeys([*key_columns(project), *project.input_columns]))
        if engine == "ray_data":
            work = partial(
                _score_stretch,
                dataset=dataset,
                columns=columns,
                bundle=bundle,
                model=model,
                project=project,
                settings=settings,
            )
            tables = on_ray(dataset, work, settings, "scoring")
        else:
            tables = _in_process(Scorer(bundle, model, project), dataset, columns)
        with closing(tables):
            predictions = _write(tables, uri, note, digest)
    return Scored(
        dataset=dataset, predictions=predictions, model=model, window=window, engine=engine
    )


class Scorer:
    """Turns rows into their predictions."""

    def __init__(self, bundle: Path, model: ModelVersion, project: Project) -> None:
        loaded = load_bundle(bundle, model.digest)
        check_views(loaded, project)
        self._predictor = open_predictor(loaded, project, THREADS)
        self._inputs = list(self._predictor.loaded.schema.inputs)
        self._project = project
        self._version = model.version

    def score(self, frame: pd.DataFrame, rows: NDArray[np.int64]) -> pa.Table:
        """Keys, row numbers, predictions and model version of rows typed as the contract says."""
        keys = to_arrow(frame[key_columns(self._project)])
        numbers = {
            "row": pa.array(rows),
            **_answers(self._predictor.predict(frame[self._inputs]), self._predictor.loaded.schema),
            "model_version": pa.array(np.full(len(frame), self._version, dtype=np.int64)),
        }
        fields = [pa.field(name, values.type, nullable=False) for name, values in numbers.items()]
        return pa.Table.from_arrays(
            [*keys.columns, *numbers.values()], schema=pa.schema([*keys.schema, *fields])
        )


def _answers(predictions: NDArray[np.float64], schema: BundleSchema) -> dict[str, pa.Array]:
    """Column `prediction`, for multiclass one more a class, for binary perhaps `predicted`."""
    chosen = schema.decided(predictions)
    if not schema.classes:
        answers = {"prediction": pa.array(predictions)}
        return answers | ({"predicted": pa.array(chosen)} if schema.labels else {})
    columns = zip(probability_columns(schema.classes), predictions.T, strict=True)
    return {
        "prediction": pa.array(most_probable(predictions, schema.classes)),
        **{name: pa.array(values) for name, values in columns},
    }


def _score_stretch(
    first: int,
    end: int,
    dataset: DatasetVersion,
    columns: list[str],
    bundle: Path,
    model: ModelVersion,
    project: Project,
    settings: Settings,
) -> Iterator[pa.Table]:
    """Score some row numbers, where Ray Data has room.

    The bundle is opened for every stretch: milliseconds, against the seconds an actor takes to
    start.
    """
    settings = on_this_machine(settings)
    scorer = Scorer(local_bundle(bundle, model, settings), model, project)
    for batch in open_rows(dataset, columns, first, end):
        if batch.num_rows:
            yield scorer.score(*batch_frame(batch, project.columns))


def key_columns(project: Project) -> list[str]:
    """Entity, what the contract says identifies a row, and time: whom a prediction is about."""
    contract = project.contract
    unique = [name for name, spec in contract.columns.items() if spec.unique]
    time = project.time.column if project.time else None
    keys = dict.fromkeys((project.entity, *contract.key, *unique, time))
    dropped = [name for name, spec in contract.columns.items() if spec.pii == "drop"]
    return [key for key in keys if key is not None and key not in dropped]


def _write(
    tables: Iterator[pa.Table], uri: str, note: dict[str, str], digest: str
) -> DatasetVersion:
    first = next(tables)
    batches = (batch for table in chain([first], tables) for batch in table.to_batches())
    return write_batches(first.schema, batches, uri, note=note, digest=digest)


def _in_process(scorer: Scorer, dataset: DatasetVersion, columns: list[str]) -> Generator[pa.Table]:
    """The version's rows, `SLICE` of them in memory at a time; the last slice may be shorter."""
    for rows in _slices(open_rows(dataset, columns)):
        frame = to_frame(rows.drop_columns([ROW]), is_nullable)
        yield scorer.score(frame, rows[ROW].to_numpy())


def _slices(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches put together to tables of `SLICE` rows, whatever their own sizes are.

    An answer may depend on how many rows are asked for at a time: single rows go another way.
    """
    buffer: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        buffer.append(batch)
        rows += batch.num_rows
        while rows >= SLICE:
            table = pa.Table.from_batches(buffer)
            yield table.slice(0, SLICE)
            buffer, rows = table.slice(SLICE).to_batches(), rows - SLICE
    if rows:
        yield pa.Table.from_batches(buffer)
