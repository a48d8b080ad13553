"""Answers of every registered version for the rows of its holdout, as digests.

A program: `lifecycle upgrade` runs it with the former interpreter and with the new one, in an
environment whose `home` and MLflow are copies, and compares the two files. Since the two may be of
different versions of this package, the file's form is an interface: fields may be added to it.
"""

import argparse
import hashlib
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
from pydantic import ConfigDict

from lifecycle.errors import LifecycleError
from lifecycle.lake.read import open_frames
from lifecycle.records import ModelVersion
from lifecycle.records.base import Record
from lifecycle.release.artifacts import predict_of, record_of, registered_bundle
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.release.registry import versions
from lifecycle.runtime.console import write_error
from lifecycle.runtime.files import write_atomic
from lifecycle.runtime.process import prepare_process
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle


class ExchangedRecord(Record):
    """A record that another version of this package may have written."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class VersionAnswers(ExchangedRecord):
    """A registered version and its answers."""

    name: str
    version: int
    digest: str
    """Of its bundle."""
    aliases: tuple[str, ...]
    rows: int = 0
    answers: str = ""
    """SHA-256 of the predictions, 64-bit floats in the order of the holdout; empty if not asked."""
    error: str = ""
    """Why there are none."""

    @property
    def title(self) -> str:
        return f"{self.name} v{self.version}"


class RegistryAnswers(ExchangedRecord):
    """All registered versions, by an interpreter with its packages."""

    packages: dict[str, str]
    """Distribution → version, and that of Python."""
    versions: tuple[VersionAnswers, ...] = ()


class ServedChampion(ExchangedRecord):
    """A champion that was served and asked."""

    name: str
    version: int | None = None
    """None where the project has no champion."""
    rows: int = 0
    """Rows whose answers were those of the offline model, over every protocol."""


class ServedChampions(ExchangedRecord):
    """The champions of all projects that were named."""

    champions: tuple[ServedChampion, ...]


def read_answers(settings: Settings, *, scored: bool = True) -> RegistryAnswers:
    """Ask every complete version in the registry.

    Args:
        scored: whether each is asked for its holdout; else they are only listed.

    Raises:
        BackendError: the registry cannot be reached.
    """
    entries = []
    for name in _model_names(settings):
        for model, aliases in sorted(versions(name, settings).items(), key=lambda v: v[0].version):
            entry = VersionAnswers(
                name=name, version=model.version, digest=model.digest, aliases=aliases
            )
            entries.append(_scored(entry, model, settings) if scored else entry)
    packages = {str(d.metadata["Name"]).lower(): d.version for d in distributions()}
    packages["python"] = platform.python_version()
    return RegistryAnswers(packages=packages, versions=tuple(entries))


def _model_names(settings: Settings) -> Iterator[str]:
    client, token = connect(settings), ""
    while True:
        with backend_errors(settings):
            page = client.search_registered_models(page_token=token or None)
        yield from (model.name for model in page)
        token = page.token or ""
        if not token:
            return


def _scored(entry: VersionAnswers, model: ModelVersion, settings: Settings) -> VersionAnswers:
    """The entry with the answers of its version, batch by batch, with its own features hook."""
    digest, rows = hashlib.sha256(), 0
    try:
        holdout = record_of(model, settings).split.holdout
        with registered_bundle(connect(settings), model, settings) as bundle:
            columns = list(load_bundle(bundle, model.digest).schema.inputs)
        predict = predict_of(model, settings)
        for frame in open_frames(holdout, columns):
            predictions = np.ascontiguousarray(predict(frame), dtype="<f8")
            digest.update(predictions.tobytes())
            rows += len(frame)
    except LifecycleError as error:
        return entry.model_copy(update={"error": " ".join(str(error).split())})
    return entry.model_copy(update={"rows": rows, "answers": digest.hexdigest()})


def main() -> int:
    """Write the answers of the environment of this process to a file."""
    prepare_process()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--list", action="store_true", help="only list the versions")
    options = parser.parse_args()
    try:
        answers = read_answers(Settings.load(), scored=not options.list)
    except LifecycleError as error:
        write_error(str(error))
        return 2
    write_atomic(options.file, answers.model_dump_json(), 0o600)
    return 0


if __name__ == "__main__":
    sys.exit(main())
