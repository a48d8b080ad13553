"""What a file's name says of its form."""

from pathlib import Path
from urllib.parse import urlsplit

from lifecycle.specs.data import ONLY_FOR, Compression, Format, SourceSpec

EXTENSIONS: dict[Format, tuple[str, ...]] = {
    "csv": (".csv", ".tsv", ".tab", ".txt", ".data"),
    "parquet": (".parquet", ".pq"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "excel": (".xlsx", ".xlsm"),
}
"""Of formats that are files; the first of each is what a folder is searched for by name."""
COMPRESSIONS: dict[str, Compression] = {
    ".gz": "gzip",
    ".bz2": "bz2",
    ".xz": "xz",
    ".zst": "zstd",
    ".zip": "zip",
}
VAGUE = (".txt", ".data")
"""They say that a file may be CSV, not that it is."""


def format_of(path: str) -> Format | None:
    """The format that a path's or URL's ending names, or None; a Delta table is a folder."""
    if "://" not in path and Path(path, "_delta_log").is_dir():
        return "delta"
    suffix = suffix_of(path)
    if suffix in VAGUE:
        return None
    return next((known for known, ends in EXTENSIONS.items() if suffix in ends), None)


def suffix_of(path: str) -> str:
    """The ending that names the format: before that of a compression and `.dvc`, lower case."""
    name = Path(_plain(path).lower())
    return Path(name.stem).suffix if name.suffix in COMPRESSIONS else name.suffix


def compression_of(path: str) -> Compression:
    """The compression that a path's or URL's ending names."""
    return COMPRESSIONS.get(Path(_plain(path)).suffix.lower(), "none")


def elsewhere(source: SourceSpec, path: str) -> SourceSpec:
    """The same kind of source in another place, or a file of the format its ending names.

    Credentials go along to the same server only.

    Raises:
        ValidationError: the path holds a password, or is none for this kind of source.
    """
    kept = source.model_dump(exclude_unset=True) | {"path": path}
    found = format_of(path) or ("csv" if source.format == "python" else source.format)
    if found != source.format:
        for key, formats in ONLY_FOR.items():
            if found not in formats:
                kept.pop(key, None)
        kept.pop("compression", None)
    if _server(path) != _server(source.path):
        kept.pop("credentials", None)
    return SourceSpec.model_validate(kept | {"format": found})


def _server(path: str) -> tuple[str, str]:
    parts = urlsplit(path if "://" in path else "")
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _plain(path: str) -> str:
    return (urlsplit(path).path if "://" in path else path).removesuffix(".dvc")
