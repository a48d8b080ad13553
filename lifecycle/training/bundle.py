"""The bundle: a model on disk as data only, each file under its SHA-256.

    <digest>/
    ├── model.ubj       XGBoost's UBJSON, cut to the rounds that early stopping kept;
    │                   or model.onnx, a graph that ONNX Runtime runs
    ├── schema.json     what the model takes and gives (`BundleSchema`)
    └── manifest.json   format, identity, rounds, SHA-256 of the two; its own SHA-256 is the digest

Equal models have equal bytes, so equal digests. Loading verifies first and executes no code.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from lifecycle.errors import BundleError
from lifecycle.features.encode import FeatureSchema, ViewUse, most_probable
from lifecycle.project import ColumnSpec, Scalar, TaskKind
from lifecycle.records import Bundle, Record
from lifecycle.training.calibration import Calibration
from lifecycle.training.trainers.protocol import Curve, Model, ModelKind

# Contents of a bundle: the model's inputs and outputs, and the files that belong to it.


class BundleSchema(Record):
    """Inputs and outputs of a model."""

    project: str
    model: ModelKind = "xgboost"
    """Which library runs it, and so which file holds it."""
    task: TaskKind
    target: str
    positive: Scalar | None
    """Binary: the target value whose probability is predicted."""
    threshold: float | None
    """Binary: the probability from which a row counts as positive."""
    labels: tuple[Scalar, ...] = ()
    """Binary with a `decision`: the target's value below the threshold, and that from it on."""
    classes: tuple[Scalar, ...] = ()
    """Multiclass: what the columns of the predicted probabilities are, in order."""
    inputs: dict[str, ColumnSpec]
    """Columns the model takes, in order, with what the contract promises of each."""
    features: FeatureSchema
    """Columns of the matrix the model sees."""
    hook: str | None
    """`module:function` that turns inputs into features; its code is not in the bundle."""
    hook_digest: str
    """SHA-256 of the hook at training; empty if there is none."""
    views: dict[str, ViewUse] = Field(default_factory=dict)
    """Feature views, whose columns among the inputs a request does not bring."""
    calibration: Calibration | None = None
    """Binary: what turns the model's own answers into calibrated probabilities."""

    def decided(self, predictions: NDArray[np.float64]) -> list[Scalar]:
        """The class of each row: multiclass the most probable one, binary with a `decision` what
        the threshold makes of the probability; empty for anything else.

        Args:
            predictions: (n,), multiclass (n, classes).
        """
        if self.classes:
            labels: list[Scalar] = most_probable(predictions, self.classes).tolist()
            return labels
        if not self.labels or self.threshold is None:
            return []
        negative, positive = self.labels
        chosen = (predictions >= self.threshold).tolist()
        return [positive if label else negative for label in chosen]

    @property
    def own_inputs(self) -> dict[str, ColumnSpec]:
        """The inputs that no view makes: those of a request, beside the entity."""
        columns = {name for use in self.views.values() for name in use.columns}
        return {name: spec for name, spec in self.inputs.items() if name not in columns}


class BundleManifest(Record):
    """Manifest of a bundle's files."""

    format: Literal[1] = 1
    identity: str
    """Digest of the identity the model was made from."""
    rounds: int = Field(ge=1)
    files: dict[str, str]
    """File name → SHA-256."""


MODEL, SCHEMA, MANIFEST = "model.ubj", "schema.json", "manifest.json"
MODELS: dict[ModelKind, str] = {"xgboost": MODEL, "onnx": "model.onnx"}


@dataclass(frozen=True)
class LoadedBundle:
    """A verified model in memory."""

    schema: BundleSchema
    model: Model
    manifest: BundleManifest
    digest: str

    def importances(self) -> dict[str, float]:
        """Share of the total gain a feature brought, over all features, largest first.

        They sum to 1; all zero for a model that cannot say.
        """
        pairs = zip(self.schema.features.names, self.model.importances().tolist(), strict=True)
        return dict(sorted(pairs, key=lambda item: -item[1]))


def write_bundle(
    model: Model,
    schema: BundleSchema,
    identity: str,
    folder: Path,
    curve: Curve | None = None,
) -> Bundle:
    """Write a model as `folder/<digest>`, in one rename; if it is there already, leave it.

    Args:
        identity: digest of the identity the model was made from.
        curve: its learning curve, which goes with the reference; it is no part of the model.

    Raises:
        BundleError: the folder cannot be written.
    """
    contents = {MODELS[model.kind]: model.save(), SCHEMA: _json(schema)}
    files = {name: _sha256(content) for name, content in contents.items()}
    contents[MANIFEST] = _json(BundleManifest(identity=identity, rounds=model.rounds, files=files))
    digest = _sha256(contents[MANIFEST])
    bundle = Bundle(path=folder / digest, digest=digest, rounds=model.rounds, curve=curve or {})
    try:
        _write_folder(contents, bundle)
    except OSError as error:
        raise BundleError(
            f"{bundle.path}: cannot write the bundle ({error.strerror}); "
            "check the folder's permissions and the free space, then run again"
        ) from None
    return bundle


def load_bundle(path: str | Path, digest: str | None = None) -> LoadedBundle:
    """Verify every file of a bundle, then load it; no code from it is executed.

    Args:
        digest: the digest the bundle must have; None takes the manifest's word for the files.

    Raises:
        BundleError: a file is missing, added or changed, or the bundle is another one; names it.
    """
    folder = Path(path)
    contents = _verified(folder, digest)
    try:
        manifest = BundleManifest.model_validate_json(contents[MANIFEST])
        schema = BundleSchema.model_validate_json(contents[SCHEMA])
    except ValidationError as error:
        raise BundleError(
            f"{folder / SCHEMA}: not a schema this version reads ({_problem(error)}); "
            "train the model again with the installed version"
        ) from None
    name = MODELS[schema.model]
    if name not in contents:
        raise BundleError(
            f"{folder / SCHEMA}: is of a model in {name}, which the bundle does not have: "
            "they are not of one model"
        )
    model = load_model(schema.model, contents[name], folder / name)
    if model.features != len(schema.features.names):
        raise BundleError(
            f"{folder}: {name} takes {model.features} features and {SCHEMA} names "
            f"{len(schema.features.names)}: they are not of one model"
        )
    return LoadedBundle(schema, model, manifest, _sha256(contents[MANIFEST]))


def _verified(folder: Path, digest: str | None) -> dict[str, bytes]:
    """Contents of every file of a bundle, read once, so what was verified is what is used."""
    raw = _read(folder / MANIFEST)
    if digest is not None and _sha256(raw) != digest:
        raise BundleError(
            f"{folder / MANIFEST}: this is not bundle {digest[:12]}… but {_sha256(raw)[:12]}…; "
            "do not serve it, fetch the bundle again from the registry"
        )
    try:
        files = BundleManifest.model_validate_json(raw).files
    except ValidationError as error:
        raise BundleError(
            f"{folder / MANIFEST}: not a manifest this version reads ({_problem(error)})"
        ) from None
    if set(files) not in [{name, SCHEMA} for name in MODELS.values()]:
        raise BundleError(
            f"{folder / MANIFEST}: names the files {', '.join(sorted(files)) or 'none'} "
            f"where a bundle has {' or '.join(MODELS.values())}, and {SCHEMA}"
        )
    extra = sorted({entry.name for entry in folder.iterdir()} - {*files, MANIFEST})
    if extra:
        raise BundleError(f"{folder / extra[0]}: this file does not belong to the bundle")
    contents = {name: _read(folder / name) for name in files}
    for name, content in contents.items():
        if _sha256(content) != files[name]:
            raise BundleError(
                f"{folder / name}: changed since the bundle was written (SHA-256 differs); "
                "do not serve it, fetch the bundle again from the registry"
            )
    return contents | {MANIFEST: raw}


def _write_folder(contents: dict[str, bytes], bundle: Bundle) -> None:
    folder = bundle.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    damaged = scratch.with_name(f"{scratch.name}-damaged")
    try:
        for name, content in contents.items():
            with (scratch / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        scratch.chmod(0o755)  # mkdtemp's 0700 would keep a serving user out
        if bundle.path.exists() and not _is_whole(bundle):
            bundle.path.rename(damaged)
        try:
            scratch.rename(bundle.path)
        except OSError:  # it is there already: an earlier run, or another process just now
            if not _is_whole(bundle):
                raise
        _sync_folder(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(damaged, ignore_errors=True)


def _is_whole(bundle: Bundle) -> bool:
    try:
        _verified(bundle.path, bundle.digest)
    except BundleError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{file}: cannot be read ({error.strerror}); a bundle has "
            f"a model, {SCHEMA} and {MANIFEST}: fetch it again from the registry"
        ) from None


def _json(record: Record) -> bytes:
    text = json.dumps(record.model_dump(mode="json"), sort_keys=False, indent=1, ensure_ascii=True)
    return text.encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'whole file'}: {first['msg']}"


def load_model(kind: ModelKind, content: bytes, file: Path) -> Model:
    """The model that `Model.save` gave these bytes for; imports only the library that runs it.

    Args:
        file: where they were read, for messages.

    Raises:
        BundleError: they are not a model of this kind.
    """
    try:
        if kind == "onnx":
            from lifecycle.training.trainers.onnx import OnnxModel

            return OnnxModel(content)
        from lifecycle.training.trainers.booster import load_booster

        return load_booster(content)
    except ValueError as error:
        raise BundleError(f"{file}: not a model that can be run: {error}") from None
