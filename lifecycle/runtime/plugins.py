"""The user's own code: `module:name`, from a file beside the project file or an installed module.

A features hook, a view's function, a metric or a trainer. It is read from where it stands and never
copied into a bundle; its digest is part of a model's identity. To another process it goes with the
project, by content, so that nodes of a cluster need no folder in common.
"""

import hashlib
import importlib.util
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from lifecycle.errors import FeatureError
from lifecycle.project import Project
from lifecycle.project.project import plug_path
from lifecycle.runtime.files import write_atomic
from lifecycle.runtime.identity import file_digest, sha256
from lifecycle.runtime.nodes import machine_folder


def load_plug(project: Project, reference: str, key: str) -> Any:
    """Import the object that `module:name` names.

    The module is the file beside the project file if there is one, else it is imported.

    Args:
        key: the project's key that names it, for messages.

    Raises:
        FeatureError: there is no such module or name, or the module fails.
    """
    file, name = plug_file(project, reference, key)
    # a name of its own: two projects may both call their file features.py
    spec = importlib.util.spec_from_file_location(f"lifecycle_plug_{file_digest(file)[:16]}", file)
    if spec is None or spec.loader is None:
        raise FeatureError(f"{key}: {file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        if isinstance(spec.loader, SourceFileLoader):
            # bytecode on disk may be of an older file with the same size and second of change
            code = spec.loader.source_to_code(file.read_bytes(), str(file))
            exec(code, module.__dict__)  # noqa: S102 - as importing it would
        else:
            spec.loader.exec_module(module)
    except Exception as error:
        raise FeatureError(f"{key}: {where(error, file)}") from None
    plugin = getattr(module, name, None)
    if not callable(plugin):
        raise FeatureError(f"{key}: {file} has no function {name!r}")
    return plugin


def plug_file(project: Project, reference: str, key: str) -> tuple[Path, str]:
    """The file of `module:name`, and the name in it.

    On another machine than the flow's it is what came with the project, kept by its digest.

    Raises:
        FeatureError: there is no such module.
        SettingsError: the machine's own folder cannot be made.
    """
    module, _, name = reference.partition(":")
    path = plug_path(reference)
    file, content = project.folder / path, project.carried_plugs.get(path)
    if content is not None and (not file.is_file() or file.read_bytes() != content):
        file = machine_folder("plugs", hashlib.sha256(content).hexdigest()) / Path(path).name
        if not file.is_file():
            write_atomic(file, content)
    if file.is_file():
        return file, name
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise FeatureError(
            f"{key}: {reference}: there is neither {file} nor an installed module {module!r}"
        )
    return Path(spec.origin), name


def plugs_digest(project: Project) -> str:
    """SHA-256 over the files of everything the project plugs in; empty if it plugs in nothing.

    Raises:
        FeatureError: one of the modules is not there.
    """
    files = {
        key: file_digest(plug_file(project, reference, key)[0])
        for key, reference in project.plugs.items()
    }
    return sha256(files) if files else ""


def where(error: Exception, file: Path) -> str:
    """An error of the user's code as one line that names file and line."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    place = f"{file}:{lines[-1]}" if lines else str(file)
    return f"{place}: {type(error).__name__}: {error}"
