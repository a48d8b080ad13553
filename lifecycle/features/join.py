"""Views joined to the rows of a dataset version: each as it was known at the row's time."""

import json
from collections.abc import Iterator, Mapping

import pandas as pd
import pyarrow as pa

from lifecycle.data.sources import open_source
from lifecycle.errors import BackendError
from lifecycle.features.asof import AsOf, as_numbers
from lifecycle.features.compute import (
    ViewFunction,
    check_lookahead,
    compute_all,
    feature_schema,
    load_function,
)
from lifecycle.features.encode import ViewUse, view_uses
from lifecycle.features.store import in_order, materialise, open_view, read_facts
from lifecycle.lake.column_types import release_memory, to_arrow, to_frame
from lifecycle.lake.read import is_nullable, open_version
from lifecycle.lake.table import noted_version, table_uri
from lifecycle.lake.write import VersionWriter
from lifecycle.project import Project
from lifecycle.records import DatasetVersion
from lifecycle.runtime.identity import code_digest, sha256
from lifecycle.runtime.run import provenance
from lifecycle.settings import Settings

TABLE = "joined"


def join_views(project: Project, settings: Settings, dataset: DatasetVersion) -> DatasetVersion:
    """A version of the table `joined`: the dataset's rows, and the features of every view.

    The features are in memory, the rows pass by in batches. Without views it is the dataset itself;
    running again on the same rows and facts writes nothing.

    Raises:
        SourceError, ContractError: the facts cannot be used.
        FeatureError: a view's function fails, looks ahead, or returns something else than declared.
        BackendError: the lake cannot be read or written.
    """
    if not project.feature_views:
        return dataset
    uses = view_uses(project)
    views = {name: materialise(project, settings, name) for name in uses}
    used = {name: [views[name].digest, use.model_dump(mode="json")] for name, use in uses.items()}
    request = sha256({"dataset": dataset.digest, "views": used, "code": code_digest("features")})
    uri = table_uri(settings, project.name, TABLE)
    noted = noted_version(uri, {"request": request})
    if noted is not None:
        return noted.version
    note = {
        "dataset": dataset.digest,
        "table": f"{dataset.uri.rstrip('/').rpartition('/')[2]}@{dataset.version}",
        "views": json.dumps({name: [view.version, view.digest] for name, view in views.items()}),
        "project": project.name,
        "request": request,
        **provenance(),
    }
    open_views = {name: open_view(views[name], use) for name, use in uses.items()}
    batches = _joined(project, open_version(dataset), open_views)
    first = next(batches, None)
    if first is None:
        raise BackendError(f"{dataset.uri}: version {dataset.version} has no rows to join views to")
    with VersionWriter(first.schema, uri) as writer:
        writer.write(first)
        for batch in batches:
            writer.write(batch)
        version = writer.commit(note, request)
    release_memory()
    return version


def join_batch(
    project: Project, batch: pa.RecordBatch, views: Mapping[str, AsOf]
) -> pa.RecordBatch:
    """Rows with their features of each view, as known at the row's time.

    Args:
        batch: rows of a dataset version, with the project's entity and time.
    """
    if project.entity is None or project.time is None:
        raise ValueError("views are joined by entity and time")
    entities = batch.column(project.entity)
    times = as_numbers(batch.column(project.time.column))
    fields, columns = list(batch.schema), list(batch.columns)
    for view in views.values():
        fields += list(view.features.schema)
        columns += view.take(view.lookup(entities, times))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _joined(
    project: Project, batches: Iterator[pa.RecordBatch], views: Mapping[str, AsOf]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield join_batch(project, batch, views)


# Trial of views without writing anything, as in `lifecycle validate`.


def try_views(project: Project, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the features of each view, if there is one; as `join_views` makes them.

    Args:
        rows: that keep the contract, typed as it says; nothing in them is hashed.

    Raises:
        SourceError, ContractError: the facts cannot be used.
        FeatureError: a view's function fails, looks ahead, or returns something else than declared.
    """
    if not project.feature_views:
        return rows
    views = {}
    for name, use in view_uses(project).items():
        spec = project.feature_views[name]
        function = load_function(project, name)
        facts = in_order(read_facts(project, name, open_source(project, spec.source)), spec)
        check_lookahead(function, facts)
        views[name] = known_of(function, facts, use)
    batch = to_arrow(rows).combine_chunks().to_batches()[0]
    joined = join_batch(project, batch, views)
    return to_frame(pa.Table.from_batches([joined]), is_nullable)


def known_of(function: ViewFunction, facts: pa.Table, use: ViewUse) -> AsOf:
    """The features of facts in memory, straight from the function.

    Args:
        facts: by entity and time.

    Raises:
        FeatureError: the function fails, or returns something else than declared.
    """
    spec = function.spec
    batches = [features for _, features in compute_all(function, facts)]
    features = pa.Table.from_batches(batches, schema=feature_schema(spec))
    columns = features.rename_columns(list(use.columns)).combine_chunks()
    return AsOf(facts[spec.key], facts[spec.time], columns, use.max_age, use.same_instant)
