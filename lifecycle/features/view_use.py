"""How a model uses its views: what its bundle says, and what must be the same ever after.

Whoever loads a model imports this, and nothing of the lake with it.
"""

from typing import Any

from lifecycle.project import Project
from lifecycle.records import Record
from lifecycle.runtime.identity import file_digest, sha256
from lifecycle.runtime.plugins import plug_file


class ViewUse(Record):
    """How a model uses a view; part of its bundle."""

    how: str
    """Digest of how the features are made: function, columns, features."""
    columns: tuple[str, ...]
    """Inputs of the model that the view makes, `<view>__<feature>`, in the order of its table."""
    max_age: float | None
    same_instant: bool


def view_uses(project: Project) -> dict[str, ViewUse]:
    """How the project's model uses each of its views.

    Raises:
        FeatureError: the module of a function is not there.
    """
    return {
        name: ViewUse(
            how=how_made(project, name),
            columns=tuple(f"{name}__{feature}" for feature in spec.features),
            max_age=spec.max_age,
            same_instant=spec.same_instant,
        )
        for name, spec in project.feature_views.items()
    }


def how_made(project: Project, name: str) -> str:
    """Digest of how a view's features are made: function, columns, features.

    Raises:
        FeatureError: the module of the function is not there.
    """
    spec = project.feature_views[name]
    function = plug_file(project, spec.function, f"feature_views.{name}.function")
    kept = {"type", "nullable", "categories"}  # what else is said of a column changes no value
    columns: list[Any] = [
        {name: column.model_dump(mode="json", include=kept) for name, column in columns.items()}
        for columns in (spec.columns, spec.features)
    ]
    return sha256([file_digest(function[0]), function[1], spec.key, spec.time, columns])
