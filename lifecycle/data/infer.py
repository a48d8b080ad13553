"""`lifecycle init`: a working project file for a data file, with everything guessed said."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from lifecycle.data.guess import Column, Roles, guess_column, guess_roles
from lifecycle.data.sources.columns import as_declared
from lifecycle.data.sources.files import Files
from lifecycle.data.suspects import leakage_suspects
from lifecycle.errors import SourceError, TargetError
from lifecycle.specs import SourceSpec
from lifecycle.specs.formats import EXTENSIONS, format_of

SEPARATORS = (",", ";", "\t", "|")
DEFAULTS: dict[str, Any] = {
    "split": {"holdout": 0.2, "validation": 0.15, "seed": 17},
    "training": {
        "rounds": 300,
        "early_stopping_rounds": 25,
        "parameters": {"eta": 0.1, "max_depth": 5},
        "seed": 17,
    },
    "tuning": {
        "trials": 20,
        "workers": 2,
        "space": {
            "max_depth": {"type": "int", "low": 2, "high": 8},
            "eta": {"type": "float", "low": 0.02, "high": 0.3, "log": True},
            "min_child_weight": {"type": "float", "low": 1, "high": 30, "log": True},
            "subsample": {"type": "float", "low": 0.6, "high": 1.0},
            "colsample_bytree": {"type": "float", "low": 0.5, "high": 1.0},
        },
    },
}

MORE = """\
# More sections, with their defaults; docs/project.schema.json has all of them.
# features: features:build      # a function in features.py beside this file: frame in, frame out
# gate:
#   floor: null                 # the worst value of the metric you would put in front of anyone
#   gain_over_baseline: 0.0
#   gain_over_champion: 0.0
# checks:
#   accept: {}                  # deepchecks' check: why its failure does not block
# monitoring:
#   drift: {numeric_threshold: 0.1, categorical_threshold: 0.15, max_drifted_share: 0.25}
#   max_quality_loss: 0.05
# serving: {replicas: 1, smoke_rows: 25}\
""".splitlines()


def infer_project(
    path: str | Path, target: str, name: str | None = None, folder: Path | None = None
) -> tuple[str, list[str]]:
    """A project file's text for a data file, and each guess in words.

    Args:
        path: a CSV, Parquet, JSON lines or Excel file, by path or URL; its ending says which.
        folder: where the project file will be, by default beside the data file; `source.path` is
            relative to it if it can be.

    Raises:
        SourceError: the file is missing, unreadable or empty.
        BackendError: the file's server does not answer.
        TargetError: there is no such column, or it cannot be predicted.
    """
    path = str(path)
    source = _source(path)
    raw = _read(source)
    if target not in raw:
        close = difflib.get_close_matches(target, raw, n=1)
        raise TargetError(
            f"--target: {path} has no column {target!r}"
            + (f"; did you mean {close[0]!r}?" if close else "")
            + f" It has: {', '.join(list(raw)[:40])}"
        )
    columns = {column: guess_column(values) for column, values in raw.items()}
    roles = guess_roles(columns, target)
    suspects = _suspects(columns, roles, target)
    guesses = [*roles.said, *_said_of_types(columns)]
    guesses += [f"leakage {column}: {found}; no feature" for column, found in suspects.items()]
    if not roles.time:
        guesses.append("time: none found, so nothing arrives later and nothing is monitored")
    start = folder or Path(path).parent
    source = source.model_copy(update={"path": _relative(path, start)})
    return _text(name or _name(path), source, target, columns, roles, suspects), guesses


def read_columns(path: str) -> dict[str, Column]:
    """The columns of a data file, each in the narrowest type that all its cells fit.

    Raises:
        SourceError: the file is missing, unreadable or empty.
        BackendError: the file's server does not answer.
    """
    return {name: guess_column(values) for name, values in _read(_source(path)).items()}


def _source(path: str) -> SourceSpec:
    """The format its ending names, else CSV; the separator is the one that makes most columns."""
    if "://" not in path and not Path(path).exists():
        raise SourceError(f"{path}: cannot read it: No such file or directory")
    found = format_of(path) or "csv"
    if found not in EXTENSIONS:
        raise SourceError(f"{path}: `lifecycle init` reads files; write `source` for it by hand")
    if found != "csv":
        return SourceSpec(path=path, format=found)
    specs = [SourceSpec(path=path, separator=separator) for separator in SEPARATORS]
    return max(specs, key=lambda spec: len(Files(spec, Path()).header()))


def _read(source: SourceSpec) -> dict[str, "pd.Series[str]"]:
    """Every column as text, as if the file were CSV."""
    batches = list(Files(source, Path()).batches({}))
    names = dict.fromkeys(name for batch in batches for name in batch.schema.names)
    return {
        name: pa.chunked_array(
            [
                _as_in_csv(batch[name])
                if name in batch.schema.names
                else pa.nulls(batch.num_rows, pa.string())
                for batch in batches
            ]
        ).to_pandas()
        for name in names
    }


def _as_in_csv(array: pa.Array) -> pa.StringArray:
    """Cells as text; a float keeps its point, since the file says it is no whole number."""
    text = as_declared(array, "string")
    if not pa.types.is_floating(array.type):
        return text
    pointed = pc.match_substring_regex(text, "[^0-9-]")
    return pc.if_else(pointed, text, pc.binary_join_element_wise(text, "0", "."))


def _suspects(columns: dict[str, Column], roles: Roles, target: str) -> dict[str, str]:
    taken = {target, roles.entity, *roles.ignore, (roles.time or {}).get("column")}
    values = columns[target].values
    known = values.notna().to_numpy()
    if roles.task == "binary":
        numbers = (values[known] == roles.positive).to_numpy(dtype=np.float64)
    elif roles.task == "multiclass":
        numbers = pd.get_dummies(values[known]).to_numpy(dtype=np.float64)
    else:
        numbers = values[known].to_numpy(dtype=np.float64)
    inputs = {name: column.values for name, column in columns.items() if name not in taken}
    return leakage_suspects(pd.DataFrame(inputs)[known], numbers)


def _said_of_types(columns: dict[str, Column]) -> list[str]:
    said = []
    for name, column in columns.items():
        missing = int(column.values.isna().sum())
        if missing:
            said.append(f"nullable: {name} ({column.kind}) has {missing:,} missing values")
    ranged = sum("maximum" in column.spec for column in columns.values())
    listed = sum("categories" in column.spec for column in columns.values())
    if ranged:
        said.append(f"minimum, maximum: of {ranged} columns with few whole numbers, as seen")
    if listed:
        said.append(f"categories: of {listed} columns, as seen; new ones will be rejected")
    return said


def _text(
    name: str,
    source: SourceSpec,
    target: str,
    columns: dict[str, Column],
    roles: Roles,
    suspects: dict[str, str],
) -> str:
    head: dict[str, Any] = {
        "name": name,
        "source": source.model_dump(exclude_defaults=True),
        "task": roles.task,
        "target": target,
    }
    if roles.positive is not None:
        head["positive"] = roles.positive
    if roles.entity:
        head["entity"] = roles.entity
    if roles.time:
        head["time"] = roles.time
    contract = {name: guess.spec for name, guess in columns.items()}
    lines = _block(head)
    if roles.otherwise:
        lines.insert(list(head).index("task"), f"# {roles.otherwise}")
    return "\n".join(
        [
            "# Written by `lifecycle init`: every line is a guess, to be read once by a person.",
            *lines,
            "# Consequences of the target, known only when the target is: never features.",
            *(f"# suspected: {column}: {found}" for column, found in suspects.items()),
            *_block({"leakage": list(suspects)}),
            "# Attributes that must not decide, such as sex or race: reported on only.",
            "protected: []",
            *_block({"ignore": roles.ignore}),
            "",
            *_block({"contract": {"max_rejected_share": 0.01, "columns": contract}}),
            "",
            *_block(DEFAULTS),
            "",
            *MORE,
            "",
        ]
    )


def _block(mapping: Mapping[str, object], indent: str = "") -> list[str]:
    """A mapping as YAML lines: nested where it holds mappings of mappings, else one line a key."""
    lines = []
    for key, value in mapping.items():
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            lines += [f"{indent}{_flow(key)}:", *_block(value, indent + "  ")]
        else:
            lines.append(f"{indent}{_flow(key)}: {_flow(value)}")
    return lines


def _flow(value: object) -> str:
    text: str = yaml.safe_dump(
        value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("...\n").strip()


def _name(path: str) -> str:
    stem = re.split(r"[/\\]", path)[-1].partition(".")[0]
    words = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
    return (words if words[:1].isalpha() else f"project_{words}").rstrip("_")[:63]


def _relative(path: str, folder: Path) -> str:
    if "://" in path:
        return path
    file, start = Path(path).resolve(), folder.resolve()
    return os.path.relpath(file, start) if file.is_relative_to(start) else str(file)
