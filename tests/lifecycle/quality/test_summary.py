"""The end of a cycle in words: every model with its data, and where to look."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle.quality.summary import _places, as_text, sections
from lifecycle.records import Decision, Estimate
from lifecycle.settings import Settings


@pytest.mark.parametrize(
    ("tracking", "told"),
    [
        ("", "MLflow         `make ui` says where its pages are (sqlite:///"),
        ("http://ml:81", "http://ml:81"),
    ],
)
def test_no_port_is_guessed(tmp_path: Path, tracking: str, told: str) -> None:
    settings = Settings(home=tmp_path, mlflow_tracking_uri=tracking)
    project: Any = SimpleNamespace(name="small", file="project.yaml")
    trained: Any = SimpleNamespace(
        model=SimpleNamespace(version=1), checks=SimpleNamespace(reports=())
    )
    text = "\n".join(_places(project, settings, [trained], [], []).text)
    assert told in text
    assert "127.0.0.1" not in text
    assert "Prefect        `make ui` says where its pages are" in text


def decided(passed: bool, reasons: tuple[str, ...]) -> Decision:
    return Decision(gate="promotion", passed=passed, reasons=reasons)


def dataset(rows: int, table: str = "train") -> Any:
    return SimpleNamespace(rows=rows, uri=f"lake/small/{table}", version=0, digest="d" * 64)


def training(version: int, tmp_path: Path) -> Any:
    split = SimpleNamespace(
        train=dataset(100 * version), validation=dataset(11), holdout=dataset(10 * version)
    )
    checks = SimpleNamespace(reports=(tmp_path / f"checks{version}.html",), failed=())
    baseline = SimpleNamespace(
        metrics={"roc_auc": Estimate(value=0.5, low=0.5, high=0.5)}, rows=10 * version
    )
    model = SimpleNamespace(name="small", version=version, digest="e" * 64)
    return SimpleNamespace(model=model, split=split, checks=checks, baseline=baseline)


def release(version: int, champion: int, reasons: tuple[str, ...]) -> Any:
    now = SimpleNamespace(name="small", version=champion, digest="e" * 64)
    evaluation = SimpleNamespace(
        metrics={"roc_auc": Estimate(value=0.7, low=0.6, high=0.8)}, rows=10 * version
    )
    return SimpleNamespace(
        challenger=SimpleNamespace(name="small", version=version, digest="e" * 64),
        champion=now,
        champion_evaluation=None,
        evaluation=evaluation,
        decision=decided(passed=champion == version, reasons=reasons),
        endpoint=None,
    )


def test_every_model_has_its_data_baseline_reasons_and_pages(tmp_path: Path) -> None:
    project: Any = SimpleNamespace(name="small", file="p.yaml", metric="roc_auc", time=None)
    trainings = [training(version, tmp_path) for version in (1, 2, 3)]
    releases = [
        release(1, 1, ("roc_auc beats the baseline", "Check X warns: so")),
        release(2, 2, ("roc_auc beats the champion",)),
        release(3, 2, ("a tie keeps the champion",)),
    ]
    drift = SimpleNamespace(
        labels=None,
        drifted=(),
        predictions=SimpleNamespace(column="prediction", test="ks", statistic=0.0, limit=0.1),
    )
    monitored = SimpleNamespace(
        decision=decided(passed=False, reasons=("drifted",)),
        drift=[drift],
        report=tmp_path / "monitoring.html",
    )
    scored = SimpleNamespace(window="2", dataset=dataset(50), predictions=dataset(50))
    periods: Any = [
        SimpleNamespace(scored=scored, monitored=monitored, release=again) for again in releases[1:]
    ]
    prepared: Any = SimpleNamespace(
        ingested=SimpleNamespace(window="1", dataset=dataset(121, "accepted")),
        split=trainings[0].split,
    )
    found = sections(project, Settings(home=tmp_path), prepared, trainings, releases, periods)
    text = as_text(found)
    outcomes = [line.split("]")[1].split()[:-1] for line in text.splitlines() if "small v" in line]
    assert outcomes == [["replaced"], ["champion"], ["not", "promoted"]]
    assert sum(line.startswith("baseline") for line in text.splitlines()) == 3
    for line in ("· train of v2", "· holdout of v3", "checks v1", "checks v3"):
        assert line in text
    assert "· roc_auc beats the baseline" in text
    assert "· a tie keeps the champion" in text
    assert "Check X warns" not in text, "which only warns is in the page"
