"""What libraries do not promise to keep, held against the installed versions.

After an upgrade this module fails first. Each test names where the private part is used; look
whether the library has a public way by now.
"""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
import ray

from lifecycle.errors import RayError, TrainingError
from lifecycle.runtime import ray_internals
from lifecycle.runtime.identity import PACKAGE
from lifecycle.training.trainers import scikit

ROOT = PACKAGE.parent
FOLDERS = ("lifecycle", "tasks", "flows")
PRIVATE_NAME = re.compile(r"(^|\.)_(?!_)")
VARIABLE = re.compile(r'"((?:RAY|MLFLOW)_[A-Z_]+)"')
PRIVATE = {
    "lifecycle/lake/manifest.py": {"_handler"},
    "lifecycle/release/mlflow_store.py": {"_initialize_tables"},
    "lifecycle/runtime/process.py": {"_run_exitfuncs", "_shutdown"},
    "lifecycle/runtime/ray_internals.py": {
        "_get_global_client",
        "_internal",
        "ray._private.ray_constants",
        "ray._private.services",
        "ray._private.state",
        "ray.serve._private.replica",
        "ray.train.v2._internal.callbacks.datasets",
        "ray.train.v2._internal.callbacks.placement_group_callback",
    },
    "lifecycle/training/trainers/scikit.py": {"_validate_params"},
}
"""Private parts of libraries that the code uses and does not override; each is tested below."""
DOCUMENTED = {"_env_file", "_exit", "_fields", "_replace", "_temp_dir"}


def _names_defined(tree: ast.AST) -> Iterator[str]:
    """Names and attributes that a module gives a value."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def _private_names(tree: ast.AST) -> Iterator[str]:
    """Modules, imported names, attributes and keywords with a leading underscore."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.ImportFrom(module=str(module), names=names):
                yield from (module, *(alias.name for alias in names))
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case (
                ast.Call(
                    func=ast.Name(id="import_module"), args=[ast.Constant(value=str(name)), *_]
                )
                | ast.Call(
                    func=ast.Name(id="getattr" | "hasattr" | "setattr"),
                    args=[_, ast.Constant(value=str(name)), *_],
                )
            ):
                yield name


def test_every_private_part_of_a_library_is_listed_and_used_in_one_place() -> None:
    files = [path for name in FOLDERS for path in (ROOT / name).rglob("*.py")]
    trees = {f"{path.relative_to(ROOT)}": ast.parse(path.read_text()) for path in files}
    own = {name for tree in trees.values() for name in _names_defined(tree)} | DOCUMENTED
    used = {}
    for place, tree in trees.items():
        names = {name for name in _private_names(tree) if PRIVATE_NAME.search(name)}
        used[place] = names - own
    assert {place: names for place, names in used.items() if names} == PRIVATE


def test_ray_and_mlflow_read_every_variable_that_is_set_for_them() -> None:
    """runtime/cluster.py, runtime/process.py, ingress/launcher.py, release/mlflow_store.py

    Most of Ray's are documented nowhere, and a renamed one would be ignored without a word.
    """
    files = [path for name in FOLDERS for path in (ROOT / name).rglob("*.py")]
    variables = {name for path in files for name in VARIABLE.findall(path.read_text())}
    assert len(variables) > 30, "the search finds none"
    for package in (ray, mlflow):
        for path in Path(str(package.__file__)).parent.rglob("*.py"):
            variables -= set(re.findall(r"\w+", path.read_text(errors="replace")))
    assert not variables


@pytest.mark.parametrize("enabled", [True, False])
def test_ray_reads_whether_it_may_be_a_cluster_from_its_constant(
    enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """runtime/cluster.py, cli/keys.py"""
    from ray._private import ray_constants, services

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", not enabled)
    ray_internals.use_cluster_mode(enabled)
    address = services.resolve_ip_for_localhost("127.0.0.1")
    assert (address != "127.0.0.1") is enabled or address == services.get_node_ip_address()


def test_a_worker_calls_the_function_that_the_variable_names() -> None:
    """runtime/logs.py"""
    from ray._private import ray_constants
    from ray._private.runtime_env.setup_hook import upload_worker_process_setup_hook_if_needed

    name = ray_internals.SETUP_HOOK
    assert name == ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR
    environment = {"env_vars": {name: "a.begin"}, "worker_process_setup_hook": "a.begin"}
    made = upload_worker_process_setup_hook_if_needed(environment, None)  # type: ignore[no-untyped-call,arg-type,unused-ignore]  # Ray's
    assert made["env_vars"] == {name: "a.begin"}, "the variable may be there already"


def test_ray_start_takes_the_loopback_address_for_this_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """cli/keys.py"""
    from ray._private import ray_constants, services
    from ray.scripts import scripts

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    monkeypatch.setattr(services, "get_node_ip_address", services.get_node_ip_address)
    assert ray_internals.start_node_on_loopback() is scripts.main
    assert ray_constants.ENABLE_RAY_CLUSTER
    assert services.get_node_ip_address("8.8.8.8:53") == "127.0.0.1"
    assert scripts.services is services, "`ray start` looks it up there"


def test_serve_opens_its_grpc_server_by_the_name_that_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """serving/replicas.py"""
    from ray.serve._private import replica

    opened: list[str] = []
    monkeypatch.setattr(
        replica, "add_port_to_grpc_server", lambda _, address: opened.append(address)
    )
    ray_internals.serve_grpc_on_loopback()
    ray_internals.serve_grpc_on_loopback()  # a second replica of one process
    replica.add_port_to_grpc_server(None, "[::]:0")
    assert opened == ["127.0.0.1:0"]
    source = Path(replica.__file__).read_text()
    assert "add_port_to_grpc_server(" in source
    assert '"[::]:' in source


@pytest.mark.usefixtures("ray_cluster")
def test_the_free_cpus_of_each_node() -> None:
    """training/fit.py"""
    import ray

    assert len(ray_internals.free_cpus()) == len(ray.nodes())
    assert sum(ray_internals.free_cpus()) <= ray.cluster_resources()["CPU"]


def test_serve_knows_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """serving/proxy.py"""
    from ray.serve import context
    from ray.serve.config import HTTPOptions

    client = SimpleNamespace(http_config=HTTPOptions(port=8123))
    monkeypatch.setattr(context, "_get_global_client", lambda: client)
    assert ray_internals.serve_port() == 8123


def test_a_deployment_keeps_the_version_it_is_given() -> None:
    """serving/deployment.py"""
    from ray import serve

    class Model:
        pass

    versioned = ray_internals.with_version(serve.deployment(Model), "v1")
    assert versioned.version == "v1"

    class Ignoring:
        version = None

        def options(self, **_: object) -> "Ignoring":
            return self

    with pytest.raises(RayError, match="ignores a deployment's version"):
        ray_internals.with_version(Ignoring(), "v1")


def test_train_starts_without_the_two_actors_and_without_a_handler() -> None:
    """training/distributed.py"""
    from ray.train import ScalingConfig

    trainer = ray_internals.lean_trainer()(lambda: None, scaling_config=ScalingConfig())
    base = type(trainer).__mro__[1]
    unused = {"DatasetsCallback", "PlacementGroupCleanerCallback"}

    def names(callbacks: list[Any]) -> set[str]:
        return {type(callback).__name__ for callback in callbacks}

    every = names(base._create_default_callbacks(trainer))
    assert unused <= every
    assert names(trainer._create_default_callbacks()) == every - unused
    controller = object()
    trainer._register_sigint_handler(controller)
    assert trainer.controller is controller


def test_what_is_gone_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve._private import replica

    monkeypatch.delattr(replica, "add_port_to_grpc_server")
    with pytest.raises(RayError, match=r"no ray\.serve\._private\.replica\.add_port"):
        ray_internals.serve_grpc_on_loopback()


def test_deltalake_writes_through_the_handler_of_its_handler(tmp_path: Path) -> None:
    """lake/manifest.py"""
    from deltalake.fs import DeltaStorageHandler

    stream = DeltaStorageHandler(str(tmp_path))._handler.open_output_stream("file")
    stream.write(b"content")
    stream.close()
    assert (tmp_path / "file").read_bytes() == b"content"


def test_mlflow_makes_its_tables() -> None:
    """release/mlflow_store.py: the public way starts a server, or races with other processes."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine_with_retry

    engine: Any = create_sqlalchemy_engine_with_retry("sqlite://")  # type: ignore[no-untyped-call]
    _initialize_tables(engine)  # type: ignore[no-untyped-call]
    tables = sqlalchemy.inspect(engine).get_table_names()
    assert {"runs", "registered_models", "alembic_version"} <= set(tables)
    engine.dispose()


def test_mlflow_describes_a_dataset_by_its_source_alone() -> None:
    """release/mlflow_run.py"""
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    described = MetaDataset(DeltaDatasetSource(path="lake/table"), "training", "0123")  # type: ignore[abstract]
    kept = {"name": "training", "digest": "0123", "source_type": "delta_table"}
    assert described.to_dict() == kept | {"source": described.source.to_json()}


def test_treelite_has_the_function_that_is_called() -> None:
    """serving/predictor.py; that it answers alike is tested with the predictor"""
    import ctypes

    from treelite.core import _LIB
    from treelite.gtil.gtil import GTILConfig
    from treelite.libpath import find_lib_path

    library = find_lib_path()[0]
    assert library.samefile(_LIB._name), "the library that treelite itself has loaded"
    assert ctypes.PyDLL(str(library)).TreeliteGTILPredict
    assert GTILConfig(predict_type="default", nthread=1).handle


def test_sklearn_checks_parameters_without_fitting(monkeypatch: pytest.MonkeyPatch) -> None:
    """training/trainers/scikit.py"""
    from sklearn.base import BaseEstimator
    from sklearn.linear_model import LogisticRegression

    assert "'C' parameter" in scikit._refusal(LogisticRegression(C=-1.0))
    assert not scikit._refusal(LogisticRegression())
    monkeypatch.delattr(BaseEstimator, "_validate_params")
    with pytest.raises(TrainingError, match=r"scikit-learn does not use .*_validate_params"):
        scikit._refusal(LogisticRegression())


def test_skl2onnx_makes_the_nodes_of_trees_by_the_name_that_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """training/trainers/scikit.py"""
    from skl2onnx.common import tree_ensemble
    from sklearn.pipeline import make_pipeline
    from sklearn.tree import DecisionTreeRegressor

    rows = np.arange(8.0).reshape(4, 2)
    fitted = make_pipeline(DecisionTreeRegressor()).fit(rows, rows[:, 0])
    assert scikit.to_graph(fitted, 2, classifier=False)
    add_nodes = tree_ensemble.add_tree_to_attribute_pairs.__globals__
    monkeypatch.setattr(scikit, "tree_ensemble", SimpleNamespace(add_node=add_nodes["add_node"]))
    with pytest.raises(TrainingError, match=r"skl2onnx does not use .*add_node"):
        scikit.to_graph(fitted, 2, classifier=False)


def test_prefect_sends_what_waits_when_it_is_told_to() -> None:
    """flows/server.py; cause: https://github.com/PrefectHQ/prefect/issues/14845"""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        assert "timeout" in inspect.signature(worker.drain_all).parameters


def test_prefect_makes_its_server_without_arguments() -> None:
    """flows/server.py, flows/warm_server.py"""
    from prefect.server.api.server import create_app

    parameters = inspect.signature(create_app).parameters.values()
    assert all(parameter.default is not parameter.empty for parameter in parameters)


def test_a_process_ends_as_the_interpreter_does() -> None:
    """runtime/process.py: threads are waited for, exit handlers run, streams are flushed."""
    code = (
        "import atexit, threading, time\n"
        "from lifecycle.runtime.process import end_process\n"
        "atexit.register(print, 'handler')\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()\n"
        "end_process(7)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (7, ["thread", "handler"], "")
