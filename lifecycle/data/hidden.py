"""Personal data at ingestion: what no stage reads as it is, is hashed or left out of versions."""

import pyarrow as pa

from lifecycle.data.privacy import pii_key, pseudonym
from lifecycle.project import Project
from lifecycle.settings import Settings


class Hidden:
    """Carries out `pii` of the contract's columns that neither model nor reports read.

    Raises:
        SettingsError: the key of personal data cannot be read or made.
    """

    def __init__(self, project: Project, settings: Settings) -> None:
        columns = project.contract.columns
        self._key = (
            pii_key(settings) if any(spec.pii == "hash" for spec in columns.values()) else b""
        )
        read = read_as_they_are(project)
        self._hashed = {n for n, spec in columns.items() if spec.pii == "hash" and n not in read}
        self._left_out = {n for n, spec in columns.items() if spec.pii == "drop" and n not in read}

    @property
    def hashes(self) -> bool:
        """Whether versions or quarantine hold a keyed hash."""
        return bool(self._key)

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The schema of what is written."""
        return pa.schema(
            [
                pa.field(field.name, pa.string()) if field.name in self._hashed else field
                for field in schema
                if field.name not in self._left_out
            ]
        )

    def batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Accepted rows as they are written."""
        if not self._hashed and not self._left_out:
            return batch
        arrays = [
            self._hash(values) if name in self._hashed else values
            for name, values in zip(batch.schema.names, batch.columns, strict=True)
            if name not in self._left_out
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema(batch.schema))

    def mask(self, _name: str, value: object) -> str:
        """What quarantine and messages say in place of a value."""
        return pseudonym([value], self._key)[0] or ""

    def _hash(self, values: pa.Array) -> pa.Array:
        """Each distinct value is hashed once."""
        coded = values.dictionary_encode()
        names = pa.array(pseudonym(coded.dictionary.to_pylist(), self._key), pa.string())
        return pa.DictionaryArray.from_arrays(coded.indices, names).dictionary_decode()


def read_as_they_are(project: Project) -> frozenset[str]:
    """Columns that dataset versions keep whatever `pii` says, because a stage reads their values:
    inputs, target, time, protected, and what the evaluation slices by."""
    time = {project.time.column} if project.time else set()
    slices = set(project.evaluation.slices)
    kept = {*project.input_columns, project.target, *project.protected} | time | slices
    return frozenset(kept - {project.entity})
