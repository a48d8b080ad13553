"""Sources of raw rows: files, object storage, databases, Delta tables, functions."""

from lifecycle.data.sources.base import Part, Source
from lifecycle.data.sources.open import (
    digest_of_parts,
    digesting,
    open_source,
    read_source,
    source_digest,
)
from lifecycle.data.sources.ray_reader import Spread, spread

__all__ = [
    "Part",
    "Source",
    "Spread",
    "digest_of_parts",
    "digesting",
    "open_source",
    "read_source",
    "source_digest",
    "spread",
]
