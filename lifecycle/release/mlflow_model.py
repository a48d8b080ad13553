"""The model as MLflow has it: a bundle that any of MLflow's ways to deploy can load.

It has two flavors. `python_function` takes a contract's columns, verifies the bundle and answers as
the endpoint does; the library's own (`xgboost` or `onnx`) takes the encoded matrix. Its environment
can be made anywhere: what it needs of this package is a wheel in its `code` folder.
"""

import ast
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lifecycle.lake.read import read_head
from lifecycle.project import ColumnType, Project
from lifecycle.project.project import plug_path
from lifecycle.records import Bundle, Split
from lifecycle.release.model_wheel import ANSWERING, DISTRIBUTION, installed_version, write_wheel
from lifecycle.runtime.plugins import plug_file
from lifecycle.training.bundle import MODELS
from lifecycle.training.pyfunc import CODE
from lifecycle.training.trainers.protocol import ModelKind

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model, ModelSignature
    from mlflow.types import DataType, Schema
    from mlflow.types.schema import AnyType

LOADER = "lifecycle.training.pyfunc"
NAME = "model"
LIBRARIES: dict[ModelKind, tuple[str, ...]] = {
    "xgboost": ("xgboost",),
    "onnx": ("onnx", "onnxruntime"),
}
"""Kind of a model → distributions that run it."""
EXAMPLE_ROWS = 3


def create_model(
    client: "MlflowClient", run_id: str, parameters: Mapping[str, object], tags: Mapping[str, str]
) -> str:
    """Make the model of a run, which has no files before `log_model`; its id.

    Args:
        parameters: those of the trainer; the run has the others.
    """
    run = client.get_run(run_id)
    chosen = {name: str(value) for name, value in parameters.items()}
    # Model.log is what mlflow.pyfunc.log_model calls; that one needs a run of the fluent API, which
    # would end too early for us, and without one both take the default experiment and ./mlruns
    entry = client.create_logged_model(
        run.info.experiment_id,
        name=NAME,
        source_run_id=run_id,
        params=run.data.params | chosen,
        tags={**tags},
    )
    return str(entry.model_id)


def log_model(
    client: "MlflowClient",
    run_id: str,
    model_id: str,
    project: Project,
    bundle: Bundle,
    split: Split,
) -> str:
    """Log the bundle as a model that needs neither a pickle nor this machine; its URI.

    Before the run's metrics: `Model.log` would ask for the history of each, one by one, and log it
    again for the model.
    """
    from mlflow.models import Model

    columns = list(project.input_columns)
    kind = next(kind for kind, name in MODELS.items() if (bundle.path / name).is_file())
    with TemporaryDirectory() as folder:
        write_wheel(Path(folder))
        hook = _copy_hook(project, Path(folder))
        logged = Model.log(
            artifact_path=None,
            flavor=_Flavors(kind, f"data/{bundle.digest}/{MODELS[kind]}"),
            run_id=run_id,
            name=NAME,
            model_id=model_id,
            loader_module=LOADER,
            data_path=str(bundle.path),
            code_paths=[str(path) for path in sorted(Path(folder).iterdir())],
            signature=_signature(project),
            input_example=as_signed(read_head(split.holdout, EXAMPLE_ROWS, columns)),
            pip_requirements=_requirements(kind, hook),
        )
    return str(logged.model_uri)


@dataclass(frozen=True)
class _Flavors:
    """What `Model.log` asks for a model's files: those of pyfunc, and one flavor more.

    Attributes:
        data: the model's file in the MLflow model's folder.
    """

    kind: ModelKind
    data: str

    def save_model(self, path: str, mlflow_model: "Model", **arguments: Any) -> None:
        """Save as pyfunc, and declare what the library's own loader reads."""
        import mlflow.pyfunc

        library = installed_version(LIBRARIES[self.kind][0])
        if self.kind == "xgboost":
            mlflow_model.add_flavor(
                "xgboost",
                xgb_version=library,
                data=self.data,
                model_class="xgboost.core.Booster",
                model_format="ubj",
                code=None,
            )
        else:
            mlflow_model.add_flavor(
                "onnx",
                onnx_version=library,
                data=self.data,
                providers=["CPUExecutionProvider"],
                onnx_session_options=None,
                code=None,
            )
        mlflow.pyfunc.save_model(path, mlflow_model=mlflow_model, **arguments)


def _requirements(kind: ModelKind, hook: Path | None) -> list[str]:
    """Lines of `requirements.txt`: versions that are installed here, of what answering needs.

    Installed where this package is, it is satisfied; elsewhere by the wheel in the `code` folder.
    """
    names = [DISTRIBUTION, *LIBRARIES[kind], *ANSWERING]
    if hook:
        names += [name for name in _distributions(hook) if name not in names]
    return [f"--find-links {CODE}", *(f"{name}=={installed_version(name)}" for name in names)]


def _distributions(file: Path) -> list[str]:
    """Distributions whose modules a file imports, wherever in it; those of its folder have none."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
    installed = packages_distributions()
    tops = {module.partition(".")[0] for module in modules}
    return sorted({name for top in tops for name in installed.get(top, ())})


def _copy_hook(project: Project, folder: Path) -> Path | None:
    """Copy the features hook that stands beside the project file, under its module's path.

    The loader checks its digest before any of it runs; a hook of an installed module stays there.

    Returns:
        The hook's file, wherever it is; None if the project has no hook.
    """
    if project.features is None:
        return None
    hook, _ = plug_file(project, project.features, "features")
    path = plug_path(project.features)
    if hook != project.folder / path:
        return hook
    copy = folder / path
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(hook, copy)
    return hook


def as_signed(frame: pd.DataFrame) -> pd.DataFrame:
    """Nullable whole numbers as doubles, as `_signature` has them; MLflow does not convert them."""
    names = [name for name, dtype in frame.dtypes.items() if str(dtype) == "Int64"]
    return frame.astype(dict.fromkeys(names, "float64"))


def _signature(project: Project) -> "ModelSignature":
    """Columns a model takes, with the contract's types and which of them may be missing; and what
    it gives: a number a row, or for multiclass the probability of each class, (n, k).

    MLflow converts to these types before predicting; its whole numbers and booleans cannot be
    missing, so a nullable whole number is a double there, and a nullable boolean is left alone.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, TensorSpec

    missing_apart: dict[ColumnType, DataType | AnyType] = {
        "integer": DataType.double,
        "boolean": AnyType(),  # type: ignore[no-untyped-call]  # mlflow gives it no types
    }
    kinds = _kinds()
    columns: list[ColSpec | TensorSpec] = []
    for name in project.input_columns:
        spec = project.columns[name]
        stored = spec.value_type
        kind = missing_apart.get(stored, kinds[stored]) if spec.nullable else kinds[stored]
        columns.append(ColSpec(kind, name, required=not spec.nullable))
    answers: ColSpec | TensorSpec = ColSpec(DataType.double)
    if project.classes:
        answers = TensorSpec(np.dtype(np.float64), (-1, len(project.classes)), "probabilities")
    return ModelSignature(Schema(columns), Schema([answers]))


def table_schema(project: Project) -> "Schema":
    """Columns of the project's tables, as MLflow's pages show a dataset's."""
    from mlflow.types import ColSpec, Schema

    kinds = _kinds()
    return Schema(
        [
            ColSpec(kinds[spec.value_type], name, required=not spec.nullable)
            for name, spec in project.columns.items()
        ]
    )


def _kinds() -> "dict[ColumnType, DataType | AnyType]":
    from mlflow.types import DataType

    return {
        "integer": DataType.long,
        "number": DataType.double,
        "boolean": DataType.boolean,
        "string": DataType.string,
        "datetime": DataType.datetime,
    }
