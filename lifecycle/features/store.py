"""A view's features as a version of the lake: table `view_<name>`, by entity and time."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from lifecycle.data.contract import Checker
from lifecycle.data.contract.checker import REASONS_SHOWN
from lifecycle.data.privacy import erased_digest, erased_hashes, erased_mask, pii_key, pseudonym
from lifecycle.data.sources import Source, digest_of_parts, open_source
from lifecycle.errors import BackendError, ContractError, DataError, SourceError
from lifecycle.features.asof import AsOf
from lifecycle.features.compute import check_lookahead, compute_all, feature_schema, load_function
from lifecycle.features.encode import ViewUse, how_made
from lifecycle.lake.column_types import release_memory
from lifecycle.lake.read import read_table
from lifecycle.lake.table import noted_version, table_uri
from lifecycle.lake.write import VersionWriter
from lifecycle.project import ContractSpec, FeatureViewSpec, Project
from lifecycle.records import DatasetVersion
from lifecycle.runtime.identity import code_digest, sha256
from lifecycle.runtime.run import provenance
from lifecycle.settings import Settings

# Facts of a view: all rows of its source, under its contract, sorted by entity and time.


@contextmanager
def of_view(name: str) -> Iterator[None]:
    """Put the name of the view before errors of its source, whose keys are in its section.

    Raises:
        DataError: the block raised one; its type is kept.
    """
    try:
        yield
    except DataError as error:
        key = f"feature_views.{name}: "
        raise type(error)(key + str(error).removeprefix(key)) from None


def read_facts(project: Project, name: str, source: Source) -> pa.Table:
    """The facts of one view, typed as its columns say, in the order of the source.

    They are in memory as a whole: a function may need all facts of an entity.

    Raises:
        SourceError: the source cannot be read, or has no facts.
        ContractError: a column is missing, or facts break the view's contract.
    """
    spec = project.feature_views[name]
    checker = Checker(
        ContractSpec(columns=spec.columns),
        now=datetime.now(UTC).replace(tzinfo=None),
        at=source.at,
    )
    batches: list[pa.RecordBatch] = []
    start = 0
    with of_view(name):
        for batch in source.batches(spec.columns):
            batches.append(checker.check(batch, start).accepted)
            start += batch.num_rows
    if not start:
        raise SourceError(f"feature_views.{name}: {source.place}: there are no facts")
    if checker.rejected:
        worst = list(checker.reasons.items())[:REASONS_SHOWN]
        lines = "\n".join(f"  {reason}: {count:,} facts" for reason, count in worst)
        raise ContractError(
            f"feature_views.{name}: {source.place}: {checker.rejected:,} of {start:,} facts break "
            f"the contract of the view:\n{lines}\nCorrect them, or the terms under columns"
        )
    checker.finish()
    return pa.Table.from_batches(batches, schema=checker.schema)


def without_erased(
    facts: pa.Table, key: str, erased: Collection[str], settings: Settings
) -> pa.Table:
    """The facts about everybody but those who were erased."""
    if not erased:
        return facts
    erased_rows = erased_mask(facts[key], erased, settings)
    return facts.filter(
        pa.chunked_array([[not is_erased for is_erased in erased_rows.to_pylist()]], pa.bool_())
    )


def named_as_rows_are(
    facts: pa.Table, spec: FeatureViewSpec, project: Project, settings: Settings
) -> pa.Table:
    """The facts with the entity as dataset versions have it: hashed, where the contract says so."""
    if project.contract.columns[project.entity or ""].pii != "hash":
        return facts
    coded = facts[spec.key].combine_chunks().dictionary_encode()
    names = pa.array(pseudonym(coded.dictionary.to_pylist(), pii_key(settings)), pa.string())
    hashed = pa.DictionaryArray.from_arrays(coded.indices, names).dictionary_decode()
    at = facts.schema.get_field_index(spec.key)
    return facts.set_column(at, pa.field(spec.key, pa.string()), hashed)


def in_order(facts: pa.Table, spec: FeatureViewSpec) -> pa.Table:
    """Sort facts by entity, then time. Facts of one instant keep their order (the sort is stable).

    https://arrow.apache.org/docs/python/generated/pyarrow.compute.sort_indices.html
    """
    return facts.sort_by([(spec.key, "ascending"), (spec.time, "ascending")]).combine_chunks()


VIEW = "view_"
"""What the names of the tables begin with."""
KEY, TIME = "entity", "known_since"
"""Columns of the table beside the features; the key's name is the one that erasure looks for."""


def view_table(settings: Settings, project_name: str, view: str) -> str:
    """Table that holds the features of a view."""
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
        version = writer.commit(note, sha256([request, former.version.digest if former else ""]))
    release_memory()
    return version


def made_like(settings: Settings, project_name: str, view: str, use: ViewUse) -> DatasetVersion:
    """The newest version of a view's features that were made as those a model has learned from.

    Raises:
        BackendError: the table cannot be read, or there is none.
    """
    uri = view_table(settings, project_name, view)
    noted = noted_version(uri, {"how": use.how})
    if noted is None:
        raise BackendError(
            f"{uri}: no version has the features of view {view!r} as the model learned from them; "
            "prepare the data with the project as it was at training"
        )
    return noted.version


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
    """Describe the inputs of a version if it were made again."""
    spec = project.feature_views[name]
    return {
        "facts": digest,
        "read": spec.source.model_dump(mode="json", exclude={"path", "credentials"}),
        "how": how,
        "pii": project.contract.columns[project.entity or ""].pii,
        "erased": erased,
        "code": code_digest("features"),
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
