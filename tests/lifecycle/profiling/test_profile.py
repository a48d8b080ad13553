"""Profiles say what is in the rows, whatever is in them, and nothing that is personal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.windows import first_window
from lifecycle.errors import DataError
from lifecycle.features.join import join_views
from lifecycle.features.store import KEY, VIEW, materialise
from lifecycle.profiling import Profile, profile
from lifecycle.profiling.gather import SAMPLE, gather
from lifecycle.profiling.record import ColumnProfile
from lifecycle.project import Project
from lifecycle.records import Window
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame


def column(found: Profile, name: str) -> ColumnProfile:
    return next(one for one in found.summary.columns if one.name == name)


def page(found: Profile, tmp_path: Path) -> str:
    return found.save(tmp_path / "page.html").read_text(encoding="utf-8")


def texts(found: Profile) -> str:
    return "\n".join(one.text for one in found.summary.findings)


def test_counts_of_a_frame() -> None:
    frame = pd.DataFrame(
        {
            "number": [1.0, 2.0, np.nan, np.inf, 4.0, 1.0],
            "whole": pd.array([1, None, 3, 3, 4, 1], dtype="Int64"),
            "flag": [True, False, True, True, False, True],
            "word": ["a", "b", None, "a", "a", "a"],
            "when": pd.to_datetime(["2024-01-01"] * 5 + ["2024-01-03"]),
        }
    )
    frame = pd.concat([frame, frame.iloc[[0]]], ignore_index=True)
    found = profile(frame)
    summary = found.summary
    assert (summary.rows, summary.sampled, summary.duplicates) == (7, 7, 1)
    assert summary.rows_with_missing == 2
    number = column(found, "number")
    assert (number.missing, number.infinite, number.distinct) == (1, 1, 4)
    assert (number.minimum, number.maximum, number.mean) == (1.0, 4.0, pytest.approx(9 / 5))
    assert (column(found, "whole").missing, column(found, "whole").maximum) == (1, 4.0)
    assert column(found, "flag").kind == "category"
    assert [(b.label, b.rows) for b in column(found, "flag").bars] == [("true", 5), ("false", 2)]
    assert [(b.label, b.rows) for b in column(found, "word").bars] == [("a", 5), ("b", 1)]
    assert column(found, "when").maximum == "2024-01-03"
    assert summary.periods is not None
    assert [bar.rows for bar in summary.periods.bars] == [6, 0, 1]
    together = {(one.first, one.second): one.rows for one in summary.together}
    assert together == {("number", "word"): 1}
    assert "number: with infinite values" in texts(found)
    assert "1 of 3 periods between the first and the last have no rows" in texts(found)


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_rows(rows: int, tmp_path: Path) -> None:
    found = profile(small_frame().head(rows), target="bought")
    assert found.summary.rows == rows
    assert "profile</h1>" in page(found, tmp_path)
    assert ("There are no rows." in texts(found)) == (rows == 0)


@pytest.mark.parametrize("values", [[None] * 30, [np.nan] * 30, [7] * 30, ["x"] * 30])
def test_columns_that_say_nothing(values: list[Any], tmp_path: Path) -> None:
    frame = small_frame(30).assign(nothing=values)
    found = profile(frame, target="bought")
    assert column(found, "nothing").constant
    assert "nothing: constant." in texts(found)
    assert "nothing" in page(found, tmp_path)


def test_text_that_hardly_repeats_is_not_shown(tmp_path: Path) -> None:
    frame = small_frame(4000).assign(note=[f"secret{i}" for i in range(4000)])
    found = profile(frame, target="bought")
    note = column(found, "note")
    assert (note.kind, note.distinct, note.bars) == ("text", 4000, ())
    assert "secret" not in page(found, tmp_path)


def test_names_are_escaped_and_of_any_script(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    frame = small_frame().rename(columns={"age": bad, "visits": "年齢 [bold]"})
    frame[bad] = frame[bad].where(frame.index > 5)
    frame["city"] = frame["city"].replace("Rome", '"><img src=x>')
    frame["copy"] = frame["年齢 [bold]"]
    html = page(profile(frame, target="bought"), tmp_path)
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html
    assert "年齢" in html


def test_the_page_needs_nothing_else(tmp_path: Path, shared_data: Path) -> None:
    html = page(profile(shared_data / "bike_sharing_hour.csv", target="cnt"), tmp_path)
    assert "http" not in html.replace("http-equiv", "")
    assert len(html) < 2_000_000


def test_relations_and_suspects() -> None:
    frame = small_frame(2000)
    frame["copy"] = frame["bought"] * 2.0 + 1
    frame["noise"] = np.random.default_rng(1).random(len(frame))
    found = profile(frame, target="bought")
    strength = {c.name: c.relation.strength for c in found.summary.columns if c.relation}
    assert strength["copy"] == pytest.approx(1.0)
    assert abs(strength["noise"]) < 0.1
    assert 0.3 < strength["city"] < 1
    assert set(found.summary.suspects) == {"copy"}
    assert found.summary.findings[0].tone == "bad"
    relation = column(found, "city").relation
    assert relation is not None
    rome = next(one for one in relation.bins if one.label == "Rome")
    positive = float(found.summary.classes[0])
    share = (frame["bought"] == positive)[frame["city"] == "Rome"].mean()
    assert rome.target == (pytest.approx(share),)


def test_associations_agree_with_scipy_and_pandas() -> None:
    random = np.random.default_rng(2)
    x = random.normal(size=3000)
    frame = pd.DataFrame({"x": x, "y": x**3 + random.normal(size=3000)})
    frame["group"] = np.where(x > 0, "up", "down")
    frame["same"] = frame["group"].map({"up": "one", "down": "two"})
    pairs = {(one.first, one.second): one.value for one in profile(frame).summary.pairs}
    assert pairs["x", "y"] == pytest.approx(frame["x"].corr(frame["y"], "spearman"), abs=1e-3)
    assert pairs["group", "same"] == pytest.approx(1.0, abs=1e-3)
    ranks, means = frame["x"].rank(), frame["x"].rank().groupby(frame["group"]).transform("mean")
    assert pairs["x", "group"] == pytest.approx((means.var() / ranks.var()) ** 0.5, abs=1e-3)


def test_multiclass_has_a_share_a_class(tmp_path: Path) -> None:
    frame = small_frame(600)
    frame["kind"] = [("a", "b", "c")[i % 3] for i in frame["visits"]]
    found = profile(frame, target="kind")
    relation = column(found, "visits").relation
    assert found.summary.task == "multiclass"
    assert relation is not None
    assert all(sum(one.target) == pytest.approx(1.0) for one in relation.bins)
    assert "Classes of kind" in page(found, tmp_path)


def test_the_sample_is_the_same_however_rows_come() -> None:
    rows = SAMPLE * 3
    table = pa.table({"x": np.arange(rows), "y": np.arange(rows) % 7})
    one, other = gather(table.to_batches(65_536)), gather(table.to_batches(1_000))
    assert one.sample().num_rows == SAMPLE
    assert one.sample().equals(other.sample().combine_chunks())
    assert one.columns["x"].moments.mean() == other.columns["x"].moments.mean() == (rows - 1) / 2
    distinct, exact = one.columns["x"].distinct()
    assert not exact
    assert distinct == pytest.approx(rows, rel=0.012)
    middle = np.median(one.sample()["x"].to_numpy()) / rows
    assert middle == pytest.approx(0.5, abs=0.01)


def test_a_sample_is_said(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(SAMPLE + 1), "y": 1.5})
    found = profile(frame)
    assert (found.summary.rows, found.summary.sampled) == (SAMPLE + 1, SAMPLE)
    assert "seeded random sample of 50,000" in page(found, tmp_path)


def test_drift_between_frames() -> None:
    then = small_frame(2000).assign(order=range(2000))
    now = then.assign(age=then["age"] + 30, city=then["city"].replace("Lima", "Kyiv"))
    now["order"] += 2000  # each row has its own: others are no drift
    found = profile(now, target="bought", against=then)
    drifted = {c.name for c in found.summary.columns if c.drift and c.drift.drifted}
    assert drifted == {"age", "city"}
    city = column(found, "city").drift
    assert city is not None
    assert (city.new_levels, city.gone_levels) == (("Kyiv",), ("Lima",))
    assert "Drifted against a frame in memory: " in texts(found)
    assert not any(c.drift and c.drift.drifted for c in profile(then, against=then).summary.columns)


def personal(columns: dict[str, dict[str, Any]]) -> dict[str, Any]:
    contract = SMALL["contract"]
    specs = {name: spec | columns.get(name, {}) for name, spec in contract["columns"].items()}
    return {"contract": contract | {"columns": specs}}


def test_personal_values_are_never_shown(
    make_project: Callable[..., Project], settings: Settings, tmp_path: Path
) -> None:
    hidden = {"city": {"pii": "hash", "pii_class": "sensitive"}, "age": {"pii": "drop"}}
    frame = small_frame().assign(age=lambda f: f["age"] + 0.125)
    project = make_project(frame, **personal(hidden))
    source = profile(project, settings=settings)
    ref = ingest(project, settings, first_window(project)).dataset
    version = profile(project, settings=settings)
    bare = profile(ref, settings=settings)
    for found in (source, version, bare):
        html = page(found, tmp_path) + str(found.to_dict())
        assert not [city for city in ("Rome", "Oslo", "Lima") if city in html]
        assert ".125" not in html
        assert column(found, "city").distinct == 3
        assert column(found, "age").mean is None
    against = profile(project, settings=settings, against=frame.replace("Lima", "Kyiv"))
    assert "Kyiv" not in page(against, tmp_path) + str(against.to_dict())


def test_a_view_does_not_show_whom_its_features_are_about(
    make_paying: Callable[..., Project], settings: Settings
) -> None:
    project = make_paying()
    joined = join_views(project, settings, ingest(project, settings, Window()).dataset)
    (name,) = project.feature_views
    view = profile(project, table=f"{VIEW}{name}", settings=settings)
    assert (column(view, KEY).role, column(view, KEY).hidden) == ("entity", True)
    assert (column(view, KEY).bars, column(view, KEY).minimum) == ((), None)
    ref = materialise(project, settings, name)
    assert column(profile(ref, settings=settings), KEY).hidden
    rows = profile(project, table="joined", settings=settings)
    assert rows.summary.rows == joined.rows
    for feature, spec in project.view_columns.items():
        assert (column(rows, feature).role, column(rows, feature).type) == ("input", spec.type)


def test_a_personal_target_is_not_shown(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    found = profile(make_project(**personal({"bought": {"pii": "drop"}})), settings=settings)
    assert column(found, "bought").bars == ()
    assert all(not c.relation.bins for c in found.summary.columns if c.relation)
    assert found.summary.base == found.summary.classes == ()


def test_a_project_is_its_source_first_then_its_newest_version(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    frame = small_frame()
    frame.loc[3, "age"] = 500
    project = make_project(frame)
    before = profile(project, settings=settings).summary
    assert (before.rows, before.rejected) == (399, 1)
    assert before.place.endswith("small.csv")
    ingest(project, settings, first_window(project))
    after = profile(project, settings=settings).summary
    assert after.place.startswith("accepted@0, digest ")
    assert (after.rows, after.entity) == (399, "customer")
    assert column(Profile(after), "age").promises == ("0 to 120",)


def test_another_version_is_what_drift_is_against(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    ingest(project, settings, first_window(project))
    older = make_project(small_frame().assign(age=lambda f: f["age"] + 20))
    ingest(older, settings, first_window(older))
    found = profile(older, settings=settings, against=0)
    assert {c.name for c in found.summary.columns if c.drift and c.drift.drifted} == {"age"}
    assert found.summary.against.startswith("accepted@0")


def test_mistakes_are_said(make_project: Callable[..., Project], settings: Settings) -> None:
    project, frame = make_project(), small_frame()
    for mistake, said in (
        (lambda: profile(frame, target="bougth"), "no column 'bougth'"),
        (lambda: profile(frame, version=3), "only a project's tables have versions"),
        (lambda: profile(frame, against=3), "a frame or a file has no versions"),
        (lambda: profile(project, target="age", settings=settings), "says what it is"),
        (lambda: profile(project, version=3, settings=settings), "accepted has no version 3"),
        (lambda: profile(project, table="train", settings=settings), "no version of train yet"),
        (lambda: profile(pd.concat([frame, frame], axis=1)), "several columns are called"),
    ):
        with pytest.raises(DataError, match=said):
            mistake()
