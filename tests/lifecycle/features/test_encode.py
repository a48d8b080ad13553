"""Features: the hook's contract, the matrix, the labels."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lifecycle.errors import FeatureError
from lifecycle.features.encode import (
    FeatureSchema,
    build_features,
    encode,
    fit_schema,
    hook_digest,
    labels,
    load_hook,
)
from lifecycle.project import ContractSpec, Project
from tests.support.small import small_frame

MakeProject = Callable[..., Project]


@pytest.fixture
def hooked(make_project: MakeProject, tmp_path: Path) -> Callable[[str], Project]:
    def make(body: str) -> Project:
        (tmp_path / "features.py").write_text(f"import pandas as pd\n\n\n{body}\n")
        return make_project(features="features:build")

    return make


def test_no_hook_means_the_inputs(make_project: MakeProject) -> None:
    project = make_project()
    assert load_hook(project) is None
    assert hook_digest(project) == ""
    assert list(build_features(small_frame(), project, None)) == ["age", "visits", "city"]


@pytest.mark.parametrize("held", ["str", object])
def test_the_hook_sees_text_alike_in_training_and_serving(
    hooked: Callable[[str], Project], held: str | type
) -> None:
    """A lake gives pandas' own type, a request Python's objects."""
    body = "    return x.assign(city=x['city'].isna() & (x['city'].dtype == 'str'))"
    project = hooked(f"def build(x):\n{body}\n")
    cities = pd.Series(["Oslo", None, None], dtype=held)
    frame = small_frame(3).assign(city=cities)
    rows = [build_features(frame.iloc[at], project, load_hook(project)) for at in ([0], [1], [2])]
    assert [bool(row["city"].iloc[0]) for row in rows] == [False, True, True]


def test_the_hook_sees_inputs_only_and_may_change_them(hooked: Callable[[str], Project]) -> None:
    project = hooked("def build(x):\n    assert list(x) == ['age', 'visits', 'city']\n"
                     "    x['age'] = 0\n    x['more'] = x['visits'] * 2\n    return x")  # fmt: skip
    frame = small_frame()
    built = build_features(frame, project, load_hook(project))
    assert built["more"].equals(frame["visits"] * 2)
    assert frame["age"].max() > 0


def test_numbers_that_may_be_missing_are_floats_for_the_hook(
    hooked: Callable[[str], Project],
) -> None:
    project = hooked("def build(x):\n    assert str(x['visits'].dtype) == 'float64'\n    return x")
    frame = small_frame().astype({"visits": "Int64"})
    frame.loc[0, "visits"] = pd.NA
    assert np.isnan(build_features(frame, project, load_hook(project))["visits"][0])


def test_the_digest_follows_the_file(hooked: Callable[[str], Project]) -> None:
    first = hook_digest(hooked("def build(x): return x"))
    assert first != hook_digest(hooked("def build(x): return x + 0"))


def test_two_projects_may_both_have_features_py(tmp_path: Path, make_project: MakeProject) -> None:
    hooks = []
    for name in ("one", "two"):
        (tmp_path / "features.py").write_text(f"def build(x): return x.assign({name}=1)\n")
        hooks.append(load_hook(make_project(features="features:build")))
    built = [list(build_features(small_frame(), ["age"], hook)) for hook in hooks]
    assert built == [["age", "one"], ["age", "two"]]


def test_a_hook_that_changes_within_its_second_is_read_anew(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    """Python's bytecode cache knows a file by its size and the second of its change."""
    file = tmp_path / "features.py"
    ages = []
    for age in (30, 60):
        file.write_text(f"def build(inputs):\n    return inputs.assign(age={age})\n")
        os.utime(file, (1e9, 1e9))
        hook = load_hook(make_project(features="features:build"))
        assert hook
        ages.append(hook(small_frame())["age"].max())
    assert ages == [30, 60]


def test_an_installed_module(make_project: MakeProject) -> None:
    project = make_project(features="examples.health_visits.features:build")
    with pytest.raises(FeatureError, match="KeyError: 'income'"):
        build_features(small_frame(), project, load_hook(project))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def other(x): return x", "has no function 'build'"),
        ("build = 3", "has no function 'build'"),
        ("def build(x) return x", "SyntaxError"),
        ("raise RuntimeError('no GPU')", "features.py:4: RuntimeError: no GPU"),
        ("import not_there_at_all", "features.py:4: ModuleNotFoundError"),
    ],
)
def test_a_hook_that_cannot_be_loaded(
    hooked: Callable[[str], Project], body: str, says: str
) -> None:
    with pytest.raises(FeatureError) as caught:
        load_hook(hooked(body))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("    return x['nope']", "features.py:5: KeyError: 'nope'"),
        ("    return None", "the hook returned NoneType, not a DataFrame"),
        ("    return x.iloc[1:]", "same rows with the same index: got 399 rows for 400"),
        ("    return x.sample(frac=1, random_state=1)", "same rows with the same index"),
        ("    return x[[]]", "must return at least one column, with distinct names"),
        ("    return x[['age', 'age']]", "with distinct names"),
        ("    return x.assign(bought=1)", "returned bought, which is the target"),
        ("    return x.assign(customer=1, income=2)", "returned income, which is leakage"),
    ],
)
def test_a_hook_that_returns_something_unusable(
    make_project: MakeProject, tmp_path: Path, body: str, says: str
) -> None:
    (tmp_path / "features.py").write_text(f"import pandas as pd\n\n\ndef build(x):\n{body}\n")
    contract = make_project().contract.model_dump(mode="json", exclude_none=True)
    contract["columns"]["income"] = {"type": "number"}
    project = make_project(
        small_frame().assign(income=1.0),
        contract=contract, leakage=["income"], features="features:build",
    )  # fmt: skip
    with pytest.raises(FeatureError) as caught:
        build_features(small_frame(), project, load_hook(project))
    assert says in str(caught.value)


def test_no_such_module(make_project: MakeProject) -> None:
    for module in ("featurez", "not_there.at_all"):
        with pytest.raises(FeatureError, match="there is neither"):
            hook_digest(make_project(features=f"{module}:build"))


def test_an_input_that_is_missing() -> None:
    with pytest.raises(FeatureError, match="no input column visits"):
        build_features(pd.DataFrame({"age": [1]}), ["age", "visits"], None)


CONTRACT = ContractSpec.model_validate(
    {
        "columns": {
            "plan": {"type": "category", "categories": [1, 2, 3]},
            "city": {"type": "category"},
            "flag": {"type": "boolean"},
            "note": {"type": "string"},
            "day": {"type": "datetime"},
            "age": {"type": "number"},
        }
    }
)


def test_schema_and_matrix() -> None:
    train = pd.DataFrame(
        {
            "plan": [1, 3],
            "city": ["Rome", "Oslo"],
            "flag": [True, False],
            "age": [1.5, np.nan],
            "made": ["b", "a"],
        }
    )
    schema = fit_schema(train, CONTRACT.columns)
    assert schema.names == ("plan", "city", "flag", "age", "made")
    assert schema.kinds == ("c", "c", "q", "q", "c")
    assert schema.levels == {"plan": (1, 2, 3), "city": ("Oslo", "Rome"), "made": ("a", "b")}
    again = FeatureSchema.model_validate_json(schema.model_dump_json())
    assert again == schema
    other = pd.DataFrame(
        {
            "made": ["a", "z"],
            "plan": [2.0, np.nan],
            "city": ["Lima", None],
            "flag": [1, 0],
            "age": [3, 4],
        }
    )
    nan = np.nan
    expected = np.array([[1, nan, 1, 3, 0], [nan, nan, 0, 4, nan]], dtype=np.float32)
    for one in (schema, again):
        matrix = encode(other, one)
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("note", ["a"], "'note' is free text"),
        ("day", [pd.Timestamp("2020")], "'day' is a time"),
        ("city", [None], "has no value in training"),
    ],
)
def test_columns_that_are_no_features(column: str, values: list[object], says: str) -> None:
    with pytest.raises(FeatureError, match=says):
        fit_schema(pd.DataFrame({column: values}), CONTRACT.columns)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_infinite_features_are_refused_by_name(value: float) -> None:
    schema = fit_schema(pd.DataFrame({"age": [1.0]}), CONTRACT.columns)
    with pytest.raises(FeatureError, match=r"'age' is infinite or beyond 3\.4e38 in row 1"):
        encode(pd.DataFrame({"age": [1.0, value]}), schema)


def test_features_that_changed_since_training() -> None:
    schema = fit_schema(pd.DataFrame({"age": [1.0]}), CONTRACT.columns)
    with pytest.raises(FeatureError, match="is missing now"):
        encode(pd.DataFrame({"other": [1]}), schema)
    with pytest.raises(FeatureError, match="was a number in training"):
        encode(pd.DataFrame({"age": ["old"]}), schema)


def test_labels(make_project: MakeProject) -> None:
    project = make_project()
    frame = pd.DataFrame({"bought": pd.array([1, 0, None], dtype="Int64")})
    np.testing.assert_array_equal(labels(frame, project), [1, 0, np.nan])
    text = make_project(
        positive="Yes",
        contract={"columns": {"x": {"type": "number"}, "bought": {"type": "string"}}},
        entity=None,
    )
    np.testing.assert_array_equal(labels(pd.DataFrame({"bought": ["No", "Yes"]}), text), [0, 1])
    number = make_project(task="regression", target="visits")
    np.testing.assert_array_equal(labels(pd.DataFrame({"visits": [3, 4]}), number), [3.0, 4.0])
