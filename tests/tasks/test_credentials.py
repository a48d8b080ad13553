"""Prefect's Secret blocks fill the variables that a project names, and nothing else."""

import json
import os
from collections.abc import Callable

import pytest
from prefect.blocks.system import Secret

from lifecycle.project import Project
from tasks.data import fill_credentials


@pytest.mark.component
@pytest.mark.parametrize("value", ["postgresql://u:p@h/d", '{"key": "k", "secret": "s"}'])
def test_a_block_fills_a_variable_that_is_not_set(
    prefect_server: None,
    make_project: Callable[..., Project],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
) -> None:
    monkeypatch.setenv("BLOCK_TEST_URL", "mine")
    project = make_project(source={"path": "x.csv", "credentials": "BLOCK_TEST_URL"})
    Secret(value=value).save("block-test-url", overwrite=True)
    fill_credentials(project)
    assert os.environ["BLOCK_TEST_URL"] == "mine"
    monkeypatch.delenv("BLOCK_TEST_URL")
    fill_credentials(project)
    found = os.environ["BLOCK_TEST_URL"]
    assert found == value or json.loads(found) == json.loads(value)


@pytest.mark.component
def test_no_block_leaves_the_variable_unset(
    prefect_server: None, make_project: Callable[..., Project]
) -> None:
    fill_credentials(make_project(source={"path": "x.csv", "credentials": "NO_SUCH_BLOCK"}))
    assert "NO_SUCH_BLOCK" not in os.environ
