"""The source that a project declares."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pandas as pd
import pyarrow as pa

from lifecycle.data.sources.base import Part, Source
from lifecycle.data.sources.columns import as_declared
from lifecycle.errors import ProjectError
from lifecycle.lake.column_types import to_frame
from lifecycle.project import Project, SourceSpec
from lifecycle.runtime.identity import sha256


def open_source(project: Project, spec: SourceSpec | None = None) -> Source:
    """The project's source, or another one declared in its file; nothing is read.

    Args:
        spec: of a feature view; by default the project's own.

    Raises:
        SourceError: credentials are not there.
        FeatureError: there is no such function.
        ProjectError: it is still declared for several environments.
    """
    own = spec is None
    spec = spec or project.source
    if spec.environments:
        raise ProjectError(
            f"{project.name}: its source depends on the environment: load the project with one, as "
            "in load_project(file, 'dev')"
        )
    if spec.format == "sql":
        from lifecycle.data.sources.sql import Sql  # SQLAlchemy takes a while

        return Sql(spec, project.folder, project.contract.key if own else ())
    if spec.format == "delta":
        from lifecycle.data.sources.delta import Delta

        return Delta(spec, project.folder)
    if spec.format == "python":
        from lifecycle.data.sources.function import Function

        return Function(project, spec)
    from lifecycle.data.sources.files import Files

    return Files(spec, project.folder, (project.target, *project.leakage) if own else ())


def source_digest(project: Project) -> str:
    """Return the digest of the source's content: that of its part, or one over all parts.

    Raises:
        SourceError: the source is missing or cannot be read.
        BackendError: the server does not answer.
    """
    return digest_of_parts(open_source(project).parts())


def digest_of_parts(parts: Sequence[Part]) -> str:
    """The digest of the only part, or one over those of all."""
    return parts[0].digest if len(parts) == 1 else sha256([list(part) for part in parts])


@contextmanager
def digesting(source: Source) -> Iterator[Callable[[], str]]:
    """A function that gives the source's digest; files of this machine are hashed meanwhile.

    They are hashed on a thread of their own, so that reading them need not wait; other sources tell
    their digest before they are read.

    Raises:
        SourceError: it is missing or cannot be read.
        BackendError: its server does not answer.
    """
    from lifecycle.data.sources.files import Files

    if not isinstance(source, Files) or source.remote:
        digest = digest_of_parts(source.parts())
        yield lambda: digest
        return
    with ThreadPoolExecutor(1, "digest") as thread:
        hashed = thread.submit(lambda: digest_of_parts(source.parts()))
        yield hashed.result


def read_source(project: Project) -> pd.DataFrame:
    """The whole source as one frame, for small uses; index 0..n-1 is the row's place in it.

    Contract columns of type string and category are text, the others have the type the contract
    asks for if all their cells allow it, else they are text. Only an empty cell is missing here:
    what `NA` means is the contract's to say. Whole numbers stay whole numbers where some are
    missing. The frame is to be read only.

    Raises:
        SourceError: it is missing, unreadable, or has no rows.
        BackendError: its server does not answer.
    """
    columns = project.contract.columns
    table = _table(list(open_source(project).batches(columns)))
    return to_frame(table, lambda _, column: column.null_count > 0, split_blocks=True)


def _table(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Batches under each other; a column that is text in some of them is text in all."""
    names = list(dict.fromkeys(name for batch in batches for name in batch.schema.names))
    return pa.table({name: _combined_column(name, batches) for name in names})


def _combined_column(name: str, batches: Sequence[pa.RecordBatch]) -> pa.ChunkedArray:
    chunks = [
        batch[name] if name in batch.schema.names else pa.nulls(batch.num_rows) for batch in batches
    ]
    kinds = {chunk.type for chunk in chunks}
    if len(kinds) > 1:
        chunks = [as_declared(chunk, "string") for chunk in chunks]
    return pa.chunked_array(chunks)
