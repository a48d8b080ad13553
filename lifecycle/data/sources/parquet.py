"""Parquet: batch by batch, never a whole row group."""

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from lifecycle.data.sources.base import BATCH

BUFFER = 1 << 20
"""Bytes of a column that are read at a time; without it a row group's columns are read whole."""
UNNAMED = re.compile(r"__index_level_\d+__")
"""What pandas calls a frame's index in Parquet if it has no name."""


def read_parquet(file: Path | pa.NativeFile) -> Iterator[pa.RecordBatch]:
    """Batches with the file's own types."""
    with pa.parquet.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER) as opened:
        names = opened.schema_arrow.names
        wanted = [name for name in names if not UNNAMED.fullmatch(name)]
        places = [place for place, name in enumerate(names) if not UNNAMED.fullmatch(name)]
        for batch in opened.iter_batches(BATCH):
            yield pa.RecordBatch.from_arrays([batch.column(at) for at in places], names=wanted)
