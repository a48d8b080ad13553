"""Bytes of a file as text: decompressed, and in UTF-8."""

import codecs
import lzma

import pyarrow as pa

from lifecycle.project import SourceSpec
from lifecycle.project.data import compression_of

UTF8 = ("utf-8", "ascii")


def text_stream(raw: pa.NativeFile, spec: SourceSpec, place: str) -> pa.NativeFile:
    """A file's text in UTF-8, from the first to the last byte.

    Args:
        place: the file's path or URL, whose ending may name a compression.

    Raises:
        LookupError: the encoding is unknown.
    """
    raw = byte_stream(raw, spec, place)
    encoding = codecs.lookup(spec.encoding).name
    return raw if encoding in UTF8 else pa.transcoding_input_stream(raw, encoding, "utf8")


def byte_stream(raw: pa.NativeFile, spec: SourceSpec, place: str) -> pa.NativeFile:
    """A file's bytes once they are decompressed; what a zip archive holds comes unpacked."""
    compression = compression_of(place) if spec.compression == "infer" else spec.compression
    if compression in ("none", "zip"):
        return raw
    if compression == "xz":  # Arrow has no reader of it
        return pa.PythonFile(lzma.LZMAFile(raw), mode="r")
    return pa.CompressedInputStream(raw, compression)
