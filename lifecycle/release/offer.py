"""The version that one environment offers to another: found, verified, copied out; and its note.

Each request runs in a process of its own, whose variables are those of the offering environment
(`settings.variables_of`): MLflow, object storage and the lake keep credentials for a whole process,
and those of one environment must never reach the servers of the other. Request, answer and files
are in a folder that the asking process deletes.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from lifecycle import errors
from lifecycle.audit.model_trail import CROWNING, Trail, history
from lifecycle.errors import BackendError, GateError, LifecycleError, RegistryError
from lifecycle.lake.read import open_version
from lifecycle.lake.row_hash import Hashes, fold, value_hashes
from lifecycle.lake.table import relocated
from lifecycle.records import DatasetVersion, ModelVersion, Offer, Split
from lifecycle.records.base import Record
from lifecycle.redaction import redact
from lifecycle.release.artifacts import logged_record, registered_bundle
from lifecycle.release.card_verification import claims_in_words, verify_card
from lifecycle.release.hooks import module_of, registered_hook
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.release.registry import CHAMPION, by_alias, versions
from lifecycle.runtime.identity import sha256
from lifecycle.settings import Settings, variables_of
from lifecycle.training.bundle import load_bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient

REQUEST, ANSWER = "request.json", "answer.json"
BUNDLE, HOOK = "bundle", "hook"
"""Folders of the copies."""
ROWS = "rows.npy"
"""Hashes of rows."""
ANSWER_S = 300.0
"""Seconds that the other environment may take: its registry and store answer, or it is down."""


class Note(Record):
    """A line for the audit trail of the offering environment."""

    who: str
    action: Literal["export", "decline"]
    model: ModelVersion
    reasons: tuple[str, ...]


class Overlap(Record):
    """A question: how many rows whose hashes are in the folder are equal to some of a split?"""

    split: Split
    columns: tuple[str, ...]


class OfferRequest(Record):
    """A request to the other environment."""

    project_name: str
    version: int | None = None
    """By default the champion."""
    note: Note | None = None
    """A line to be written instead."""
    overlap: Overlap | None = None
    """A question to be answered instead."""


class OfferAnswer(Record):
    """Its answer."""

    offer: Offer | None = None
    rows: int = 0
    """Answer to an `Overlap`."""
    error: str = ""
    kind: str = Field(default="BackendError", pattern=r"^\w+$")
    """The error's class in `lifecycle.errors`."""


def ask(request: OfferRequest, env: str, folder: Path) -> OfferAnswer:
    """Have a process of another environment answer a request.

    Args:
        folder: empty; holds the files of an offer afterwards.

    Raises:
        LifecycleError: what the other process raised, with the environment's name before it.
        BackendError: it did not answer.
    """
    (folder / REQUEST).write_text(request.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-P", "-m", __name__, str(folder)]
    try:
        process = subprocess.run(  # noqa: S603 - our own interpreter and arguments
            command,
            env=variables_of(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BackendError(f"{env}: its registry gave no answer in {ANSWER_S:g} s") from None
    try:
        answer = OfferAnswer.model_validate_json((folder / ANSWER).read_bytes())
    except (OSError, ValueError):
        lines = redact(process.stderr).strip().splitlines() or ["it printed nothing"]
        raise BackendError(
            f"{env}: the process that asks its registry ended with {process.returncode}: "
            f"{lines[-1]}"
        ) from None
    return without_error(answer, env)


def without_error(answer: OfferAnswer, env: str) -> OfferAnswer:
    """The answer, unless it tells of an error.

    Raises:
        LifecycleError: what the other process raised, with the environment's name before it.
    """
    if answer.error:
        kind: type[LifecycleError] = getattr(errors, answer.kind, BackendError)
        raise kind(f"{env}: {answer.error}")
    return answer


def answer_request(folder: Path) -> OfferAnswer:
    """Answer the request in a folder, in the environment of this process."""
    request = OfferRequest.model_validate_json((folder / REQUEST).read_bytes())
    try:
        settings = Settings.load()
        if request.note:
            note = request.note
            trail = Trail(settings, request.project_name, note.who)
            trail.record(note.action, note.model, note.reasons)
            return OfferAnswer()
        if request.overlap:
            return OfferAnswer(rows=count_learned(request.overlap, settings, folder))
        return OfferAnswer(offer=find_offer(request, settings, folder))
    except LifecycleError as error:
        return OfferAnswer(error=str(error), kind=type(error).__name__)


def find_offer(request: OfferRequest, settings: Settings, folder: Path) -> Offer:
    """The version that is asked for, verified, and copies of its bundle and its hook.

    Raises:
        BackendError: registry or trail cannot be reached.
        BundleError: the registered bundle is not what it was.
        GateError: a claim of its model card is false.
        RegistryError: there is no such version, or it was never champion.
    """
    name = request.project_name
    changes = history(settings, name)
    model = _requested(request, settings, {c.version for c in changes if c.action in CROWNING})
    client = connect(settings)
    with registered_bundle(client, model, settings) as bundle:
        shutil.copytree(bundle, folder / BUNDLE)
        schema = load_bundle(bundle, model.digest).schema
        if schema.hook:
            module = module_of(schema.hook)
            if copy := registered_hook(bundle, module, schema.hook_digest):
                target = folder / HOOK / module
                target.parent.mkdir(parents=True)
                shutil.copyfile(copy, target)
    trained = logged_record(model, settings).model_copy(update={"model": model})
    if problems := verify_card(model, settings):
        raise GateError(f"{model.uri} is not offered: {' '.join(claims_in_words(problems))}")
    exports = [change for change in changes if change.action == "export"]
    last = exports[-1] if exports else None
    return Offer(
        env=settings.env,
        trained=trained,
        curve=_curve(client, model, settings),
        registry=registry_id(settings),
        exported="".join(last.reasons[:1]) if last and last.digest == model.digest else "",
    )


def count_learned(question: Overlap, settings: Settings, folder: Path) -> int:
    """Count the rows of the folder that the train or the validation part has, too.

    Raises:
        BackendError: a part cannot be read, or is gone.
    """
    split = relocated(question.split, settings)
    rows = np.load(folder / ROWS, allow_pickle=False)
    learned = [row_hashes(part, question.columns) for part in (split.train, split.validation)]
    return int(np.isin(rows, np.concatenate(learned)).sum())


def row_hashes(part: DatasetVersion, columns: Sequence[str]) -> Hashes:
    """(n,): a hash of each row of a part, by these columns alone.

    Raises:
        BackendError: the part cannot be read, or lacks a column.
    """
    hashes = []
    for batch in open_version(part, columns):
        rows = np.zeros(batch.num_rows, np.uint64)
        for name in sorted(columns):
            rows = fold(rows, value_hashes(batch.column(name), as_integers=False))
        hashes.append(rows)
    return np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)


def registry_id(settings: Settings) -> str:
    """SHA-256 of the registry's address, which may hold a password."""
    return sha256(settings.tracking_uri)


def _requested(request: OfferRequest, settings: Settings, crowned: set[int]) -> ModelVersion:
    """The version that is asked for.

    Args:
        crowned: versions that were champion, by the trail.

    Raises:
        RegistryError: there is none, or it was never champion.
    """
    name = request.project_name
    if request.version is None:
        champion = by_alias(name, CHAMPION, settings)
        if champion is None:
            raise RegistryError(f"{name} has no champion there: release one first, or --version N")
        return champion
    registered = {model.version: model for model in versions(name, settings)}
    if request.version in registered and request.version in crowned:
        return registered[request.version]
    reason = "was never champion" if request.version in registered else "is not registered"
    names = ", ".join(f"v{version}" for version in sorted(crowned & set(registered))) or "none"
    raise RegistryError(
        f"--version: {name} v{request.version} {reason} there, so no gate there let it pass; "
        f"champions so far: {names}"
    )


def _curve(
    client: "MlflowClient", model: ModelVersion, settings: Settings
) -> dict[str, tuple[float, ...]]:
    """The learning curve as the run of the version has it."""
    curve = {}
    with backend_errors(settings):
        for part in ("train", "validation"):
            points = client.get_metric_history(model.run_id, f"curve/{part}")
            if points:
                values = {point.step: point.value for point in points}
                curve[part] = tuple(values[step] for step in sorted(values))
    return curve


def main() -> None:
    """Answer the request in the folder that the command line names."""
    folder = Path(sys.argv[1])
    (folder / ANSWER).write_text(answer_request(folder).model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
