"""A small model, and a small project that is ready for training."""

from collections.abc import Callable

import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.project import Project
from lifecycle.records import (
    Split,
    Window,
)
from lifecycle.settings import Settings
from tests.support.trained import Made, train_small


@pytest.fixture
def small_model(make_project: Callable[..., Project], settings: Settings) -> Made:
    return train_small(make_project(), settings)


@pytest.fixture
def prepare(settings: Settings) -> Callable[[Project], Split]:
    """Ingest the whole source of a project and split it."""

    def prepared(project: Project) -> Split:
        return split_dataset(project, settings, ingest(project, settings, Window()))

    return prepared
