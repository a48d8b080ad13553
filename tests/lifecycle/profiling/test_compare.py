"""Distances of two samples against what is known of them, and what chance alone makes of them."""

import re
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from scipy.stats.contingency import association

from lifecycle.profiling.compare import (
    DISTANCES,
    Comparison,
    compare_categories,
    compare_numbers,
    cramers_v,
    independent_rows,
    kolmogorov_smirnov,
    total_variation,
    wasserstein,
)
from lifecycle.project import DriftSpec
from lifecycle.runtime.identity import PACKAGE

NORMAL = np.random.default_rng(5).normal(50, 10, 4000)
NAN = np.nan
ALPHA = 0.01
columns = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(NAN)), min_size=1, max_size=30).map(
    np.array
)


def test_no_drift_between_halves_of_one_population() -> None:
    assert kolmogorov_smirnov(NORMAL[:2000], NORMAL[2000:]) < 0.05
    assert wasserstein(NORMAL[:2000], NORMAL[2000:]) < 0.1


def test_a_shift_by_one_deviation_is_one_wasserstein() -> None:
    spread = NORMAL.std()
    assert wasserstein(NORMAL, NORMAL + spread) == pytest.approx(1)
    # two normals one deviation apart: 2Φ(½) − 1
    assert kolmogorov_smirnov(NORMAL, NORMAL + spread) == pytest.approx(0.383, abs=0.03)


def test_kolmogorov_smirnov_is_scipys() -> None:
    shifted = np.round(NORMAL[:700] * 1.1)
    expected = ks_2samp(np.round(NORMAL), shifted).statistic
    assert kolmogorov_smirnov(np.round(NORMAL), shifted) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [kolmogorov_smirnov, wasserstein])
def test_missing_values_are_drift(measure: object) -> None:
    assert callable(measure)
    lacking = NORMAL.copy()
    lacking[::2] = NAN
    assert measure(NORMAL, lacking) == pytest.approx(0.5, abs=0.02)
    assert measure(NORMAL, np.full(10, NAN)) == 1
    assert measure(np.full(5, NAN), np.full(10, NAN)) == 0


def test_a_constant_reference_gives_a_finite_distance() -> None:
    assert wasserstein(np.ones(10), np.ones(10)) == 0
    assert 0 < wasserstein(np.ones(10), np.full(10, 3.0)) < 10


@given(columns, columns)
def test_measures_are_distances(a: np.ndarray, b: np.ndarray) -> None:
    for measure in (kolmogorov_smirnov, wasserstein):
        assert measure(a, a) == 0
        assert np.isfinite(measure(a, b))
        assert measure(a, b) >= 0
    assert kolmogorov_smirnov(a, b) == pytest.approx(kolmogorov_smirnov(b, a))


def test_cramers_v_is_scipys_for_windows_of_one_size() -> None:
    counts = np.array([[60, 30, 10, 0], [30, 30, 0, 40]])
    expected = association(counts, method="cramer")
    before, after = counts / 100
    assert cramers_v(before, after) == pytest.approx(expected)
    assert total_variation(before, after) == pytest.approx(0.4)


SIZES = [(1000, 1), (1000, 3), (1000, 30), (1000, 200), (1000, 2000), (200, 5000)]


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("test", ["kolmogorov_smirnov", "wasserstein"])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: np.exp(rng.normal(size=n)),
        lambda rng, n: rng.poisson(3, n).astype(float),
        lambda rng, n: np.where(rng.random(n) < 0.3, NAN, rng.normal(size=n)),
    ],
    ids=["normal", "lognormal", "poisson", "missing"],
)
def test_chance_exceeds_the_limit_of_numbers_as_rarely_as_it_says(
    draw: Callable[..., np.ndarray], test: str, rows: tuple[int, int]
) -> None:
    rng = np.random.default_rng(7)
    pairs = [
        compare_numbers(draw(rng, rows[0]), draw(rng, rows[1]), ALPHA, test)  # type: ignore[arg-type]  # a parameter
        for _ in range(300)
    ]
    assert _beyond(pairs) <= 0.03  # 9 of 300 where 3 are expected: once in 300 runs


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("test", ["cramers_v", "total_variation"])
@pytest.mark.parametrize("levels", [2, 20, 195])
def test_chance_exceeds_the_limit_of_categories_as_rarely_as_it_says(
    levels: int, test: str, rows: tuple[int, int]
) -> None:
    rng = np.random.default_rng(7)
    zipf = 1 / np.arange(1, levels + 1)
    pairs = []
    for _ in range(300):
        counts = [rng.multinomial(n, zipf / zipf.sum()) / n for n in rows]
        pairs.append(compare_categories(counts[0], counts[1], rows, ALPHA, test))  # type: ignore[arg-type]  # a parameter
    assert _beyond(pairs) <= 0.03


def _beyond(pairs: list[Comparison]) -> float:
    return float(np.mean([found.statistic > found.chance for found in pairs]))


def test_195_categories_by_chance_are_no_drift() -> None:
    """Without a limit of its size, V of 195 levels in 1,000 and 1,000 rows is far above 0.15."""
    rng = np.random.default_rng(7)
    counts = [rng.multinomial(1000, np.full(195, 1 / 195)) / 1000 for _ in range(2)]
    found = compare_categories(counts[0], counts[1], (1000, 1000), ALPHA)
    assert 0.25 < found.statistic < found.chance < 0.45


@pytest.mark.parametrize("test", ["kolmogorov_smirnov", "wasserstein"])
def test_half_a_deviation_is_beyond_chance_in_2000_rows(test: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        found = compare_numbers(
            rng.normal(size=1000),
            rng.normal(0.5, 1, 2000),
            ALPHA / 20,
            test,  # type: ignore[arg-type]  # a parameter
        )
        assert found.statistic > found.chance


def test_rows_of_one_entity_are_worth_fewer() -> None:
    assert independent_rows(None, 6) == 6
    assert independent_rows(np.array(["a", "b", "c"], dtype=object), 3) == 3
    assert independent_rows(np.array(["a"] * 4, dtype=object), 4) == 1
    assert independent_rows(np.array(["a", "a", "b", "b"], dtype=object), 4) == 2
    loose = compare_numbers(NORMAL[:50], NORMAL[50:100], ALPHA, rows=(5, 5)).chance
    assert loose > compare_numbers(NORMAL[:50], NORMAL[50:100], ALPHA).chance


def test_what_a_project_may_declare_is_in_the_table_of_distances() -> None:
    fields = DriftSpec.model_fields
    declared = [fields[name].annotation for name in ("numeric_test", "categorical_test")]
    assert {name for names in declared for name in get_args(names)} == DISTANCES.keys()
    assert len({distance.title for distance in DISTANCES.values()}) == len(DISTANCES)


def test_no_other_module_has_a_distance_of_its_own() -> None:
    own = [
        f"{path.relative_to(PACKAGE)}"
        for path in PACKAGE.rglob("*.py")
        if re.search(r"ks_2samp|wasserstein_distance|chi2|searchsorted\(a", path.read_text())
    ]
    assert own == ["profiling/compare.py"]
