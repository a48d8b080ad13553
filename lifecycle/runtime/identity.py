"""The run's identity, what a model is made from: cache key, resume key and a tag in MLflow."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions
from itertools import chain
from pathlib import Path
from typing import Literal

from lifecycle.project import Project
from lifecycle.records import Identity, Split
from lifecycle.runtime.files import create_once
from lifecycle.settings import Settings

PACKAGE = Path(__file__).parents[1]
Result = Literal["data", "features", "model", "checks", "answers", "server", "any"]

DECLARED = ("project", "records", "runtime/identity.py", "runtime/plugins.py")
DATA = (*DECLARED, "lake", "data")
MODEL = (*DECLARED, "lake/column_types.py", "lake/read.py", "features/encode.py", "training")
SHAPED_BY: Mapping[Result, tuple[str, ...]] = {
    "data": DATA,
    "features": (*DATA, "features"),
    # beyond its data, whose digests say what made them
    "model": MODEL,
    "checks": (*MODEL, "lake/row_hash.py", "profiling/compare.py", "quality", "runtime/html.py"),
    # what a replica runs; another digest restarts it
    "answers": (
        *DATA,
        "features",
        "labels",
        "training",
        "serving",
        "runtime",
        "errors.py",
        "redaction.py",
        "settings.py",
        "environments.py",
    ),
    # of Prefect, as scripts start it
    "server": (*DECLARED, "runtime", "redaction.py", "settings.py", "environments.py"),
}
"""A result → the files and folders of the package that shape it, and no others.

What they import besides only moves, names or reports it; tests/lifecycle/runtime/test_identity.py
holds the lists against the imports.
"""


def sha256(value: object) -> str:
    """SHA-256 of a JSON-able value, keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_digest(result: Result) -> str:
    """SHA-256 over the files of this package that shape a result; of `any`, over all of them.

    Raises:
        FileNotFoundError: a part that is named in `SHAPED_BY` is gone or empty: without it the
            digest would stay while the code changes.
    """
    parts = SHAPED_BY[result] if result != "any" else chain.from_iterable(SHAPED_BY.values())
    files = {file for part in parts for file in _files(part)}
    return sha256({str(f.relative_to(PACKAGE)): file_digest(f) for f in sorted(files)})


def _files(part: str) -> list[Path]:
    root = PACKAGE / part
    files = [root] if root.is_file() else list(root.rglob("*.py"))
    if not files:
        raise FileNotFoundError(
            f"{root} shapes results and is gone; name what took its place in SHAPED_BY, "
            f"{Path(__file__).name}"
        )
    return files


@cache
def lock_digest() -> str:
    """SHA-256 of `requirements.lock`; outside a checkout, of the installed distributions."""
    lock = PACKAGE.parent / "requirements.lock"
    if lock.is_file():
        return file_digest(lock)
    return sha256(sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions()}))


def checks_digest(python: Path) -> str:
    """SHA-256 of `requirements-checks.lock` and of what the checks' interpreter has installed.

    It shapes what the checks find, and no model.
    """
    lock = PACKAGE.parent / "requirements-checks.lock"
    installed = python.parent.parent.glob("lib/python*/site-packages/*.dist-info")
    lock_digest = file_digest(lock) if lock.is_file() else ""
    return sha256([lock_digest, sorted(folder.name for folder in installed)])


def project_digest(project: Project) -> str:
    """SHA-256 over the sections that shape a model; the gate judges it, serving runs it,
    and where the data lie says nothing of what they are.

    The gate's metric is in it: what is recorded of a model, its slices and its noise, is by it.
    """
    sections = {
        "source",
        "serving",
        "monitoring",
        "scoring",
        "retraining",
        "gate",
        "evaluation",
        "checks",
        "description",
    }
    return sha256(project.model_dump(mode="json", exclude=sections) | {"metric": project.metric})


def identity_of(project: Project, split: Split, hooks: str, threads: int) -> Identity:
    """The identity of the model that training `project` on `split` makes.

    Args:
        hooks: digest of the user's own code: features hook, metric, trainer; empty without any.
        threads: a worker's; how many add up a sum may change its last bit.
    """
    parts = {
        "data": sha256([part.digest for part in (split.train, split.validation, split.holdout)]),
        "code": sha256([code_digest("model"), hooks]),
        "lock": lock_digest(),
        "project": sha256([project_digest(project), threads]),
        "seed": project.training.seed,
    }
    return Identity.model_validate(parts | {"digest": sha256(parts)})


def store_id(settings: Settings) -> str:
    """A random name kept in `home`: cached results must not outlive what they refer to."""
    return create_once(settings.folder() / "store-id", secrets.token_hex(8), 0o644)
