"""A view's features as a version of the lake: table `view_<name>`, by entity and time."""

from typing import Any

import pyarrow as pa

from lifecycle.data.privacy import erased_digest, erased_hashes
from lifecycle.data.sources import Source, digest_of_parts, open_source
from lifecycle.errors import BackendError
from lifecycle.features.asof import AsOf
from lifecycle.features.compute import check_lookahead, compute_all, feature_schema, load_function
from lifecycle.features.facts import (
    in_order,
    named_as_rows_are,
    of_view,
    read_facts,
    without_erased,
)
from lifecycle.features.view_use import ViewUse, how_made
from lifecycle.lake import VersionWriter, noted_version, read_table, table_uri
from lifecycle.lake.column_types import release_memory
from lifecycle.project import FeatureViewSpec, Project
from lifecycle.records import DatasetVersion
from lifecycle.runtime.identity import code_digest, sha256
from lifecycle.runtime.run import provenance
from lifecycle.settings import Settings

VIEW = "view_"
"""What the names of the tables begin with."""
KEY, TIME = "entity", "known_since"
"""Columns of the table beside the features; the key's name is the one that erasure looks for."""


def view_table(settings: Settings, project_name: str, view: str) -> str:
    """Where the features of a view are."""
    return table_uri(settings, project_name, f"{VIEW}{view}")


def materialise(project: Project, settings: Settings, name: str) -> DatasetVersion:
    """Compute a view's features and write them as a version.

    Running again on the same facts, function and declaration computes nothing.

    Raises:
        SourceError, ContractError: the facts cannot be used.
        FeatureError: the function fails, looks ahead, or returns what `features` does not say.
        BackendError: the lake cannot be read or written.
    """
    spec = project.feature_views[name]
    with of_view(name):
        source = open_source(project, spec.source)
        digest = digest_of_parts(source.parts())
    erased = erased_hashes(settings, project)
    uri = view_table(settings, project.name, name)
    how = how_made(project, name)
    request = sha256(_made_from(project, name, how, digest, erased_digest(erased)))
    former = noted_version(uri, {"how": how})
    if former is not None and former.note["request"] == request:
        return former.version
    function = load_function(project, name)
    facts = without_erased(read_facts(project, name, source), spec.key, erased, settings)
    facts = in_order(named_as_rows_are(facts, spec, project, settings), spec)
    check_lookahead(function, facts)
    note = _note(project, name, source, digest) | {"how": how, "request": request}
    schema = _schema(function.spec, facts)
    with VersionWriter(schema, uri) as writer:
        for block, features in compute_all(function, facts):
            keys = [block[spec.key].combine_chunks(), block[spec.time].combine_chunks()]
            writer.write(pa.RecordBatch.from_arrays([*keys, *features.columns], schema=schema))
        # a version is what it was made from: serving takes the newest, even where the facts are
        # again what they were some versions ago
        made = writer.commit(note, sha256([request, former.version.digest if former else ""]))
    release_memory()
    return made


def made_like(settings: Settings, project_name: str, view: str, use: ViewUse) -> DatasetVersion:
    """The newest version of a view's features that were made as those a model has learned from.

    Raises:
        BackendError: the table cannot be read, or there is none.
    """
    uri = view_table(settings, project_name, view)
    found = noted_version(uri, {"how": use.how})
    if found is None:
        raise BackendError(
            f"{uri}: no version has the features of view {view!r} as the model learned from them; "
            "prepare the data with the project as it was at training"
        )
    return found.version


def open_view(version: DatasetVersion, use: ViewUse) -> AsOf:
    """The features of a view, in memory.

    Raises:
        BackendError: the version cannot be read.
    """
    table = read_table(version)
    features = table.drop_columns([KEY, TIME])
    return AsOf(
        table[KEY],
        table[TIME],
        features.rename_columns(list(use.columns)).combine_chunks(),
        use.max_age,
        use.same_instant,
    )


def _made_from(project: Project, name: str, how: str, digest: str, erased: str) -> dict[str, Any]:
    """What a version that is made once more would be made from."""
    spec = project.feature_views[name]
    return {
        "facts": digest,
        "read": spec.source.model_dump(mode="json", exclude={"path", "credentials"}),
        "how": how,
        "pii": project.contract.columns[project.entity or ""].pii,
        "erased": erased,
        "code": code_digest(),
    }


def _note(project: Project, name: str, source: Source, digest: str) -> dict[str, str]:
    return {
        "source": digest,
        "source_place": source.place,
        "project": project.name,
        "view": name,
        **provenance(),
    }


def _schema(spec: FeatureViewSpec, facts: pa.Table) -> pa.Schema:
    keys = [
        facts.schema.field(spec.key).with_name(KEY),
        facts.schema.field(spec.time).with_name(TIME),
    ]
    return pa.schema([*keys, *feature_schema(spec)])
