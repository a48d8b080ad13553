"""Which model versions had rows of a person in their data."""

from collections.abc import Mapping

from pydantic import ValidationError

from lifecycle.project import Project
from lifecycle.records import DatasetVersion, Learner, ModelVersion, Split, Trained
from lifecycle.release.artifacts import RECORD
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.release.registry import versions
from lifecycle.settings import Settings


def learners(
    project: Project, settings: Settings, tables: Mapping[str, Mapping[int, int]]
) -> tuple[Learner, ...]:
    """Models of the project, newest first, whose parts hold rows that were found.

    Args:
        tables: table → version → rows of theirs.

    Raises:
        BackendError: the registry cannot be reached.
    """
    found = []
    for model, aliases in versions(project.name, settings).items():
        split = split_of(model, settings)
        if split is None:
            continue
        learned = _theirs(split.train, tables) + _theirs(split.validation, tables)
        measured = _theirs(split.holdout, tables)
        if learned or measured:
            found.append(Learner(model=model, aliases=aliases, learned=learned, measured=measured))
    return tuple(found)


def _theirs(part: DatasetVersion, tables: Mapping[str, Mapping[int, int]]) -> int:
    return tables.get(part.uri.rpartition("/")[2], {}).get(part.version, 0)


def split_of(model: ModelVersion, settings: Settings) -> Split | None:
    """What it was trained on; None where its record is gone."""
    connect(settings)
    import mlflow

    try:
        with backend_errors(settings):
            text = mlflow.artifacts.load_text(f"runs:/{model.run_id}/{RECORD}")
        return Trained.model_validate_json(text).split
    except ValidationError:
        return None
