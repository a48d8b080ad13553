"""An answer that cannot be asked for twice, kept in a temporary file while it is needed."""

import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from lifecycle.lake.digest import digest_of
from lifecycle.runtime.leftovers import temporary_prefix


class Aside:
    """Batches on disk, and what identifies their content."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        """Take all batches; one at a time is in memory.

        Args:
            batches: plain columns (`columns.plain`); their types may differ between batches.
        """
        number, name = tempfile.mkstemp(prefix=temporary_prefix())
        os.close(number)
        self._file = Path(name)
        weakref.finalize(self, self._file.unlink, missing_ok=True)
        digest = hashlib.sha256()
        self._count = 0
        with pa.OSFile(name, "wb") as file:
            for batch in batches:
                digest.update(digest_of(pa.Table.from_batches([batch])).encode())
                with pa.ipc.new_stream(file, batch.schema) as stream:  # each with its own types
                    stream.write_batch(batch)
                self._count += 1
        self.digest = digest.hexdigest()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """What was taken."""
        with pa.OSFile(str(self._file)) as file:
            for _ in range(self._count):
                yield from pa.ipc.open_stream(file)
