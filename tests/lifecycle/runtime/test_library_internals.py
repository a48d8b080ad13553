"""What libraries do not promise to keep, held against the installed versions.

After an upgrade this module fails first. Each test names where the private part is used; look
whether the library has a public way by now.
"""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle.errors import RayError
from lifecycle.runtime import ray_internals
from lifecycle.runtime.identity import PACKAGE

RAY_ONLY = "runtime/ray_internals.py"
ROOT = PACKAGE.parent


def test_ray_is_touched_in_one_module_only() -> None:
    marks = ("ray._private", "serve._private", "v2._internal", "_get_global_client", "_internal=")
    places = {
        f"{path.relative_to(PACKAGE)}"
        for path in PACKAGE.rglob("*.py")
        if any(mark in path.read_text() for mark in marks)
    }
    assert places == {RAY_ONLY}


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


def test_mlflow_makes_its_tables() -> None:
    """release/mlflow_store.py: the public way starts a server, or races with other processes."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine_with_retry

    engine: Any = create_sqlalchemy_engine_with_retry("sqlite://")  # type: ignore[no-untyped-call]
    _initialize_tables(engine)  # type: ignore[no-untyped-call]
    tables = sqlalchemy.inspect(engine).get_table_names()
    assert {"runs", "registered_models", "alembic_version"} <= set(tables)
    engine.dispose()


def test_mlflow_names_the_kind_of_a_source() -> None:
    """release/mlflow_run.py"""
    from mlflow.data.delta_dataset_source import DeltaDatasetSource

    assert DeltaDatasetSource(path="lake/table")._get_source_type() == "delta_table"


def test_treelite_has_the_function_that_is_called() -> None:
    """serving/predictor.py; that it answers alike is tested with the predictor"""
    import ctypes

    from treelite.core import _LIB
    from treelite.gtil.gtil import GTILConfig

    assert ctypes.PyDLL(_LIB._name).TreeliteGTILPredict
    assert GTILConfig(predict_type="default", nthread=1).handle


def test_sklearn_checks_parameters_without_fitting() -> None:
    """training/trainers/scikit.py"""
    from sklearn.linear_model import LogisticRegression
    from sklearn.utils._param_validation import InvalidParameterError

    with pytest.raises(InvalidParameterError, match="'C' parameter"):
        LogisticRegression(C=-1.0)._validate_params()


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
