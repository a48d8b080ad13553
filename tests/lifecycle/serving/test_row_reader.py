"""Both ways from a request to the matrix give the same bits; what is wrong takes the wordy one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.errors import FeatureError, RequestError
from lifecycle.features.encode import FeatureSchema
from lifecycle.project import ColumnSpec, Project
from lifecycle.serving.predictor import PARITY, ServedModel, Trees, engine_for, relative_distance
from lifecycle.serving.protocols.tensors import DTYPES, Tensor, to_matrix
from lifecycle.serving.records import PredictionRequest, to_records
from lifecycle.serving.row_reader import RowReader
from lifecycle.settings import Settings
from lifecycle.training.trainers.booster import XGBoostModel
from tests.support.small import SMALL, small_frame

INPUTS = {
    "age": ColumnSpec(type="number", nullable=True, minimum=0, maximum=120),
    "visits": ColumnSpec(type="integer", minimum=0),
    "member": ColumnSpec(type="boolean", nullable=True),
    "city": ColumnSpec(type="category", categories=("Rome", "Oslo", "Lima"), nullable=True),
    "shop": ColumnSpec(type="category"),
    "grade": ColumnSpec(type="category", categories=(1, 2, 3)),
}
FEATURES = FeatureSchema(
    names=("shop", "age", "visits", "member", "city", "grade"),
    kinds=("c", "q", "q", "q", "c", "c"),
    levels={"shop": ("a", "b"), "city": ("Rome", "Oslo", "Lima"), "grade": (1, 2, 3)},
)


def both(
    asked: PredictionRequest, inputs: dict[str, ColumnSpec], features: FeatureSchema
) -> tuple[Any, Any]:
    from lifecycle.features.encode import encode

    reader = RowReader(inputs, features, "person")
    try:
        slow = encode(reader.frame(asked), features)
    except (RequestError, FeatureError) as error:
        slow = error
    return reader.plain(asked), slow


PLAIN = {name: spec for name, spec in INPUTS.items() if name != "grade"}
PLAIN_FEATURES = FeatureSchema(
    names=FEATURES.names[:-1],
    kinds=FEATURES.kinds[:-1],
    levels={k: v for k, v in FEATURES.levels.items() if k != "grade"},
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True),
    st.sampled_from(["Rome", "a", "b", "zz", "", "1"]),
)
RECORD = st.fixed_dictionaries(
    {
        "age": st.one_of(st.floats(0, 120), st.integers(0, 120), ODD),
        "visits": st.one_of(st.integers(0, 9), ODD),
        "member": st.one_of(st.booleans(), ODD),
        "city": st.one_of(st.sampled_from(["Rome", "Oslo"]), ODD),
        "shop": st.one_of(st.sampled_from(["a", "b", "new"]), ODD),
    },
    optional={"person": st.integers(), "other": st.integers()},
)


@given(st.lists(RECORD, min_size=1, max_size=4))
def test_the_plain_way_is_the_wordy_one_or_gives_up(records: list[dict[str, Any]]) -> None:
    fast, slow = both(PredictionRequest(len(records), records), PLAIN, PLAIN_FEATURES)
    if fast is not None:
        assert not isinstance(slow, Exception), slow
        np.testing.assert_array_equal(fast, slow)
        assert fast.dtype == np.float32


def test_a_good_record_is_plain_also_with_its_entity() -> None:
    record = {"age": 41.5, "visits": 3, "member": None, "city": "Oslo", "shop": "new", "person": 7}
    fast, slow = both(PredictionRequest(1, [record]), PLAIN, PLAIN_FEATURES)
    assert fast is not None
    np.testing.assert_array_equal(fast, slow)
    np.testing.assert_array_equal(fast, np.array([[np.nan, 41.5, 3, np.nan, 1]], dtype="f4"))
    assert RowReader(PLAIN, PLAIN_FEATURES, "person").entities(PredictionRequest(1, [record])) == [
        7
    ]


def test_categories_that_are_numbers_take_the_wordy_way() -> None:
    record = {"age": 1, "visits": 3, "member": True, "city": None, "shop": "a", "grade": 2}
    fast, slow = both(PredictionRequest(1, [record]), INPUTS, FEATURES)
    assert fast is None
    assert slow[0, -1] == 1


def test_columns_and_records_give_the_same(make_project: Callable[..., Project]) -> None:
    columns = {
        "age": np.array([1.5, 2.5]),
        "visits": np.array([1, 2], dtype=np.int32),
        "member": [True, None],
        "city": ["Rome", None],
        "shop": ["b", "a"],
        "person": [1, 2],
    }
    records = [
        {"age": 1.5, "visits": 1, "member": True, "city": "Rome", "shop": "b", "person": 1},
        {"age": 2.5, "visits": 2, "member": None, "city": None, "shop": "a", "person": 2},
    ]
    one, slow = both(PredictionRequest(2, None, columns), PLAIN, PLAIN_FEATURES)
    other, same = both(PredictionRequest(2, records), PLAIN, PLAIN_FEATURES)
    assert one is not None
    for matrix in (slow, other, same):
        np.testing.assert_array_equal(one, matrix)


NUMBERS = {"age": INPUTS["age"], "visits": INPUTS["visits"], "income": ColumnSpec(type="number")}
TWISTED = FeatureSchema(names=("income", "age", "visits"), kinds=("q",) * 3, levels={})
ONE_CELL = {
    "INT64": st.one_of(st.integers(0, 120), st.integers(-(2**63), 2**63 - 1)),
    "FP64": st.one_of(st.floats(0, 120), st.floats(allow_nan=True)),
    "FP32": st.floats(allow_nan=True, width=32),
}


@given(st.data(), st.sampled_from(sorted(ONE_CELL)), st.booleans())
def test_one_tensor_for_all_is_the_wordy_way_or_gives_up(
    data: st.DataObject, datatype: str, whole: bool
) -> None:
    inputs = NUMBERS if whole else {k: v for k, v in NUMBERS.items() if k != "visits"}
    names = tuple(name for name in TWISTED.names if name in inputs)
    features = FeatureSchema(names=names, kinds=("q",) * len(names), levels={})
    row = st.lists(ONE_CELL[datatype], min_size=len(inputs), max_size=len(inputs))
    cells = np.array(data.draw(st.lists(row, min_size=1, max_size=4)), DTYPES[datatype])
    tensor = Tensor("all", datatype, cells.shape, cells.ravel(), binary=True)
    try:
        columns, matrix = to_matrix(tensor, inputs)
    except RequestError:
        return
    asked = PredictionRequest(len(cells), None, columns, matrix=matrix)
    fast, slow = both(asked, inputs, features)
    if fast is not None:
        assert not isinstance(slow, Exception), slow
        np.testing.assert_array_equal(fast, slow)
        by_column = RowReader(inputs, features, None).plain(asked._replace(matrix=None))
        np.testing.assert_array_equal(fast, by_column)


def test_one_tensor_of_good_numbers_is_plain() -> None:
    cells = np.array([[41, 3, -5], [18, 0, 7]], "<i8")
    columns, matrix = to_matrix(Tensor("all", "INT64", (2, 3), cells.ravel(), True), NUMBERS)
    fast, slow = both(PredictionRequest(2, None, columns, matrix=matrix), NUMBERS, TWISTED)
    np.testing.assert_array_equal(fast, np.array([[-5, 41, 3], [7, 18, 0]], "f4"))
    np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("age", float("nan"), "must be a finite number"),
        ("age", 1e300, "at most 120"),
        ("visits", 1.5, "a whole number"),
        ("visits", -1, "at least 0"),
        ("city", "Paris", "must be one of"),
        ("shop", None, "must not be null"),
    ],
)
def test_what_is_wrong_is_named(field: str, value: Any, reason: str) -> None:
    good = {"age": 41.5, "visits": 3, "member": None, "city": "Oslo", "shop": "new"}
    for rows in (1, 3):
        records = [good] * (rows - 1) + [good | {field: value}]
        fast, slow = both(PredictionRequest(rows, records), PLAIN, PLAIN_FEATURES)
        assert fast is None
        assert f"row {rows - 1}: {field}: " in str(slow)
        assert reason in str(slow)


@pytest.mark.parametrize("name", ["health", "small"])
def test_every_holdout_row_is_the_same_in_serving(
    name: str,
    request: pytest.FixtureRequest,
    make_project: Callable[..., Project],
    train: Callable[..., Any],
    settings: Settings,
) -> None:
    """With the hook of `health`, and without one: offline and serving, bit by bit."""
    project = request.getfixturevalue("health") if name == "health" else make_project()
    made = train(project, settings)
    holdout = made.holdout()
    inputs = holdout[list(project.input_columns)]
    served = ServedModel.open(made.bundle.path, made.model, project)
    answer = served.answer(PredictionRequest(len(inputs), to_records(inputs)), "all")
    np.testing.assert_array_equal(answer.predictions, made.expected(holdout))
    singly = [
        served.answer(PredictionRequest(1, [record]), "one").predictions[0]
        for record in to_records(inputs.head(100))
    ]
    np.testing.assert_array_equal(singly, made.expected(holdout.head(100)))


def test_the_faster_engine_answers_if_it_agrees(
    make_project: Callable[..., Project],
    train: Callable[..., Any],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = train(make_project(), settings)
    holdout = made.holdout()
    arguments = (made.bundle.path, made.model, made.project)
    assert engine_for(*arguments, [holdout.head(7), holdout.tail(-7)]) == "treelite"
    served = ServedModel.open(*arguments, "treelite")
    record = to_records(holdout[list(made.project.input_columns)].head(1))
    np.testing.assert_allclose(
        served.answer(PredictionRequest(1, record), "one").predictions,
        made.expected(holdout.head(1)),
        rtol=0,
        atol=1e-6,
    )

    def off(self: ServedModel, frames: Any) -> float:
        return 2e-4

    monkeypatch.setattr(ServedModel, "distance", off)
    assert engine_for(*arguments, [holdout.head(7), holdout.tail(-7)]) == "native"
    assert (
        "XGBoost itself answers single rows, since treelite is off on the holdout by 0.0002"
        in caplog.text
    )


@pytest.mark.parametrize("scale", [1e5, 1e-3])
def test_a_regression_of_any_size_gets_the_faster_engine(
    make_project: Callable[..., Project],
    train: Callable[..., Any],
    settings: Settings,
    scale: float,
) -> None:
    frame = small_frame()
    frame = frame.assign(bought=scale * (3 + frame["age"] / 20 + (frame["city"] == "Rome")))
    columns = SMALL["contract"]["columns"] | {"bought": {"type": "number"}}
    project = make_project(frame, task="regression", contract={"columns": columns})
    made = train(project, settings)
    assert engine_for(made.bundle.path, made.model, project, [made.holdout()]) == "treelite"


@pytest.mark.parametrize("scale", [1e5, 1.0, 1e-3])
def test_trees_of_another_model_are_told_from_rounding(scale: float) -> None:
    matrix = np.random.default_rng(1).normal(size=(2000, 4)).astype(np.float32)
    target = scale * (3 + matrix[:, 0] + np.abs(matrix[:, 1]))
    rows = xgboost.DMatrix(matrix, target, nthread=1)
    booster = xgboost.train({"nthread": 1, "eta": 0.05}, rows, 60)
    expected = XGBoostModel(booster).predict(matrix)
    assert relative_distance(Trees(booster).predict(matrix), expected) < PARITY / 10
    for other in (booster[:59], booster[1:]):  # without the last tree, without the first
        assert relative_distance(Trees(other).predict(matrix), expected) > PARITY * 2
