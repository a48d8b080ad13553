"""What a task of ours adds to Prefect's: nothing secret in the errors that Prefect keeps."""

import inspect

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
