"""A flow on a machine that is no Ray node; tests/integration/test_two_hosts.py has a real one."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lifecycle.errors import RayError, SettingsError, TrainingError
from lifecycle.runtime import remote_driver
from lifecycle.runtime.remote_driver import is_remote, on_cluster, require_shared_stores
from lifecycle.runtime.traces import begin_traces, end_traces, span
from lifecycle.settings import Settings
from tests.support.sinks import collector

SHARED = {"lake_uri": "s3://lake/lake", "mlflow_tracking_uri": "http://mlflow.example:5000"}


def test_stores_of_this_machine_are_refused_by_name(tmp_path: Path) -> None:
    require_shared_stores(Settings(home=tmp_path, **SHARED))  # type: ignore[arg-type]  # texts
    for missing, variable in (
        ("lake_uri", "LIFECYCLE_LAKE_URI"),
        ("mlflow_tracking_uri", "LIFECYCLE_MLFLOW_TRACKING_URI"),
    ):
        settings = Settings(home=tmp_path, **(SHARED | {missing: ""}))  # type: ignore[arg-type]
        with pytest.raises(SettingsError, match=f"^{variable}: the Ray cluster has no folder"):
            require_shared_stores(settings)


def nothing() -> None:
    """Not a builtin: Ray puts one of its own (`safe_print`) in the place of `print`."""


def test_a_process_on_a_node_calls_by_itself() -> None:
    calls: list[Any] = []
    function = on_cluster(lambda *args, **kwargs: calls.append((args, kwargs)))
    assert not is_remote()
    function(1, of=2)
    assert calls == [((1,), {"of": 2})]


class Head:
    """A `ray` whose head does what it is asked in this process."""

    def __init__(self, outcome: BaseException | None = None) -> None:
        self.asked: dict[str, Any] = {}
        self.cancelled = False
        self._outcome = outcome

    def remote(self, **options: Any) -> Any:
        self.asked |= options
        return lambda function: SimpleNamespace(remote=function)

    def get(self, answer: Any) -> Any:
        if self._outcome:
            raise self._outcome
        return answer

    def cancel(self, _: Any, force: bool) -> None:
        self.cancelled = force


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have this process connected through Ray Client, until it calls something on the head."""

    def connect(head: Head) -> Head:
        answers = iter([True])  # on the head it is not
        monkeypatch.setattr(remote_driver, "is_remote", lambda: next(answers, False))
        module, errors = ModuleType("ray"), ModuleType("ray.exceptions")
        module.__dict__.update(remote=head.remote, get=head.get, cancel=head.cancel)
        errors.__dict__.update(RayError=OSError, RayTaskError=ArithmeticError)
        monkeypatch.setitem(sys.modules, "ray", module)
        monkeypatch.setitem(sys.modules, "ray.exceptions", errors)
        return head

    return connect


def test_elsewhere_the_head_calls_with_settings_of_its_own(
    connected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path / "head"))
    head = connected(Head())
    home = on_cluster(lambda settings: settings.home)
    settings = Settings(home=tmp_path / "not here", pii_key="a-key")  # type: ignore[arg-type]
    assert home(settings) == tmp_path / "head"
    assert head.asked == {
        "num_cpus": 0,
        "max_retries": 0,
        "resources": {"node:__internal_head__": 0.001},
    }


def test_what_the_head_does_is_below_the_span_that_called(
    connected: Any, settings: Settings
) -> None:
    connected(Head())
    with collector() as (url, spans):
        begin_traces(settings.model_copy(update={"traces": url}))
        try:
            with span("fit", {}):
                on_cluster(nothing)()
        finally:
            end_traces()
    called, fit = spans
    assert (called.name, called.parent_span_id) == ("nothing on the head", fit.span_id)


def test_an_error_of_ours_is_raised_as_it_is(connected: Any) -> None:
    def fail() -> None:
        raise TrainingError("too few rows")

    connected(Head())
    with pytest.raises(TrainingError, match=r"^too few rows$"):
        on_cluster(fail)()


def test_a_head_that_is_gone_ends_with_one_line(connected: Any) -> None:
    connected(Head(ConnectionError("the client is disconnected\nand a trace")))
    with pytest.raises(RayError, match=r"^the cluster's head stopped work \(the client is disc"):
        on_cluster(nothing)()


def test_what_is_cancelled_ends_on_the_head(connected: Any) -> None:
    head = connected(Head(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        on_cluster(nothing)()
    assert head.cancelled
