"""The features hook as it was when a version was trained: kept, so that it can serve again.

A hook is the user's file and changes; the registry has the copy that each version was registered
with. Serving a version from a copy under the hook's digest means that a champion goes on (and comes
back in a rollback) whatever has become of the file since.
"""

import shutil
import tempfile
from pathlib import Path

from lifecycle.data.features import hook_digest
from lifecycle.errors import BundleError, FeatureError
from lifecycle.identity import file_digest
from lifecycle.plugs import plug_file
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.release.registry import bundle_path, verify_registered
from lifecycle.release.store import connect
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle
from lifecycle.training.pyfunc import CODE


def as_trained(project: Project, model: ModelVersion, settings: Settings) -> Project:
    """The project with the features hook of this version, read from a copy of our own.

    Raises:
        BackendError: the registry cannot be reached.
        BundleError: the version's bundle was changed, or its hook is nowhere any more.
    """
    schema = load_bundle(bundle_path(model, settings), model.digest).schema
    views = {n: view for n, view in project.feature_views.items() if n in schema.views}
    changed = project.model_copy(update={"features": schema.hook, "feature_views": views})
    if schema.hook is None:
        return changed
    folder = settings.folder("hooks", project.name) / schema.hook_digest
    module = Path(*schema.hook.partition(":")[0].split(".")).with_suffix(".py")
    if not _is(folder / module, schema.hook_digest):
        _keep(_found(changed, model, settings, module, schema.hook_digest), folder, module)
    changed._file = folder / project.file.name
    return changed


def _found(
    project: Project, model: ModelVersion, settings: Settings, module: Path, digest: str
) -> Path:
    """The hook's file where it stands now if it is still that one, else the registry's copy."""
    try:
        if hook_digest(project) == digest:
            return plug_file(project, project.features or "", "features")[0]
    except FeatureError:
        pass  # the file is gone
    bundle = verify_registered(connect(settings), model, settings)
    for folder in bundle.parents:
        if _is(folder / CODE / module, digest):
            return folder / CODE / module
    raise BundleError(
        f"{model.uri}: its features hook {project.features} has changed since training, and the "
        f"registry has no copy; put {module} back as it was, or train again"
    )


def _keep(file: Path, folder: Path, module: Path) -> None:
    """Copy aside, then one rename: whoever reads finds a whole file."""
    target = folder / module
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        copy = Path(shutil.copyfile(file, Path(aside) / module.name))
        copy.replace(target)


def _is(file: Path, digest: str) -> bool:
    return file.is_file() and file_digest(file) == digest
