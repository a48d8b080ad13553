"""What a task of ours adds to Prefect's: nothing secret in the errors that Prefect keeps."""

import ast
import inspect
from pathlib import Path

import pytest

from tasks.policies import NOT_CACHED, task


@task(name="fail", **NOT_CACHED)
def fail(text: str) -> None:
    raise KeyError({"password": text})


def test_what_prefect_keeps_of_a_failed_task_has_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "planted-password")
    with pytest.raises(RuntimeError, match=r"^KeyError: .*\*\*\*") as caught:
        fail.fn("planted-password")
    assert "planted" not in str(caught.value)


def test_a_task_is_what_its_function_is() -> None:
    assert inspect.signature(fail.fn).parameters.keys() == {"text"}
    assert "raise KeyError" in inspect.getsource(fail.fn), "a part of the cache's key"


def test_every_name_in_a_cache_key_is_a_parameter() -> None:
    """Prefect takes a key that cannot be made for none: the task would never be cached."""
    keys = {}
    for file in (Path(__file__).parents[2] / "tasks").glob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            parameters = {argument.arg for argument in function.args.args}
            for call in (call for item in function.decorator_list for call in ast.walk(item)):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "cached_by":
                    names = [name.value for name in call.args[1:] if isinstance(name, ast.Constant)]
                    keys[function.name] = set(names) - parameters
    assert len(keys) >= 6
    assert {name: missing for name, missing in keys.items() if missing} == {}
