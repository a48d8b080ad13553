"""The environments: which there are, and the file that says where each one's things are."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from lifecycle.errors import SettingsError

DEV = "dev"
"""The one environment that needs no file: it is the embedded defaults."""
FOLDER = "deployments"


def shipped_folder(name: str) -> Path:
    """A folder of the checkout, of which a wheel carries some files inside the package."""
    inside = Path(__file__).with_name(name)
    return inside if inside.is_dir() else Path(__file__).parents[1] / name


def environment_folders() -> tuple[Path, ...]:
    """Folders searched for `<env>.env`: that of the working folder, then the checkout's.

    An installed wheel has those of the checkout it was built from.
    """
    folders = (Path.cwd() / FOLDER, shipped_folder(FOLDER))
    return tuple(dict.fromkeys(folders))


def environments() -> tuple[str, ...]:
    """The environments there are, `dev` first: one per file."""
    names = {file.stem for folder in environment_folders() for file in folder.glob("?*.env")}
    return (DEV, *sorted(names - {DEV}))


def environment_help() -> str:
    """The help of an option `--env`."""
    return f"{', '.join(environments())}; by default LIFECYCLE_ENV, or {DEV}"


def environment_file(name: str) -> Path | None:
    """The file of an environment; None for a `dev` without one.

    Raises:
        SettingsError: there is no such file; names the places searched.
    """
    places = [folder / f"{name}.env" for folder in environment_folders()]
    for place in places if name in environments() else ():
        if place.is_file():
            return place
    if name == DEV:
        return None
    raise SettingsError(
        f"--env: unknown environment {name!r}: there is no {' and no '.join(map(str, places))}; "
        f"write that file, or choose one of {', '.join(environments())}"
    )


def _declared(name: str) -> str:
    if name not in environments():
        raise ValueError(f"must be one of {', '.join(environments())}")
    return name


Environment = Annotated[
    str,
    AfterValidator(_declared),
    WithJsonSchema({"type": "string", "enum": list(environments())}),
]
"""Name of an environment. The schema lists those that are there when it is deployed, so that a
Prefect server refuses others."""


# Variables that are for one environment alone.

PREFIX = "LIFECYCLE_"
APART = "__"
"""Stands between the name of an environment and that of its variable."""


def own_prefix(env: str) -> str:
    """Beginning of the variables that are for one environment alone: `LIFECYCLE_STAGING__`."""
    return f"{PREFIX}{re.sub(r'[^A-Z0-9]', '_', env.upper())}{APART}"


def own_variables(env: str) -> dict[str, str]:
    """Variables that are for one environment alone, by the names that they stand for."""
    prefix = own_prefix(env)
    return {
        name.removeprefix(prefix): value
        for name, value in os.environ.items()
        if name.startswith(prefix)
    }
