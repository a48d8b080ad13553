"""Views joined to the rows of a dataset version: each as it was known at the row's time."""

import json
from collections.abc import Iterator, Mapping

import pyarrow as pa

from lifecycle.data.views.asof import AsOf, as_numbers
from lifecycle.data.views.table import materialise, open_view
from lifecycle.data.views.use import view_uses
from lifecycle.errors import BackendError
from lifecycle.lake import VersionWriter, noted_version, open_version, table_uri
from lifecycle.lake.arrow import release_memory
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
    request = sha256({"dataset": dataset.digest, "views": used, "code": code_digest()})
    uri = table_uri(settings, project.name, TABLE)
    done = noted_version(uri, {"request": request})
    if done is not None:
        return done.version
    note = {
        "dataset": dataset.digest,
        "table": f"{dataset.uri.rstrip('/').rpartition('/')[2]}@{dataset.version}",
        "views": json.dumps({name: [one.version, one.digest] for name, one in views.items()}),
        "project": project.name,
        "request": request,
        **provenance(),
    }
    opened = {name: open_view(views[name], use) for name, use in uses.items()}
    batches = _joined(project, open_version(dataset), opened)
    first = next(batches, None)
    if first is None:
        raise BackendError(f"{dataset.uri}: version {dataset.version} has no rows to join views to")
    with VersionWriter(first.schema, uri) as writer:
        writer.write(first)
        for batch in batches:
            writer.write(batch)
        made = writer.commit(note, request)
    release_memory()
    return made


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
