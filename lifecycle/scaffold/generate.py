"""`lifecycle init`: a working project file for a data file, with everything guessed said."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import ValidationError

from lifecycle.data.contract.terms import ZONES
from lifecycle.data.contract.unique import keys_of
from lifecycle.data.sources.files import Files
from lifecycle.errors import ProjectError, SourceError, TargetError
from lifecycle.project import SourceSpec, SplitSpec
from lifecycle.project.base import meant
from lifecycle.records import counted, one_line
from lifecycle.scaffold.columns import (
    ENOUGH,
    Column,
    Guessed,
    Rows,
    guess_column,
    guess_columns,
    without_rows,
)
from lifecycle.scaffold.holdout import guess_holdout, guess_seed
from lifecycle.scaffold.leakage import leakage_suspects
from lifecycle.scaffold.notation import Recognised, recognise
from lifecycle.scaffold.project_text import DEFAULTS, Draft, project_text
from lifecycle.scaffold.protected import protected_attributes
from lifecycle.scaffold.roles import (
    FEW_MISSING,
    GUESSED,
    RoleOptions,
    Roles,
    find_panel,
    guess_roles,
)
from lifecycle.scaffold.source import (
    DETECTED,
    ColumnFacts,
    ReadingOptions,
    SampledFile,
    correct_specs,
    folder_of,
    guess_source,
    look_through,
    read_sample,
    with_distinct,
)

REJECTED_SHARE = 0.01
"""What the contract lets go to quarantine, at least."""
ROWS_SHOWN = 3
NUMERIC = re.compile(r"\s*[+-]?\d+([.,]\d+)?\s*")
LONGEST_NAME = 63
"""Characters of a project's name."""


def infer_project(
    path: str | Path,
    target: str,
    name: str | None = None,
    folder: Path | None = None,
    reading: ReadingOptions = DETECTED,
    options: RoleOptions = GUESSED,
) -> tuple[str, list[str]]:
    """A project file's text for a data file, and each guess in words.

    Args:
        path: a CSV, Parquet, JSON lines or Excel file, by path or URL; its ending says which. A
            folder or a pattern such as `visits/2024-*.csv` means several.
        folder: where the project file will be, by default beside the data file; `source.path` is
            relative to it if it can be.
        reading: how the file is to be read, where that is not detected.
        options: roles of columns that are not guessed.

    Raises:
        ProjectError: an option names no column, or means nothing for the file.
        SourceError: the file is missing, unreadable or empty, or a format of dates is none.
        BackendError: the file's server does not answer.
        TargetError: there is no such column, or it cannot be predicted.
    """
    path = str(path)
    notation, read_as, sample = _recognised(path, target, reading, options)
    raw = notation.cells
    guessed, roles, facts = _guess(notation, target, options, sample)
    columns = guessed.columns
    if facts:
        read_as.append(
            f"rows: {guessed.rows:,} of {sample.rows:,} looked at, evenly spaced, and all for what "
            "is missing, repeats, or is the least or greatest; other counts are of those rows"
        )
        in_roles = {roles.entity, (roles.time or {}).get("column")}
        correct_specs({name: columns[name] for name in facts if name not in in_roles}, facts)
    for column, unit in notation.units.items():
        if columns[column].kind in ("integer", "number"):
            columns[column].spec["unit"] = unit
    split = guess_holdout(columns, roles, target, SplitSpec.model_validate(DEFAULTS["split"]))
    if not roles.time:
        split = guess_seed(columns, roles, target)
    inputs = _inputs(columns, roles, target)
    if not inputs:
        reason = "; ".join(
            note for note in roles.notes if note.startswith(("ignore", "time", "entity"))
        )
        raise TargetError(
            f"--target: {path} has no column to learn {target!r} from"
            + (f": {reason}" if reason else "")
        )
    panel = find_panel(columns, inputs, roles)
    if ordered := panel.year if panel else (roles.time or {}).get("column"):
        for bound in ("minimum", "maximum"):  # the next rows are newer, and may be older
            columns[ordered].spec.pop(bound, None)
    suspects = _suspects(columns, inputs, roles, target)
    rejected = _rejected_share(guessed)
    guesses = [*read_as, *notation.notes, *roles.notes, *_said_of_misfits(guessed, rejected)]
    guesses += _said_of_types(columns, {name: fact.missing for name, fact in facts.items()})
    guesses += [] if facts else _said_of_rare(guessed, target)
    inputs_left = set(inputs) - set(suspects)
    to_do = (
        "no feature" if inputs_left else "a feature all the same, since there is no other column"
    )
    guesses += [f"leakage {column}: {suspect}; {to_do}" for column, suspect in suspects.items()]
    protected = protected_attributes(name for name in columns if name != target)
    if protected:
        guesses.append(
            f"protected: {', '.join(protected)}: likely by the name, and features as it is; list "
            "under protected what must not decide"
        )
    guesses += [] if facts else _said_of_duplicates(raw, columns)
    if not roles.time:
        guesses.append("time: none, so nothing arrives later and nothing is monitored")
    if panel:
        guesses.append(f"panel: {panel.words}")
    spellings = {other: one_line(other) for other in raw if other != one_line(other)}
    for other, words in spellings.items():
        guesses = [guess.replace(other, words) for guess in guesses]
    start = folder or folder_of(path)
    source = notation.source.model_copy(update={"path": _relative(path, start)})
    draft = Draft(
        name=name or project_name(path, target),
        source=source,
        target=target,
        columns=columns,
        roles=roles,
        suspects=suspects if inputs_left else {},
        protected=protected,
        rejected=rejected,
        split=split,
    )
    return project_text(draft), guesses


def _recognised(
    path: str, target: str, reading: ReadingOptions, options: RoleOptions
) -> tuple[Recognised, list[str], SampledFile]:
    """The file's columns with all that was said of them, how it was read, in words, and which rows
    they are of.
    """
    source, read_as = guess_source(path, reading, target)
    source = _with_dates(source, reading.dates)
    sample = read_sample(source)
    raw = sample.cells
    for column in reading.dates:
        if column not in raw:
            raise ProjectError(f"--dates: {_no_column(path, column, raw)}")
    if target not in raw:
        raise TargetError(f"--target: {_no_column(path, target, raw)}")
    _check_options(path, target, options, raw)
    notation = recognise(raw, source, target=target, typed=sample.typed)
    if reason := notation.unread.get(target):
        raise TargetError(f"--target: {target!r} {reason}")
    return notation, read_as, sample


def _with_dates(source: SourceSpec, dates: Mapping[str, str]) -> SourceSpec:
    try:
        return SourceSpec.model_validate(source.model_dump(exclude_unset=True) | {"dates": dates})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SourceError(f"--dates: {reason.removeprefix('dates.')}") from None


def _no_column(path: str, name: str, raw: Mapping[str, object]) -> str:
    """That a file has no such column; which it has, unless its first line is a row."""
    if raw and all(NUMERIC.fullmatch(other) for other in raw):
        return (
            f"{path} has no column {name!r}. Its first line has numbers only: it should name the "
            "columns"
        )
    return f"{path} has no column {name!r}{meant(name, map(one_line, raw))}"


def _check_options(path: str, target: str, options: RoleOptions, raw: Mapping[str, object]) -> None:
    """See that options name columns, each one role."""
    columns = [("--time", options.time), ("--entity", options.entity)]
    columns += [("--id", name) for name in options.ids]
    roles: dict[str, str] = {target: "--target"}
    for option, name in columns:
        if name is None:
            continue
        if name not in raw:
            raise ProjectError(f"{option}: {_no_column(path, name, raw)}")
        if name in roles:
            raise ProjectError(f"{option}: {name!r} is named by {roles[name]} already")
        roles[name] = option


def _guess(
    notation: Recognised, target: str, options: RoleOptions, sample: SampledFile
) -> tuple[Guessed, Roles, Mapping[str, ColumnFacts]]:
    """Columns, roles, and what all rows of a sampled file have; rows whose time is missing or in
    the future count in neither.

    Where many times are in the future, that is what the data are about.
    """
    raw, hints = notation.cells, (notation.unread, notation.hints)
    guessed = guess_columns(raw)._replace(step=sample.step)
    facts = look_through(notation.source, guessed.columns) if sample.step > 1 else {}
    guessed = with_distinct(guessed, facts)
    if options.entity and guessed.columns[options.entity].values.isna().any():
        missing = guessed.columns[options.entity].values.isna().to_numpy(dtype=bool)
        without = without_rows(guessed, raw, guessed.row_numbers[np.flatnonzero(missing)])
        guessed = with_distinct(without, facts)
    roles = guess_roles(guessed.columns, target, options, *hints)
    if roles.time is None:
        return guessed, roles, facts
    name = roles.time["column"]
    times = guessed.columns[name].values
    latest = pd.Timestamp(datetime.now(UTC).replace(tzinfo=None)) + ZONES
    future = np.zeros(len(times), dtype=bool)
    if guessed.columns[name].kind == "datetime":
        future = (times > latest).to_numpy(dtype=bool)
    notes = []
    if future.mean() > FEW_MISSING and future.sum() > 1:
        share = f"{future.mean():.1%}"
        notes.append(f"time.future: allow, because {share} of the rows have a {name} to come")
        future = np.zeros(len(times), dtype=bool)
    elif future.any():
        at = guessed.row_numbers[np.flatnonzero(future)]
        notes.append(
            f"time: {name} is in the future in {_rows(at, sample.step)}, which will be rejected; "
            "if that is no mistake, set time.future: allow"
        )
    missing = times.isna().to_numpy(dtype=bool)
    if missing.any():
        at = guessed.row_numbers[np.flatnonzero(missing)]
        where = _rows(at, sample.step)
        notes.append(f"time: {name} is missing in {where}, which will be rejected")
    broken = future | missing
    if broken.any():
        without = without_rows(guessed, raw, guessed.row_numbers[np.flatnonzero(broken)])
        guessed = with_distinct(without, facts)
        roles = guess_roles(guessed.columns, target, options, *hints)
    if roles.time and notes and "allow, because" in notes[0]:
        roles.time["future"] = "allow"
    roles.notes += notes
    return guessed, roles, facts


def column_names(path: str, reading: ReadingOptions = DETECTED) -> list[str]:
    """The names of a data file's columns, from its first rows.

    Raises:
        SourceError: the file is missing, unreadable or empty.
        BackendError: the file's server does not answer.
    """
    source, _ = guess_source(path, reading)
    return list(next(iter(Files(source, Path()).batches({}))).schema.names)


def read_columns(path: str) -> dict[str, Column]:
    """The columns of a data file, each in the narrowest type that nearly all its cells fit.

    Raises:
        SourceError: the file is missing, unreadable or empty.
        BackendError: the file's server does not answer.
    """
    source, _ = guess_source(path)
    sample = read_sample(source)
    cells = recognise(sample.cells, source, typed=sample.typed).cells
    return {name: guess_column(values, name) for name, values in cells.items()}


def _inputs(columns: dict[str, Column], roles: Roles, target: str) -> list[str]:
    """Columns without another role."""
    names = {target, roles.entity, *roles.ignore, (roles.time or {}).get("column")}
    return [name for name in columns if name not in names]


def _suspects(
    columns: dict[str, Column], inputs: list[str], roles: Roles, target: str
) -> dict[str, str]:
    values = columns[target].values
    has_target = values.notna().to_numpy()
    if roles.task == "binary":
        numbers = (values[has_target] == roles.positive).to_numpy(dtype=np.float64)
    elif roles.task == "multiclass":
        numbers = pd.get_dummies(values[has_target]).to_numpy(dtype=np.float64)
    else:
        numbers = values[has_target].to_numpy(dtype=np.float64)
    frame = pd.DataFrame({name: columns[name].values for name in inputs})
    return leakage_suspects(frame[has_target], numbers)


def _said_of_types(columns: dict[str, Column], missing_cells: Mapping[str, int]) -> list[str]:
    notes = []
    for name, column in columns.items():
        missing = missing_cells.get(name, int(column.values.isna().sum()))
        if missing:
            notes.append(f"nullable: {name} ({column.kind}) has {missing:,} missing values")
    ranged = sum("maximum" in column.spec for column in columns.values())
    listed = sum("categories" in column.spec for column in columns.values())
    if ranged:
        notes.append(
            f"minimum, maximum: of {counted(ranged, 'column')} with few whole numbers, as seen"
        )
    if listed:
        notes.append(
            f"categories: of {counted(listed, 'column')}, as seen; new ones will be rejected"
        )
    return notes


def _rejected_share(guessed: Guessed) -> float:
    """A percent more than what is rejected now, so that the next file may be a little worse."""
    lost = 1 - len(guessed.row_numbers) / guessed.rows
    return max(REJECTED_SHARE, (int(lost * 100) + 1) / 100)


def _said_of_misfits(guessed: Guessed, rejected: float) -> list[str]:
    notes = []
    for name, column in guessed.columns.items():
        if bad := len(column.misfits):
            be = "is not" if bad == 1 else "are not"
            notes.append(
                f"type: {name}: {column.kind}, but {bad:,} of {guessed.rows:,} cells {be}: "
                f"{_rows(column.misfits, guessed.step)}"
            )
    if notes:
        lost = guessed.rows - len(guessed.row_numbers)
        notes.append(
            f"max_rejected_share: {rejected:g}, so {counted(lost, 'row')} with such "
            f"cells can go to quarantine ({lost / guessed.rows:.2%} of all)"
        )
    return notes


def _said_of_duplicates(
    raw: Mapping[str, "pd.Series[str]"], columns: Mapping[str, Column]
) -> list[str]:
    """Rows that are as an earlier one, but for what numbers the rows."""
    told_apart = [
        name
        for name, column in columns.items()
        if column.counts_rows or column.numbers_rows or column.spec.get("unique")
    ]
    compared = [pa.array(values, pa.string()) for n, values in raw.items() if n not in told_apart]
    if not compared:
        return []
    keys = keys_of(compared, exact=False)
    repeated = len(keys) - len(np.unique(keys))
    if not repeated:
        return []
    but = f" but for {', '.join(map(repr, told_apart))}" if told_apart else ""
    return [
        f"duplicates: {counted(repeated, 'row')} as an earlier one in every column{but}; if a case "
        "must not come twice, name what identifies it under contract.unique_together or .key"
    ]


def _said_of_rare(guessed: Guessed, target: str) -> list[str]:
    notes = []
    for name, column in guessed.columns.items():
        listed = column.spec.get("categories", ())
        if name == target or column.kind != "category" or len(column.values) < ENOUGH:
            continue
        counts = column.values.value_counts()
        once = counts.index[counts == 1]
        if listed and len(once):
            at = guessed.row_numbers[np.flatnonzero(column.values.isin(once))]
            notes.append(
                f"categories: {name} has {len(listed)}, {len(once)} of them seen once "
                f"({_rows(at, guessed.step)}); take out what is a typo, and such rows are rejected"
            )
    return notes


def _rows(rows: Rows, step: int) -> str:
    """Rows by number alone: what stands in a cell may be personal.

    Args:
        step: rows of the file from one that was looked at to the next.
    """
    numbers = ", ".join(f"{row * step + 1:,}" for row in rows[:ROWS_SHOWN])
    more = f" and {len(rows) - ROWS_SHOWN:,} more" if len(rows) > ROWS_SHOWN else ""
    return f"row{'s' * (len(rows) != 1)} {numbers}{more}"


def project_name(path: str, target: str) -> str:
    """After the file and the target: models of two targets of one file are two.

    A pattern such as `visits/*.csv` is called after its folder.
    """
    parts = [_words(part.partition(".")[0]) for part in re.split(r"[/\\]", path)]
    stem, aim = next(filter(None, reversed(parts)), ""), _words(target)
    words = stem if stem.endswith(aim) else f"{stem[: LONGEST_NAME - len(aim) - 1]}_{aim}"
    return (words if words[:1].isalpha() else f"project_{words}")[:LONGEST_NAME].rstrip("_")


def _words(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _relative(path: str, folder: Path) -> str:
    if "://" in path:
        return path
    file, start = Path(path).resolve(), folder.resolve()
    return os.path.relpath(file, start) if file.is_relative_to(start) else str(file)
