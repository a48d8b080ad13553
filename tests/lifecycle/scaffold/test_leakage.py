"""Suspects of leakage: copies of the target, and pairs that add up to it."""

import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lifecycle.scaffold.leakage import leakage_suspects


def test_suspects_of_classes() -> None:
    random = np.random.default_rng(3)
    codes = random.integers(0, 4, 2_000)
    frame = pd.DataFrame(
        {
            "same": np.array(list("wxyz"))[codes],
            "almost": codes + random.normal(size=2_000) * 0.1,
            "one": (codes == 2).astype(int),  # tells one class, not the others
            "noise": random.normal(size=2_000),
            "half": codes / 2,
        }
    )
    assert set(leakage_suspects(frame, np.eye(4)[codes])) == {"same", "almost", "half"}


def test_pairs_among_many_columns_and_of_rare_events() -> None:
    random = np.random.default_rng(3)
    target = random.poisson(40, 5_000).astype(float)
    frame = pd.DataFrame(random.normal(size=(5_000, 300))).add_prefix("c")
    frame["total"] = np.round(target + frame["c250"], 6)
    frame.loc[:20, "total"] = np.nan  # some rows do not count
    words = "total − c250 is the target"
    started = time.monotonic()
    assert leakage_suspects(frame, target) == {"c250": words, "total": words}
    assert time.monotonic() - started < 60
    rare = (random.random(5_000) < 0.004).astype(float)
    twins = pd.DataFrame({"one": random.normal(size=5_000)}).assign(other=lambda f: f["one"])
    assert leakage_suspects(twins, rare) == {}  # though their difference is 0, as nearly all are
    found = leakage_suspects(twins.assign(after=twins["one"] + rare), rare)
    assert found["after"] == "after − other is the target"


def test_suspects() -> None:
    random = np.random.default_rng(3)
    target = random.normal(size=2_000)
    frame = pd.DataFrame(
        {
            "copy": target * 2 + random.normal(size=2_000) * 0.05,
            "half": target * 0.5,
            "noise": random.normal(size=2_000),
            "grade": np.where(target > 0, "high", "low"),
            "id": [f"i{i}" for i in range(2_000)],
            "seen": pd.date_range("2020", periods=2_000),
        }
    )
    frame["rest"] = target - frame["noise"]
    found = leakage_suspects(frame, target)
    assert set(found) == {"copy", "half", "noise", "rest"}
    total = frame.drop(columns=["copy", "half", "rest"]).assign(total=target + frame["noise"])
    assert leakage_suspects(total, target) == dict.fromkeys(
        ("noise", "total"), "total − noise is the target"
    )
    assert found["rest"] == "noise + rest is the target"
    assert set(leakage_suspects(frame, (target > 0).astype(float))) == {"copy", "half", "grade"}
    assert leakage_suspects(frame, np.ones(2_000)) == {}


@pytest.mark.parametrize("rows", [150, 546])
@pytest.mark.parametrize("copy", [lambda y: y / 1000, lambda y: 0.004 * y + 7, np.log])
def test_a_copy_of_the_target_is_found_in_a_small_file(rows: int, copy: Any) -> None:
    random = np.random.default_rng(3)
    price = np.round(random.lognormal(11, 0.4, rows), -2)
    near = price * random.lognormal(0, 0.05, rows)  # explains 98 %, as last year's price may
    frame = pd.DataFrame({"copy": copy(price), "near": near, "noise": random.normal(size=rows)})
    assert leakage_suspects(frame, price) == {"copy": "explains 100% of the target alone"}
    trend = np.arange(rows) + random.normal(size=rows) / 10  # as everything else that grows
    grown = pd.DataFrame({"people": np.arange(rows)})
    assert leakage_suspects(grown, trend) == {}
