"""The features hook as it was when a version was trained: kept, so that it can serve again.

A hook is the user's file and changes; the registry has the copy that each version was registered
with. Serving a version from a copy under the hook's digest means that a champion goes on (and comes
back in a rollback) whatever has become of the file since.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lifecycle.errors import BundleError, FeatureError
from lifecycle.features.encode import hook_digest
from lifecycle.project import Project
from lifecycle.project.project import plug_path
from lifecycle.records import ModelVersion
from lifecycle.release.artifacts import bundle_path, registered_bundle
from lifecycle.release.mlflow_store import connect
from lifecycle.runtime.files import write_atomic
from lifecycle.runtime.identity import file_digest
from lifecycle.runtime.plugins import plug_file
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
    module = module_of(schema.hook)
    if not _is(folder / module, schema.hook_digest):
        with _hook_file(changed, model, settings, module, schema.hook_digest) as file:
            _keep(file, folder, module)
    return changed.at(folder / project.file.name)


def module_of(hook: str) -> Path:
    """The file of a hook, relative to the folder of its project: `a.b:make` is in `a/b.py`."""
    return Path(plug_path(hook))


def registered_hook(bundle: Path, module: Path, digest: str) -> Path | None:
    """The copy of a hook that the registry keeps next to a bundle; None if there is none like it.

    Args:
        bundle: as `registered_bundle` gives it.
        module: `module_of` the hook.
        digest: SHA-256 of the file at training.
    """
    copies = (folder / CODE / module for folder in bundle.parents)
    return next((file for file in copies if _is(file, digest)), None)


def keep_hook(file: Path, project_name: str, hook: str, digest: str, settings: Settings) -> None:
    """Keep the hook of a version of another environment, for `as_trained` to find.

    Raises:
        BundleError: it is not the file that the version was trained with.
    """
    if not _is(file, digest):
        raise BundleError(f"{hook}: the hook's file is not what it was at training")
    _keep(file, settings.folder("hooks", project_name) / digest, module_of(hook))


@contextmanager
def _hook_file(
    project: Project, model: ModelVersion, settings: Settings, module: Path, digest: str
) -> Iterator[Path]:
    """The hook's file where it stands now if it is still that one, else the registry's copy."""
    try:
        unchanged = hook_digest(project) == digest
        here = plug_file(project, project.features or "", "features")[0] if unchanged else None
    except FeatureError:
        here = None  # the file is gone
    if here is not None:
        yield here
        return
    with registered_bundle(connect(settings), model, settings) as bundle:
        copy = registered_hook(bundle, module, digest)
        if copy is None:
            raise BundleError(
                f"{model.uri}: its features hook {project.features} has changed since training, "
                f"and the registry has no copy; put {module} back as it was, or train again"
            )
        yield copy


def _keep(file: Path, folder: Path, module: Path) -> None:
    """Copy in one step: a reader finds the complete file."""
    target = folder / module
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, file.read_bytes())


def _is(file: Path, digest: str) -> bool:
    return file.is_file() and file_digest(file) == digest
