"""A bundle on the node that needs it: where the flow keeps it, or fetched from the registry.

Nodes of a cluster need not share a folder. The first process of a node that needs a bundle fetches
it into the node's own folder; all others find it there, and whoever opens it verifies it.
"""

import pickle
import subprocess
import sys
from pathlib import Path

from lifecycle.errors import BackendError, LifecycleError
from lifecycle.records import ModelVersion
from lifecycle.settings import Settings

FETCHER = "lifecycle.release.artifacts"
"""Run as a program: it imports MLflow, which a replica does without."""
FETCH_S = 300.0
"""Seconds that fetching may take."""
MAX_CHARACTERS = 500
"""End of what a fetcher says when it fails without an error of ours."""


def local_bundle(bundle: Path, model: ModelVersion, settings: Settings) -> Path:
    """The folder of a version's bundle on this machine.

    Args:
        bundle: where the flow's machine has it.
        settings: those of this machine, `nodes.on_this_machine`.

    Raises:
        BackendError: the registry cannot be reached, or is slow.
        BundleError: the registered bundle is incomplete or was changed.
    """
    if bundle.is_dir():
        return bundle
    path = settings.folder("bundles", model.name) / model.digest
    if not path.is_dir():
        _fetch(model, settings)
    return path


def _fetch(model: ModelVersion, settings: Settings) -> None:
    command = [sys.executable, "-m", FETCHER]
    request = pickle.dumps((model, settings))
    try:
        program = subprocess.run(  # noqa: S603 - this interpreter and a constant
            command, input=request, capture_output=True, timeout=FETCH_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise BackendError(
            f"{model.uri}: the registry did not hand out its files within {FETCH_S:.0f} s"
        ) from None
    if program.returncode == 0:
        return
    try:
        error = pickle.loads(program.stdout)  # noqa: S301 - our own program wrote it
    except (pickle.UnpicklingError, EOFError):
        error = None
    if isinstance(error, LifecycleError):
        raise error
    last = program.stderr.decode(errors="replace").strip()[-MAX_CHARACTERS:]
    raise BackendError(f"{model.uri}: its files could not be fetched: {last}")
