"""Cache and retry policies of the tasks."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TagsContext, TaskRunContext

from lifecycle.errors import BackendError
from lifecycle.lake.table import missing
from lifecycle.project import Project
from lifecycle.records import ModelVersion, Record
from lifecycle.redaction import errors_redacted
from lifecycle.runtime.identity import Result, code_digest, lock_digest, sha256, store_id
from lifecycle.runtime.run import add_labels, labelled
from lifecycle.runtime.traces import span
from lifecycle.settings import Settings
from tasks.progress import say


def cached_by(
    result: Result, *names: str, also: Callable[[Settings], str] | None = None
) -> Callable[[TaskRunContext, dict[str, Any]], str]:
    """Cache key over the named arguments, the task's source, the code that shapes the result, the
    lock and these stores.

    `TASK_SOURCE` alone would return an old result after the function below a thin task has changed;
    the store's id keeps a result from outliving the tables it refers to.

    Args:
        result: what the task makes, whose code counts.
        also: a digest of what else shapes the result.
    """

    def key(context: TaskRunContext, arguments: dict[str, Any]) -> str:
        settings: Settings = arguments["settings"]
        return sha256(
            {
                "task": context.task.name,
                "source": inspect.getsource(context.task.fn),
                "code": code_digest(result),
                "lock": lock_digest(),
                "also": also(settings) if also else "",
                "store": store_id(settings),
                "place": [str(settings.home), settings.lake],  # what moved refers to nothing
                "arguments": {name: _plain(arguments[name]) for name in names},
            }
        )

    return key


SHAPED_HERE: tuple[Result, ...] = ("data", "features", "model", "checks")
"""What flows make themselves; `answers` are made by replicas, of the code that those find."""


def pin_code() -> None:
    """Hash the code that shapes results, soon after this process has imported it.

    Its files may be replaced while a flow waits for its turn and works. What the flow makes then
    is the old code's, and would bear the identity of the new.
    """
    lock_digest()
    for result in SHAPED_HERE:
        code_digest(result)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def backend_failed(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether a task failed because a service was unavailable."""
    try:
        state.result()
    except BackendError:
        return True
    except Exception:
        return False
    return False


def say_if_cached(task: Task[..., Any], run: TaskRun, state: State[Any]) -> None:
    """Completion hook: a result from the cache says so."""
    if state.name == "Cached":
        dataset = getattr(state.result(), "dataset", None)
        version = f" ({Path(dataset.uri).name} version {dataset.version})" if dataset else ""
        say("cache", f"{task.name}: unchanged, served from the cache{version}")


CACHED: dict[str, Any] = {
    "persist_result": True,
    "result_serializer": "json",  # references only, and readable; no pickle
    "on_completion": [say_if_cached],
}
"""For tasks whose result is determined by what `cached_by` names."""

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound=Record)


class _UntaggedTask(Task[P, T]):
    """A task whose runs do not inherit the tags of the flow run.

    For a run with tags Prefect asks the server for a slot of each of them. On SQLite the server
    refuses whenever something was written meanwhile, and the client tries again after 2 s.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with TagsContext(current_tags=set()):
            return super().__call__(*args, **kwargs)


def task(**options: Any) -> Callable[[Callable[P, T]], Task[P, T]]:
    """Prefect's `task`, which keeps the message of every error: none with a secret in it.

    Its log lines have its name, and the model version that it is given or returns; so has what
    comes after it in the run. With traces it is a span. Its runs have no tags.
    """

    def decorate(fn: Callable[P, T]) -> Task[P, T]:
        @wraps(fn)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            labels = {"task": fn.__name__, **_model_labels(*args, *kwargs.values())}
            with errors_redacted(), labelled(**labels), span(fn.__name__, labels):
                result = fn(*args, **kwargs)
            add_labels(**_model_labels(result))
            return result

        return _UntaggedTask(run, **options)

    return decorate


def _model_labels(*values: object) -> dict[str, str]:
    """Labels of the first model version among arguments or results."""
    model = next((value for value in values if isinstance(value, ModelVersion)), None)
    return {"model": model.name, "model_version": str(model.version)} if model else {}


def checked(cached: Task[P, R]) -> Callable[P, R]:
    """A cached task whose result is made anew if what it refers to is gone."""

    @wraps(cached.fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        result = cached(*args, **kwargs)
        if not missing(result):
            return result
        say("cache", f"{cached.name}: what it refers to no longer exists; it is made again")
        return cached.with_options(refresh_cache=True)(*args, **kwargs)

    return run


RETRIES: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": [1, 5],
    "retry_condition_fn": backend_failed,
}
"""For tasks that talk to a service: try again if it was down, never on bad data."""

NOT_CACHED: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
"""For tasks with effects, and for those that look at something outside."""


def slug(project: Project) -> str:
    """The project's name as Prefect's artifact keys want it."""
    return project.name.replace("_", "-")
