"""Files of one source have the same columns; where one has not, the difference is told."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from lifecycle.data.sources.unnamed import nameless
from lifecycle.data.spelling import left_out, renamed
from lifecycle.errors import SourceError
from lifecycle.project import ColumnSpec


def alike(
    batch: pa.RecordBatch,
    place: str,
    first_place: str,
    first: Sequence[str],
    columns: Mapping[str, ColumnSpec],
    gaps: bool,
    unlabelled: Collection[str] = (),
) -> pa.RecordBatch:
    """A batch with the first file's columns, in its order.

    Args:
        place: the file it is of.
        first: columns of the first file, which is `first_place`.
        gaps: whether it is of JSON lines: an object may leave a key out there, and so may a file;
            one the contract calls nullable is missing then.
        unlabelled: target and leakage: a file whose labels have not come need not have them, unless
            one of its columns looks like them under another name.

    Raises:
        SourceError: two columns have one name, or the files have different columns.
    """
    names = batch.schema.names
    twice = [name for name, count in Counter(names).items() if count > 1]
    if "" in twice:
        places = [at for at, name in enumerate(names, 1) if not name]
        raise SourceError(f"{place}: {nameless(places)}")
    if twice:
        several = ", ".join(map(repr, twice))
        raise SourceError(
            f"{place}: column names must differ, but there is more than one {several}"
        )
    if names == list(first):
        return batch
    have, wanted_names = set(names), set(first)
    missing = [name for name in first if name not in have]
    more = [name for name in names if name not in wanted_names]
    wanted = list(first)
    absent = left_out(unlabelled, missing, more)
    if gaps:
        absent |= {name for name in missing if name not in columns or columns[name].nullable}
    for name in sorted(absent):
        batch = batch.append_column(name, pa.nulls(batch.num_rows, pa.string()))
    missing = [name for name in missing if name not in absent]
    if gaps:
        wanted += more
        more = more if missing else []
    if missing or more:
        raise SourceError(_difference(place, first_place, len(first), missing, more))
    return batch.select(wanted)


def _difference(
    place: str, first_place: str, count: int, missing: Sequence[str], more: Sequence[str]
) -> str:
    close = renamed(missing, more)
    if len(missing) == count and not close:
        # what stands there may be a row with personal data, not a header: it is not repeated
        return (
            f"{place}: it has none of the {count} columns of {first_place}, and {len(more)} "
            "others; see that its first line names the columns, or take it as a source of its own"
        )
    said = [f"it has no {', '.join(map(repr, missing))}"] if missing else []
    said += [f"it has {', '.join(map(repr, more))} besides"] if more else []
    lines = [f"  ~ {name} → {other}, perhaps" for name, other in close.items()]
    told = f"{place}: its columns differ from those of {first_place}: {' and '.join(said)}"
    if not lines:
        return f"{told}; make them alike, or take the files as sources of their own"
    last = "Make them alike, or take the files as sources of their own"
    return "\n".join([f"{told}.", *lines, last])
