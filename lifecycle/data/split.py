"""Splitting by time and by entity: nobody and no moment of the holdout is seen by training."""

from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.arrivals import period_of
from lifecycle.data.arrow import release_memory, to_frame
from lifecycle.data.lake import VersionWriter, is_nullable, open_version, read_table, table_uri
from lifecycle.data.provenance import provenance
from lifecycle.errors import SplitError, TargetError
from lifecycle.project import Project
from lifecycle.records import DatasetVersion, Ingested, Split
from lifecycle.settings import Settings
from lifecycle.specs import SplitSpec, TimeSpec

Mask = NDArray[np.bool_]
PARTS = ("train", "validation", "holdout")
BLOCK = 1 << 20
"""Keys hashed at a time."""


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
    if entity and time:
        return _by_both(frame, spec, entity, time)
    if time:
        return _by_time(frame, spec, time)
    keys = frame[entity] if entity else pd.Series(np.arange(len(frame)))
    place = hash_share(keys, spec.seed)
    holdout = place < spec.holdout
    validation = ~holdout & (place < spec.holdout + spec.validation)
    return Parts(
        ~holdout & ~validation,
        validation,
        holdout,
        f"by {entity or 'row'}: a seeded hash holds out {spec.holdout:.0%} and keeps "
        f"{spec.validation:.0%} for validation",
    )


def divide(frame: pd.DataFrame, project: Project) -> Parts:
    """Which rows are in which part; rows without a target are in none.

    Args:
        frame: the project's target, entity and time columns, typed as the contract says.

    Raises:
        TargetError: the target is missing everywhere, constant, or does not fit the task.
        SplitError: a part would be empty.
    """
    check_target(frame[project.target], project, "the data")
    known = frame[project.target].notna().to_numpy(dtype=bool)
    labelled = frame if known.all() else frame[known]
    parts = split(labelled, project.split, project.entity, project.time)
    for part, mask in parts.masks.items():
        if not mask.any():
            raise SplitError(_empty(part, project, len(labelled), parts.rule))
        check_target(labelled[project.target][mask], project, f"the {part} part")
    if labelled is frame:
        return parts
    train, validation, holdout = whole = np.zeros((len(PARTS), len(frame)), dtype=bool)
    whole[:, known] = list(parts.masks.values())
    unknown = len(frame) - len(labelled)
    return Parts(train, validation, holdout, f"{parts.rule}; {unknown:,} rows without target")


def split_dataset(project: Project, settings: Settings, ingested: Ingested) -> Split:
    """Write the three parts of a dataset version as versions of their own.

    The columns that decide are held in memory, about 60 bytes a row; the others pass by in batches.

    Raises:
        TargetError: the target is missing everywhere, constant, or does not fit the task.
        SplitError: a part would be empty.
        BackendError: the lake cannot be read or written.
    """
    return split_version(project, settings, ingested.dataset)


def split_version(project: Project, settings: Settings, dataset: DatasetVersion) -> Split:
    """`split_dataset` of any version with the project's columns."""
    keys = [project.target, project.entity, project.time.column if project.time else None]
    names = list(dict.fromkeys(key for key in keys if key is not None))
    parts = divide(to_frame(read_table(dataset, names), is_nullable), project)
    release_memory()
    note = {"dataset": dataset.digest, "rule": parts.rule} | provenance()
    uris = {part: table_uri(settings, project.name, part) for part in PARTS}
    versions = _write(dataset, parts, uris, note)
    release_memory()
    return Split(**versions, withheld=parts.withheld, rule=parts.rule)


def _write(
    dataset: DatasetVersion, parts: Parts, uris: dict[str, str], note: dict[str, str]
) -> dict[str, DatasetVersion]:
    """The parts' rows as versions, all in one pass over the dataset's."""
    writers: dict[str, VersionWriter] = {}
    with ExitStack() as stack:
        start = 0
        for batch in open_version(dataset):
            end = start + batch.num_rows
            for part, mask in parts.masks.items():
                if part not in writers:
                    writers[part] = stack.enter_context(VersionWriter(batch.schema, uris[part]))
                if mask[start:end].any():
                    writers[part].write(batch.filter(pa.array(mask[start:end])))
            start = end
        return {part: writers[part].commit(note) for part in parts.masks}


def check_target(target: "pd.Series[Any]", project: Project, where: str) -> None:
    """See that a target can be learned from.

    Raises:
        TargetError: it is missing everywhere, constant, has one class only or more than two, or
            never has the `positive` value.
    """
    known = target.dropna()
    name, place = project.target, f"{project.source.path}: target {target.name!r} in {where}"
    if known.empty:
        raise TargetError(f"{place} is missing in every row; name another column or other data")
    if project.task != "binary":
        if (known == known.iloc[0]).all():
            raise TargetError(
                f"{place} is constant (always {known.iloc[0]}): there is nothing to learn; check "
                "`target`, the data, or the sizes under `split`"
            )
        if project.task == "count" and (wrong := (known < 0) | (known % 1 != 0)).any():
            raise TargetError(
                f"{place} has {known[wrong].iloc[0]}, which is no count; use task: regression, or "
                "set minimum: 0 and type: integer in the contract"
            )
        return
    values = known.unique()
    positive = 1 if project.positive is None else project.positive
    shown = ", ".join(map(repr, sorted(map(_native, values), key=str)[:6]))
    if len(values) > 2:
        raise TargetError(
            f"{place} has {len(values)} classes ({shown}…) and task: binary takes two; "
            "use task: multiclass, task: regression or another target"
        )
    if not (values == positive).any() and where == "the data":
        raise TargetError(
            f"{place} never is {positive!r}, only {shown}; set `positive` to the value of "
            f"{name!r} that the model should predict"
        )
    if len(values) == 1:
        raise TargetError(
            f"{place} has one class only ({shown}): there is nothing to tell apart; check the "
            "data, `target`, or the sizes under `split`"
        )


def hash_share(keys: "pd.Series[Any]", seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each key, equal for equal keys whatever the other rows are.

    Whole numbers and text go through SplitMix64 (Steele, Lea, Flood 2014) with the seed added;
    text is first hashed by SipHash-2-4 (pandas' `hash_array`).
    """
    shares = np.empty(len(keys))
    for start in range(0, len(keys), BLOCK):  # all at once would take five times the memory
        shares[start : start + BLOCK] = _shares(keys.iloc[start : start + BLOCK], seed)
    return shares


def _shares(keys: "pd.Series[Any]", seed: int) -> NDArray[np.float64]:
    if pd.api.types.is_integer_dtype(keys.dtype):
        words = keys.to_numpy(dtype=np.int64).view(np.uint64)
    else:
        text = keys.astype(str).to_numpy(dtype=object)
        words = pd.util.hash_array(text, hash_key="lifecycle-flows!")
    mixed = _splitmix(words ^ _splitmix(np.full(1, seed, dtype=np.int64).view(np.uint64)))
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def _splitmix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = words + np.uint64(0x9E3779B97F4A7C15)  # wraps around, as it should
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _by_both(frame: pd.DataFrame, spec: SplitSpec, entity: str, time: TimeSpec) -> Parts:
    order, names = _periods(frame, time)
    newest = order >= len(names) - (spec.holdout_periods or 1)
    place = hash_share(frame[entity], spec.seed)
    held_out = place < spec.holdout
    validating = ~held_out & (place < spec.holdout + spec.validation)
    since = names[-min(spec.holdout_periods or 1, len(names))] if names else "the start"
    return Parts(
        ~newest & ~held_out & ~validating,
        ~newest & validating,
        newest & held_out,
        f"by {entity} and {time.column}: {spec.holdout:.0%} of {entity} are held out from {since} "
        f"on; the others' earlier rows train, {spec.validation:.0%} of {entity} validate",
    )


def _by_time(frame: pd.DataFrame, spec: SplitSpec, time: TimeSpec) -> Parts:
    order, names = _periods(frame, time)
    sizes = np.bincount(order, minlength=len(names))
    last = spec.holdout_periods or _newest(sizes, spec.holdout * len(frame))
    first_held = max(len(names) - last, 0)
    validating = _newest(sizes[:first_held], spec.validation * len(frame))
    first_validating = max(first_held - validating, 0)
    holdout = order >= first_held
    validation = ~holdout & (order >= first_validating)
    ends = [*names, "the end"]
    return Parts(
        ~holdout & ~validation,
        validation,
        holdout,
        f"by {time.column}: training before {ends[first_validating]}, validation before "
        f"{ends[first_held]}, holdout from there on",
    )


def _periods(frame: pd.DataFrame, time: TimeSpec) -> tuple[NDArray[np.int64], list[str]]:
    """For each row the number of its period in time order, and the periods' names."""
    if time.period == "value":
        codes, values = pd.factorize(frame[time.column], sort=True)
        return codes.astype(np.int64), [str(value) for value in values]
    days = frame[time.column].to_numpy().astype("datetime64[D]")  # 20 times as fast as `to_period`
    if time.period == "month":
        starts = days.astype("datetime64[M]")
    elif time.period == "week":
        starts = days - (days.astype(np.int64) + 3) % 7  # day 0, 1970-01-01, was a Thursday
    else:
        starts = days
    codes, found = pd.factorize(starts.astype("datetime64[s]"), sort=True)
    names = period_of(pd.Series(found), time)
    return codes.astype(np.int64), [str(name) for name in names]


def _newest(sizes: NDArray[np.int64], wanted: float) -> int:
    """How many of the newest periods come closest to `wanted` rows, at least one."""
    if not len(sizes):
        return 0
    return 1 + int(np.abs(np.cumsum(sizes[::-1]) - wanted).argmin())


def _empty(part: str, project: Project, rows: int, rule: str) -> str:
    key = "split.validation" if part == "validation" else "split.holdout"
    if part != "validation" and project.time:
        key += " or split.holdout_periods"
    return (
        f"{project.source.path}: the {part} part of {rows:,} rows would be empty ({rule}); "
        f"change {key}, or ingest more {'periods' if project.time else 'rows'}"
    )


def _native(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
