"""`lifecycle init`: a working project file for a CSV file, with everything guessed said."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lifecycle.data.guess import Column, Roles, guess_column, guess_roles
from lifecycle.data.sources import header, read_table
from lifecycle.data.suspects import leakage_suspects
from lifecycle.errors import TargetError
from lifecycle.specs import SourceSpec

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
    csv: Path, target: str, name: str | None = None, folder: Path | None = None
) -> tuple[str, list[str]]:
    """A project file's text for a CSV file, and each guess in words.

    Args:
        folder: where the project file will be, by default beside the CSV file; `source.path` is
            relative to it if it can be.

    Raises:
        SourceError: the file is missing, unreadable or empty.
        TargetError: there is no such column, or it cannot be predicted.
    """
    source = _source(csv)
    names = header(csv, source)
    if target not in names:
        close = difflib.get_close_matches(target, names, n=1)
        raise TargetError(
            f"--target: {csv} has no column {target!r}"
            + (f"; did you mean {close[0]!r}?" if close else "")
            + f" It has: {', '.join(names[:40])}"
        )
    table = read_table(csv, source, text=names)
    columns = {name: guess_column(table[name].to_pandas()) for name in names}
    roles = guess_roles(columns, target)
    suspects = _suspects(columns, roles, target)
    guesses = [*roles.said, *_said_of_types(columns)]
    guesses += [f"leakage {column}: {found}; no feature" for column, found in suspects.items()]
    if not roles.time:
        guesses.append("time: none found, so nothing arrives later and nothing is monitored")
    path = source.model_copy(update={"path": _relative(csv, folder or csv.parent)})
    return _text(name or _name(csv), path, target, columns, roles, suspects), guesses


def _source(csv: Path) -> SourceSpec:
    """The separator that makes the most columns; the file must be there and be text."""
    specs = [SourceSpec(path=str(csv), separator=separator) for separator in SEPARATORS]
    return max(specs, key=lambda spec: len(header(csv, spec)))


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


def _name(csv: Path) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", csv.stem.lower()).strip("_")
    return (words if words[:1].isalpha() else f"project_{words}").rstrip("_")[:63]


def _relative(csv: Path, folder: Path) -> str:
    path, start = csv.resolve(), folder.resolve()
    return os.path.relpath(path, start) if path.is_relative_to(start) else str(path)
