"""The facts of a view: its whole source, under its contract, by entity and time."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow as pa

from lifecycle.data.contract import Checker
from lifecycle.data.privacy import erased_mask, pii_key, pseudonym
from lifecycle.data.sources import Source
from lifecycle.errors import ContractError, DataError, SourceError
from lifecycle.project import ContractSpec, FeatureViewSpec, Project
from lifecycle.settings import Settings

REASONS_SHOWN = 8


@contextmanager
def of_view(name: str) -> Iterator[None]:
    """What is wrong with a source in the block is told of the view: its keys stand there.

    Raises:
        DataError: what the block raised.
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
    kept: list[pa.RecordBatch] = []
    start = 0
    with of_view(name):
        for batch in source.batches(spec.columns):
            kept.append(checker.check(batch, start).accepted)
            start += batch.num_rows
    if not start:
        raise SourceError(f"feature_views.{name}: {source.place}: there are no facts")
    if checker.rejected:
        worst = list(checker.reasons.items())[:REASONS_SHOWN]
        lines = "\n".join(f"  {reason}: {count:,} facts" for reason, count in worst)
        raise ContractError(
            f"feature_views.{name}: {source.place}: {checker.rejected:,} of {start:,} facts break "
            f"the contract of the view:\n{lines}\nCorrect them, or what columns says of them"
        )
    checker.finish()
    return pa.Table.from_batches(kept, schema=checker.schema)


def without_erased(
    facts: pa.Table, key: str, erased: Collection[str], settings: Settings
) -> pa.Table:
    """The facts about everybody but those who were erased."""
    if not erased:
        return facts
    gone = erased_mask(facts[key], erased, settings)
    return facts.filter(pa.chunked_array([[not one for one in gone.to_pylist()]], pa.bool_()))


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
    """By entity, then time; facts of one instant stay as the source has them (the sort is stable).

    https://arrow.apache.org/docs/python/generated/pyarrow.compute.sort_indices.html
    """
    return facts.sort_by([(spec.key, "ascending"), (spec.time, "ascending")]).combine_chunks()
