"""Credentials of sources: a Prefect Secret block fills the environment variable a project names."""

import json
import os
from typing import Any

from prefect.blocks.system import Secret

from lifecycle.project import Project


def fill_credentials(project: Project) -> None:
    """Set the variables that the project's sources name and this process lacks.

    The block is called as the variable, in lower case with dashes: `WAREHOUSE_URL` is in
    `warehouse-url`. Where there is no such block either, reading the source says so.
    """
    views = (view.source for view in project.feature_views.values())
    for source in (project.source, *views):
        name = source.credentials
        if name and name not in os.environ and (value := _block(name)):
            os.environ[name] = value


def _block(name: str) -> str | None:
    try:
        block: Any = Secret.load(name.lower().replace("_", "-"))
    except ValueError:  # Prefect's word for a block that is not there
        return None
    value = block.get()  # which has read what looks like JSON
    return value if isinstance(value, str) else json.dumps(value)
