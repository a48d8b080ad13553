"""Rollout: alias last, champion back on failure, again is the same as once."""

from collections.abc import Callable
from typing import Any

import pytest

from lifecycle.errors import ServingError
from lifecycle.records import Endpoint, ModelVersion
from lifecycle.release.registry import CHALLENGER, CHAMPION, by_alias
from lifecycle.release.rollout import straight

pytestmark = pytest.mark.slow


class Traffic:
    """Which versions were deployed, in order; some of them do not answer."""

    def __init__(self, settings: Any, broken: tuple[int, ...] = ()) -> None:
        self.deployed: list[int] = []
        self.champions: list[ModelVersion | None] = []
        self._settings, self._broken = settings, broken

    def deploy(self, model: ModelVersion) -> Endpoint:
        self.deployed.append(model.version)
        self.champions.append(by_alias("small", CHAMPION, self._settings))
        if model.version in self._broken:
            raise ServingError(f"version {model.version} answers nonsense")
        return Endpoint(url="http://x", application="small", model=model, smoke_rows=1, curl="")


@pytest.fixture
def two(small_model: Any, train: Callable[..., Any]) -> tuple[Any, Any]:
    first, second = small_model, train(small_model.project, small_model.settings, seed=2)
    return first.register().model, second.register().model


def test_the_alias_moves_after_the_deployment(two: Any, small_model: Any) -> None:
    settings = small_model.settings
    first, second = two
    traffic = Traffic(settings)
    straight(first, None, traffic.deploy, settings)
    assert by_alias("small", CHAMPION, settings) == first
    assert by_alias("small", CHALLENGER, settings) == second

    endpoint = straight(second, first, traffic.deploy, settings)
    assert endpoint.model == by_alias("small", CHAMPION, settings) == second
    assert by_alias("small", CHALLENGER, settings) is None
    assert traffic.champions == [None, first]

    straight(second, second, traffic.deploy, settings)
    assert by_alias("small", CHAMPION, settings) == second


def test_a_failure_puts_the_champion_back(two: Any, small_model: Any) -> None:
    settings = small_model.settings
    first, second = two
    straight(first, None, Traffic(settings).deploy, settings)
    traffic = Traffic(settings, broken=(2,))
    with pytest.raises(ServingError, match="version 2 answers nonsense"):
        straight(second, first, traffic.deploy, settings)
    assert traffic.deployed == [2, 1]
    assert by_alias("small", CHAMPION, settings) == first
    assert by_alias("small", CHALLENGER, settings) == second


def test_the_first_error_is_told_if_the_champion_fails_too(two: Any, small_model: Any) -> None:
    settings = small_model.settings
    first, second = two
    with pytest.raises(ServingError, match="version 2"):
        straight(second, first, Traffic(settings, broken=(1, 2)).deploy, settings)
