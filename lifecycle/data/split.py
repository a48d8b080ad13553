"""Splitting by time and by entity: nobody and no moment of the holdout is seen by training."""

from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.contract.column_checks import schema_of
from lifecycle.data.split_checks import check_target, empty_part
from lifecycle.data.split_parts import (
    HOLDOUT,
    TRAIN,
    VALIDATION,
    Keys,
    Periods,
    Places,
    keys_of,
    places_by_number,
    read_keys,
)
from lifecycle.errors import SplitError
from lifecycle.lake import VersionWriter, open_version, table_uri
from lifecycle.lake.arrow import release_memory
from lifecycle.project import Project, SplitSpec, TimeSpec
from lifecycle.records import DatasetVersion, Ingested, Split
from lifecycle.runtime.run import provenance
from lifecycle.settings import Settings

Mask = NDArray[np.bool_]
PARTS = ("train", "validation", "holdout")


class Parts(NamedTuple):
    """Which rows are in which part, as boolean masks; a row in none of them is withheld."""

    train: Mask
    validation: Mask
    holdout: Mask
    rule: str

    @property
    def withheld(self) -> int:
        return int((~(self.train | self.validation | self.holdout)).sum())

    @property
    def masks(self) -> dict[str, Mask]:
        return {"train": self.train, "validation": self.validation, "holdout": self.holdout}


def split(
    frame: pd.DataFrame, spec: SplitSpec, entity: str | None = None, time: TimeSpec | None = None
) -> Parts:
    """Divide the rows of a frame, typed as the contract says.

    By entity (or, with neither entity nor time, by row number) a seeded hash decides, so that the
    part never changes when rows are added. By time, the newest rows are the holdout and the newest
    of the others the validation part; rows of one period stay together. With both, the holdout is
    the newest periods of held-out entities; training takes the earlier periods of the others.
    """
    return _split(keys_of(frame, spec, entity, time), spec, entity, time)


def divide(frame: pd.DataFrame, project: Project) -> Parts:
    """Which rows are in which part; rows without a target are in none.

    Args:
        frame: the project's target, entity and time columns, typed as the contract says.

    Raises:
        TargetError: the target is missing everywhere, constant, or does not fit the task.
        SplitError: a part would be empty.
    """
    keys = keys_of(frame, project.split, project.entity, project.time)
    return _divide(frame[project.target], keys, project)


def split_dataset(project: Project, settings: Settings, ingested: Ingested) -> Split:
    """Write the three parts of a dataset version as versions of their own.

    Of each row, nine bytes and the target are in memory; all else passes by in batches.

    Raises:
        TargetError: the target is missing everywhere, constant, or does not fit the task.
        SplitError: a part would be empty.
        BackendError: the lake cannot be read or written.
    """
    return split_version(project, settings, ingested.dataset)


def split_version(project: Project, settings: Settings, dataset: DatasetVersion) -> Split:
    """`split_dataset` of any version with the project's columns."""
    target, keys = read_keys(dataset, project)
    parts = _divide(target, keys, project)
    del target, keys
    release_memory()
    note = {"dataset": dataset.digest, "rule": parts.rule} | provenance()
    uris = {part: table_uri(settings, project.name, part) for part in PARTS}
    target_field = schema_of(project.contract).field(project.target)
    versions = _write(dataset, parts, uris, note, target_field)
    release_memory()
    return Split(**versions, withheld=parts.withheld, rule=parts.rule)


def _divide(target: "pd.Series[Any]", keys: Keys, project: Project) -> Parts:
    check_target(target, project, "the data")
    known = target.notna().to_numpy(dtype=bool)
    unknown = len(known) - int(known.sum())
    labelled = target[known] if unknown else target
    keys = keys.of(known) if unknown else keys
    parts = _split(keys, project.split, project.entity, project.time)
    for part, mask in parts.masks.items():
        if not mask.any():
            raise SplitError(empty_part(part, project, keys, parts.rule))
        held = pd.Series(labelled.array[mask], name=project.target)
        check_target(held, project, f"the {part} part of {len(held):,} rows")
    if not unknown:
        return parts
    train, validation, holdout = whole = np.zeros((len(PARTS), len(known)), dtype=bool)
    whole[:, known] = list(parts.masks.values())
    return Parts(train, validation, holdout, f"{parts.rule}; {unknown:,} rows without target")


def _split(keys: Keys, spec: SplitSpec, entity: str | None, time: TimeSpec | None) -> Parts:
    if time and keys.starts is not None:
        periods = Periods(keys.starts, time)
        if entity and keys.places is not None:
            return _by_both(keys.places, periods, spec, entity, time)
        return _by_time(keys.rows, periods, spec, time)
    place = keys.places if keys.places is not None else places_by_number(keys.rows, spec)
    return Parts(
        place == TRAIN,
        place == VALIDATION,
        place == HOLDOUT,
        f"by {entity or 'row'}: a seeded hash holds out {spec.holdout:.0%} and keeps "
        f"{spec.validation:.0%} for validation",
    )


def _by_both(
    place: Places, periods: Periods, spec: SplitSpec, entity: str, time: TimeSpec
) -> Parts:
    first = max(len(periods) - (spec.holdout_periods or 1), 0)
    newest = periods.since(first)
    since = periods.name(first) if len(periods) else "the start"
    return Parts(
        ~newest & (place == TRAIN),
        ~newest & (place == VALIDATION),
        newest & (place == HOLDOUT),
        f"by {entity} and {time.column}: {spec.holdout:.0%} of {entity} are held out from {since} "
        f"on; the others' earlier rows train, {spec.validation:.0%} of {entity} validate",
    )


def _by_time(rows: int, periods: Periods, spec: SplitSpec, time: TimeSpec) -> Parts:
    held = spec.holdout_periods or periods.newest(spec.holdout * rows, len(periods))
    first_held = max(len(periods) - held, 0)
    validating = periods.newest(spec.validation * rows, first_held)
    first_validating = max(first_held - validating, 0)
    holdout = periods.since(first_held)
    validation = ~holdout & periods.since(first_validating)
    return Parts(
        ~holdout & ~validation,
        validation,
        holdout,
        f"by {time.column}: training before {periods.name(first_validating)}, validation before "
        f"{periods.name(first_held)}, holdout from there on",
    )


def _write(
    dataset: DatasetVersion,
    parts: Parts,
    uris: dict[str, str],
    note: dict[str, str],
    target: pa.Field,
) -> dict[str, DatasetVersion]:
    """The parts' rows as versions, all in one pass over the dataset's.

    Args:
        target: as the contract has it: no part has a row without one.
    """
    writers: dict[str, VersionWriter] = {}
    with ExitStack() as stack:
        start = 0
        for batch in open_version(dataset):
            end = start + batch.num_rows
            schema = batch.schema.set(batch.schema.get_field_index(target.name), target)
            for part, mask in parts.masks.items():
                if part not in writers:
                    writers[part] = stack.enter_context(VersionWriter(schema, uris[part]))
                if mask[start:end].any():
                    kept = batch.filter(pa.array(mask[start:end]))
                    writers[part].write(pa.RecordBatch.from_arrays(kept.columns, schema=schema))
            start = end
        return {part: writers[part].commit(note) for part in parts.masks}
