"""Splitting by time and by entity: training sees no entity and no moment of the holdout."""

from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

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
    starts_of,
)
from lifecycle.errors import SplitError, TargetError
from lifecycle.lake.column_types import release_memory
from lifecycle.lake.content import digest_of
from lifecycle.lake.manifest import is_intact
from lifecycle.lake.read import (
    PART_OF,
    part_note,
    part_of,
    read_numbers,
    read_version,
    row_numbers,
)
from lifecycle.lake.table import NUMBER, find_version, noted_versions, table_uri
from lifecycle.lake.write import GROUP, VersionWriter
from lifecycle.project import Project, SplitSpec, TimeSpec
from lifecycle.records import DatasetVersion, Ingested, Split
from lifecycle.runtime.identity import sha256
from lifecycle.runtime.run import provenance
from lifecycle.settings import Settings

# Whether a holdout decides anything, and what to change where a part of the split has no row.

FEW_ROWS = 30
SMALL_SHARE = 0.05


def small_holdout(rows: int, total: int, project: Project) -> str:
    """A warning if the holdout is small, else nothing.

    Args:
        rows: of the holdout.
        total: rows of all parts, and those withheld.
    """
    if rows >= max(FEW_ROWS, SMALL_SHARE * total):
        return ""
    message = f"the holdout has {rows:,} of {total:,} rows ({rows / total:.1%})"
    return f"{message}, too few to judge a model by; {_larger(project)}."


def empty_part(part: str, project: Project, keys: Keys, rule: str) -> str:
    """Say what to change, where a part of the split has no row.

    Args:
        keys: keys of the rows that have a target.
    """
    message = (
        f"{project.source.place}: the {part} part of {keys.rows:,} rows would be empty ({rule})"
    )
    return f"{message}; {_change(part, project, keys)}"


def _change(part: str, project: Project, keys: Keys) -> str:
    share = "split.validation" if part == "validation" else "split.holdout"
    if project.time is None or keys.starts is None:
        return f"change {share}, or ingest more rows"
    periods, name = Periods(keys.starts, project.time), project.time.period
    holdout_periods = project.split.holdout_periods
    later = "set time.arrives_from later" if project.time.arrives_from else "ingest more periods"
    more = f"{_if(name != 'value', 'choose a finer time.period')}, or {later}"
    if len(periods) == 1:
        which = "have one time" if name == "value" else f"are all of one {name}"
        return f"the rows {which}: name another time.column{more}"
    if project.entity is None or keys.places is None:
        fewer = (
            f"lower split.holdout_periods (now {holdout_periods})"
            if holdout_periods
            else f"change {share}"
        )
        return f"there are {len(periods)} periods for three parts: {fewer}{more}"
    place = {"train": TRAIN, "validation": VALIDATION, "holdout": HOLDOUT}[part]
    sizes = periods.sizes(keys.places == place)
    if not sizes.any():
        return f"no {project.entity} falls into it: change {share}, or ingest more of them"
    holdout_periods = holdout_periods or 1
    if part == "holdout":
        least = int(np.flatnonzero(sizes[::-1])[0]) + 1
        raised = f"raise split.holdout_periods from {holdout_periods} to {least} or more"
        if least == len(periods):
            raised = "raise split.holdout"
        coarser = _if(name in ("day", "week"), "choose a coarser time.period")
        return f"no held-out {project.entity} has a row there: {raised}{coarser}, or {later}"
    most = len(periods) - int(np.flatnonzero(sizes)[0]) - 1
    lowered = f"from {holdout_periods} to {most} or fewer" if most else f"(now {holdout_periods})"
    return f"all its rows are newer: lower split.holdout_periods {lowered}{more}"


def _if(true: bool, text: str) -> str:
    return f", {text}" if true else ""


def _larger(project: Project) -> str:
    if project.time is None:
        return "raise split.holdout, or use more rows"
    periods = project.split.holdout_periods or (1 if project.entity else None)
    ways = [f"raise split.holdout_periods (now {periods})" if periods else "raise split.holdout"]
    if project.time.period in ("day", "week") and periods:
        ways.append("choose a coarser time.period")
    if periods and project.entity:
        ways.append(f"raise split.holdout (now {project.split.holdout:g})")
    return " or ".join(filter(None, (", ".join(ways[:-1]), ways[-1])))


# See that a target can be learned from, before anything is learned.


def check_target(target: "pd.Series[Any]", project: Project, where: str) -> None:
    """See that a target can be learned from.

    Raises:
        TargetError: it is missing everywhere, constant, no number where the task takes them, has
            one class only or more than two, or never has the `positive` value.
    """
    present = target.dropna() if target.hasnans else target  # a copy of 20M values counts
    name, place = project.target, f"{project.source.place}: target {target.name!r} in {where}"
    if present.empty:
        raise TargetError(f"{place} is missing in every row; name another column or other data")
    if project.task != "binary":
        if (present == present.iloc[0]).all():
            raise TargetError(
                f"{place} is constant (always {present.iloc[0]}): there is nothing to learn; check "
                "`target`, the data, or the sizes under `split`"
            )
        numeric = pd.api.types.is_numeric_dtype(present.dtype)
        if project.task in ("regression", "count") and not numeric:
            kind = project.contract.columns[project.target].type
            classes = present.nunique()
            instead = "binary, and positive" if classes == 2 else "multiclass"
            raise TargetError(
                f"{place} is {kind} with {classes:,} values, and task: {project.task} takes "
                f"numbers; use task: {instead}, another target, or numbers in the contract"
            )
        if project.task == "count" and (wrong := (present < 0) | (present % 1 != 0)).any():
            raise TargetError(
                f"{place} has {present[wrong].iloc[0]}, which is no count; use task: regression, "
                "or "
                "set minimum: 0 and type: integer in the contract"
            )
        return
    values = present.unique()
    positive = 1 if project.positive is None else project.positive
    labels = ", ".join(map(repr, sorted(map(_native, values), key=str)[:6]))
    if len(values) > 2:
        raise TargetError(
            f"{place} has {len(values)} classes ({labels}…) and task: binary takes two; "
            "use task: multiclass, task: regression or another target"
        )
    if not (values == positive).any() and where == "the data":
        raise TargetError(
            f"{place} never is {positive!r}, only {labels}; set `positive` to the value of "
            f"{name!r} that the model should predict"
        )
    if len(values) == 1:
        raise TargetError(
            f"{place} has one class only ({labels}): there is nothing to tell apart; check the "
            "data, `target`, or the sizes under `split`"
        )


def _native(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


Mask = NDArray[np.bool_]
PART = pa.schema([pa.field(NUMBER, pa.int64(), nullable=False)])
PARTS = ("train", "validation", "holdout")


class Parts(NamedTuple):
    """Boolean masks of the parts; a row in none of them is withheld."""

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
    """Assign rows to parts; rows without a target belong to none.

    Args:
        frame: the project's target, entity and time columns, typed as the contract says.

    Raises:
        TargetError: the target is missing everywhere, constant, or does not fit the task.
        SplitError: a part would be empty.
    """
    keys = keys_of(frame, project.split, project.entity, project.time)
    return _divide(frame[project.target], keys, project)


def split_dataset(project: Project, settings: Settings, ingested: Ingested) -> Split:
    """Write the three parts of a dataset version: the numbers of their rows.

    Of each row, nine bytes, its number and the target are in memory; no other column is read.

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
    versions = _write(project, settings, dataset, parts)
    release_memory()
    return Split(**versions, withheld=parts.withheld, rule=parts.rule)


def _divide(target: "pd.Series[Any]", keys: Keys, project: Project) -> Parts:
    check_target(target, project, "the data")
    has_target = target.notna().to_numpy(dtype=bool)
    unknown = len(has_target) - int(has_target.sum())
    labelled = target[has_target] if unknown else target
    keys = keys.of(has_target) if unknown else keys
    parts = _split(keys, project.split, project.entity, project.time)
    for part, mask in parts.masks.items():
        if not mask.any():
            raise SplitError(empty_part(part, project, keys, parts.rule))
        holdout_target = pd.Series(labelled.array[mask], name=project.target)
        check_target(holdout_target, project, f"the {part} part of {len(holdout_target):,} rows")
    if not unknown:
        return parts
    train, validation, holdout = masks = np.zeros((len(PARTS), len(has_target)), dtype=bool)
    masks[:, has_target] = list(parts.masks.values())
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
    holdout_periods = spec.holdout_periods or periods.newest(spec.holdout * rows, len(periods))
    first_held = max(len(periods) - holdout_periods, 0)
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
    project: Project, settings: Settings, dataset: DatasetVersion, parts: Parts
) -> dict[str, DatasetVersion]:
    """The parts, as the numbers of their rows."""
    numbers = read_numbers(dataset)
    note = {"dataset": dataset.digest, "rule": parts.rule} | part_note(dataset, project.target)
    return {
        part: _write_part(
            dataset, numbers[mask], table_uri(settings, project.name, part), note | provenance()
        )
        for part, mask in parts.masks.items()
    }


def training_periods(project: Project, part: DatasetVersion) -> Periods | None:
    """Periods of a part's rows; None without a time column.

    Raises:
        BackendError: the lake cannot be read.
    """
    if project.time is None:
        return None
    column = project.time.column
    return Periods(starts_of(read_version(part, [column])[column], project.time), project.time)


def without_earlier(
    project: Project, settings: Settings, split: Split, periods: Periods, first: int
) -> Split:
    """Leave out the training rows of earlier periods; the other parts stay as they are.

    Args:
        periods: of the training part's rows.
        first: number of the first period to learn from.

    Raises:
        BackendError: the lake cannot be read or written.
    """
    dataset = cast(DatasetVersion, part_of(split.train))  # split_version writes nothing else
    mask = periods.since(first)
    rule = f"{split.rule}; training from {periods.name(first)} on"
    note = {"dataset": dataset.digest, "rule": rule} | part_note(dataset, project.target)
    uri = table_uri(settings, project.name, "train")
    train = _write_part(dataset, row_numbers(split.train)[mask], uri, note | provenance())
    withheld = split.withheld + split.train.rows - train.rows
    return split.model_copy(update={"train": train, "withheld": withheld, "rule": rule})


def _write_part(
    dataset: DatasetVersion, numbers: NDArray[np.int64], uri: str, note: dict[str, str]
) -> DatasetVersion:
    """One part; where the newest one has its first rows, only the others' numbers are written."""
    content = digest_of(pa.table({NUMBER: numbers}))
    digest = sha256({"dataset": dataset.digest, "rows": content})
    version = find_version(uri, digest, dataset)
    if version is not None and is_intact(version):
        return version
    newest = next(noted_versions(uri), None)
    former = newest.version if newest and PART_OF in newest.note else None
    if former is not None and is_intact(former):
        before = row_numbers(former)
        former = former if np.array_equal(numbers[: len(before)], before) else None
        numbers = numbers[len(before) :] if former else numbers
    else:  # what is damaged is made anew
        former = None
    rows = pa.table({NUMBER: numbers}, schema=PART)
    with VersionWriter(PART, uri, former) as writer:
        for batch in rows.to_batches(GROUP):
            writer.write(batch)
        return writer.commit(note, digest, dataset)
