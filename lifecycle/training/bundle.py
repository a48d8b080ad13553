"""The bundle: a model on disk as data only, each file under its SHA-256.

    <digest>/
    ├── model.ubj       XGBoost's UBJSON, cut to the rounds that early stopping kept
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
from typing import Any, Literal

import xgboost
from pydantic import Field, ValidationError

from lifecycle.data.features import FeatureSchema
from lifecycle.errors import BundleError
from lifecycle.records import Bundle, Record
from lifecycle.specs import ColumnSpec, Scalar, TaskKind

MODEL, SCHEMA, MANIFEST = "model.ubj", "schema.json", "manifest.json"
UBJSON = b"{L"
"""How an object with a 64-bit key length begins; XGBoost writes no other."""


class BundleSchema(Record):
    """What a model takes and what it gives."""

    project: str
    task: TaskKind
    target: str
    positive: Scalar | None
    """Binary: the target value whose probability is predicted."""
    threshold: float | None
    """Binary: the probability from which a row counts as positive."""
    inputs: dict[str, ColumnSpec]
    """Columns of a request, in order, with what the contract promises of each."""
    features: FeatureSchema
    """Columns of the matrix the booster sees."""
    hook: str | None
    """`module:function` that turns inputs into features; its code is not in the bundle."""
    hook_digest: str
    """SHA-256 of the hook at training; empty if there is none."""


class Manifest(Record):
    """What belongs to a bundle."""

    format: Literal[1] = 1
    identity: str
    """Digest of the identity the model was made from."""
    rounds: int = Field(ge=1)
    files: dict[str, str]
    """File name → SHA-256."""


@dataclass(frozen=True)
class LoadedBundle:
    """A verified model in memory."""

    schema: BundleSchema
    booster: xgboost.Booster
    manifest: Manifest
    digest: str

    def importances(self) -> dict[str, float]:
        """Share of the total gain a feature brought, over all features, largest first; sums to 1.

        Gain as XGBoost defines it: the loss reduction of a feature's splits (Chen and Guestrin,
        2016). All zero for a model without a split.
        """
        names = self.schema.features.names
        gains: dict[str, Any] = self.booster.get_score(importance_type="total_gain")
        total = sum(gains.values()) or 1.0
        shares = {name: gains.get(f"f{at}", 0.0) / total for at, name in enumerate(names)}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))


def write_bundle(
    booster: xgboost.Booster, schema: BundleSchema, identity: str, folder: Path
) -> Bundle:
    """Write a model as `folder/<digest>`, in one rename; if it is there already, leave it.

    Args:
        identity: digest of the identity the model was made from.

    Raises:
        BundleError: the folder cannot be written.
    """
    rounds = booster.num_boosted_rounds()
    contents = {MODEL: bytes(booster.save_raw("ubj")), SCHEMA: _json(schema)}
    files = {name: _sha256(content) for name, content in contents.items()}
    contents[MANIFEST] = _json(Manifest(identity=identity, rounds=rounds, files=files))
    digest = _sha256(contents[MANIFEST])
    bundle = Bundle(path=folder / digest, digest=digest, rounds=rounds)
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
        manifest = Manifest.model_validate_json(contents[MANIFEST])
        schema = BundleSchema.model_validate_json(contents[SCHEMA])
    except ValidationError as error:
        raise BundleError(
            f"{folder / SCHEMA}: not a schema this version reads ({_problem(error)}); "
            "train the model again with the installed version"
        ) from None
    booster = _booster(contents[MODEL], folder / MODEL)
    columns = booster.num_features()
    if columns != len(schema.features.names):
        raise BundleError(
            f"{folder}: {MODEL} takes {columns} features and {SCHEMA} names "
            f"{len(schema.features.names)}: they are not of one model"
        )
    return LoadedBundle(schema, booster, manifest, _sha256(contents[MANIFEST]))


def _booster(content: bytes, file: Path) -> xgboost.Booster:
    booster = xgboost.Booster()
    try:
        if not content.startswith(UBJSON):  # XGBoost ends the whole process on an empty buffer
            raise xgboost.core.XGBoostError("not UBJSON")
        booster.load_model(bytearray(content))
    except xgboost.core.XGBoostError:
        raise BundleError(f"{file}: not a model that XGBoost {xgboost.__version__} reads") from None
    return booster


def _verified(folder: Path, digest: str | None) -> dict[str, bytes]:
    """Contents of every file of a bundle, read once, so what was verified is what is used."""
    raw = _read(folder / MANIFEST)
    if digest is not None and _sha256(raw) != digest:
        raise BundleError(
            f"{folder / MANIFEST}: this is not bundle {digest[:12]}… but {_sha256(raw)[:12]}…; "
            "do not serve it, fetch the bundle again from the registry"
        )
    try:
        files = Manifest.model_validate_json(raw).files
    except ValidationError as error:
        raise BundleError(
            f"{folder / MANIFEST}: not a manifest this version reads ({_problem(error)})"
        ) from None
    if set(files) != {MODEL, SCHEMA}:
        raise BundleError(
            f"{folder / MANIFEST}: names the files {', '.join(sorted(files)) or 'none'} "
            f"where a bundle has {MODEL} and {SCHEMA}"
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
    aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    damaged = Path(tempfile.mkdtemp(prefix=".damaged-", dir=folder))
    try:
        for name, content in contents.items():
            with (aside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        aside.chmod(0o755)  # mkdtemp's 0700 would keep a serving user out
        if bundle.path.exists() and not _is_whole(bundle):
            bundle.path.rename(damaged / "bundle")
        try:
            aside.rename(bundle.path)
        except OSError:  # it is there already: an earlier run, or another process just now
            if not _is_whole(bundle):
                raise
        _sync_folder(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
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
            f"{MODEL}, {SCHEMA} and {MANIFEST}: fetch it again from the registry"
        ) from None


def _json(record: Record) -> bytes:
    text = json.dumps(record.model_dump(mode="json"), sort_keys=False, indent=1, ensure_ascii=True)
    return text.encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'whole file'}: {first['msg']}"
