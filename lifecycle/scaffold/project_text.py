"""The text of a project file with what was guessed, for a person to read and change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lifecycle.project import SourceSpec
from lifecycle.records import CONTROL, one_line
from lifecycle.scaffold.columns import Column
from lifecycle.scaffold.roles import Roles

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

FIRST_VERSION = "0.1.0"
"""Of a contract that nobody has read yet: a correction breaks it for none."""

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
#   false_alarms: 1 per 100 windows    # over all columns of a window
#   drift: {numeric_threshold: 0.1, categorical_threshold: 0.15, max_drifted_share: 0.25}
#   max_quality_loss: 5%        # or a number in the metric's own units
#   min_rows: 100               # a window with fewer rows says nothing, good or bad
# serving: {replicas: 1, smoke_rows: 25}\
""".splitlines()


@dataclass(frozen=True)
class Draft:
    """Guesses of `lifecycle init`, for a project file."""

    name: str
    source: SourceSpec
    target: str
    columns: dict[str, Column]
    roles: Roles
    suspects: dict[str, str]
    """Columns that look like consequences of the target, and why."""
    protected: Sequence[str]
    """Columns that look like protected attributes."""
    rejected: float
    """Share of rows that may go to quarantine."""
    split: Mapping[str, Any]
    """What the split has besides its defaults."""


def project_text(draft: Draft) -> str:
    """A project file, each section a line or a few."""
    roles, suspects = draft.roles, draft.suspects
    head: dict[str, Any] = {
        "name": draft.name,
        "source": draft.source.model_dump(mode="json", exclude_defaults=True),
        "task": roles.task,
        "target": draft.target,
    }
    if roles.positive is not None:
        head["positive"] = roles.positive
    if roles.entity:
        head["entity"] = roles.entity
    if roles.time:
        head["time"] = roles.time
    promises = {
        "version": FIRST_VERSION,
        "max_rejected_share": draft.rejected,
        "columns": {name: guess.spec for name, guess in draft.columns.items()},
    }
    lines = block_lines(head)
    if roles.otherwise:
        lines.insert(list(head).index("task"), f"# {one_line(roles.otherwise)}")
    return "\n".join(
        [
            "# Written by `lifecycle init`: every line is a guess, to be read once by a person.",
            *lines,
            "# Consequences of the target, known only when the target is: never features.",
            *(
                f"# suspected: {one_line(column)}: {one_line(suspect)}"
                for column, suspect in suspects.items()
            ),
            *block_lines({"leakage": list(suspects)}),
            "# Attributes that must not decide, such as sex or race: reported on only.",
            *(f"# likely by its name: {one_line(column)}" for column in draft.protected),
            "protected: []",
            *block_lines({"ignore": roles.ignore}),
            "",
            "# Below version 1.0.0 anything may change; set 1.0.0 when others read the data.",
            *block_lines({"contract": promises}),
            "",
            *block_lines(DEFAULTS | {"split": DEFAULTS["split"] | draft.split}),
            "",
            *MORE,
            "",
        ]
    )


def block_lines(mapping: Mapping[str, object], indent: str = "") -> list[str]:
    """A mapping as YAML lines: nested where it holds mappings of mappings, else one line a key."""
    lines = []
    for key, value in mapping.items():
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            lines += [f"{indent}{flow_text(key)}:", *block_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{flow_text(key)}: {flow_text(value)}")
    return lines


class _OneLine(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes a text with line breaks on one line, where they are escaped."""


def _text(dumper: Any, text: str) -> yaml.ScalarNode:
    style = '"' if CONTROL.search(text) else None
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


_OneLine.add_representer(str, _text)


def flow_text(value: object) -> str:
    """A value as YAML on one line."""
    text: str = yaml.dump(
        value,
        Dumper=_OneLine,
        default_flow_style=True,
        width=10_000_000,
        sort_keys=False,
        allow_unicode=True,
    )
    return text.removesuffix("...\n").strip()
