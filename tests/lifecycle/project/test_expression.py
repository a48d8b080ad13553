"""Expressions of rules and segments: what they mean, and that no text in them runs anything."""

import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lifecycle.project import expression as module
from lifecycle.project.expression import columns_of, holds

ODD = "') or @__import__('os').system('touch pwned') or ('"
"""A column whose name would end the text that pandas reads."""
FRAME = pd.DataFrame(
    {
        "age": [20, 40, 60, 80],
        "spent": [1.5, 0.0, np.nan, 9.0],
        "city": ["Rome", "Oslo", None, "rome"],
        "member": [True, False, True, False],
        "day": pd.to_datetime(["2020-01-01", "2020-06-30", "2021-01-01", None]),
        "a name": [1, 2, 3, 4],
        ODD: [1, 0, 1, 0],
    }
)
MEANT = [
    ("age >= 40", [0, 1, 1, 1]),
    ("20 < age <= 60", [0, 1, 1, 0]),
    ("age > 30 and not member", [0, 1, 0, 1]),
    ("age > 30 & ~member | age == 20", [1, 1, 0, 1]),
    ("city in ['Rome', \"Oslo\"]", [1, 1, 0, 0]),
    ("city not in ('Rome',)", [0, 1, 1, 1]),
    ("city == ['Rome', 'rome']", [1, 0, 0, 1]),
    ("city.str.lower().str.len() == 4", [1, 1, 0, 1]),
    ("city.str.startswith('R')", [1, 0, 0, 0]),
    ("city.str.contains('ROME', case=False, na=False)", [1, 0, 0, 1]),
    ("day.dt.year == 2020 and day.dt.month < 6", [1, 0, 0, 0]),
    ("day >= '2020-06-01'", [0, 1, 1, 0]),
    ("`a name` % 2 == 0", [0, 1, 0, 1]),
    (f"`{ODD}` == 1", [1, 0, 1, 0]),
    ("city == '`x`' or city == 'a & b' or age == 20", [1, 0, 0, 0]),
    ("sqrt(age + 5) == 5 or spent ** 2 > 80", [1, 0, 0, 1]),
    ("abs(spent - 1.5) <= -age + 21.5", [1, 0, 0, 0]),
    ("spent != spent", [0, 0, 1, 0]),
    ("member == True", [1, 0, 1, 0]),
]
ESCAPES = [
    "@__import__('os').system('touch pwned')",
    "age > 3 or @__import__('os').system('touch pwned')",
    "@pd.eval(\"__import__('os').system('touch pwned')\", engine='python') or age > 3",
    "__import__('os').system('touch pwned') == 0 and age > 1",
    "age.__class__.__init__.__globals__['__builtins__']['eval']('1') == 1",
    "age.str.__class__ == 1",
    "city.str.len().__array__() == 1",
    "city.str._parent == 1",
    "city.str._data.to_csv('pwned') == 1",
    "city.str.lower().to_csv('pwned') == 1",
    "city.str.lower().to_pickle('pwned') == 1",
    "city.str.len().pipe(print) == 1",
    "city.str.len().map(eval) == 1",
    "age.to_csv('pwned') == None",
    "age.map(lambda x: __import__('os').system('touch pwned')) == 0",
    "(lambda: age)() > 1",
    "f\"{__import__('os').system('touch pwned')}\" == city",
    "f'{age}' == city",
    "age.query('1') == 1",
    "age.eval('1') == 1",
    "pd.eval('1') == age",
    "eval('1') == age",
    "exec('1') == age",
    "open('pwned', 'w') == age",
    "getattr(age, 'to_csv')('pwned') == 1",
    "age @ spent > 1",
    "age[__import__('os').system('touch pwned')] > 1",
    "[__import__('os').system('touch pwned') for x in [1]] == age",
    "{age: 1} == age",
    "age if member else open('pwned', 'w')",
    "(x := open('pwned', 'w')) == age",
    "city == '`' or @__import__('os').system('touch pwned') or city == '`'",
    "`age` > 1 or `@__import__('os').system('touch pwned')`",
    "`__import__('os').system('touch pwned')` == 1",
    "city == 'a' \\\n or @__import__('os').system('touch pwned')",
    "age > 1; __import__('os').system('touch pwned')",
    "age > 1\n__import__('os').system('touch pwned')",
    "big = age > 1",
    "age.str.format(1) == 1",
    "city.str.cat(sep='x') == 'a'",
    "city.str.repeat(1000000000) == 'a'",
    "city.str.zfill(1000000000) == 'a'",
    "city.str.replace('a', open('pwned', 'w')) == 'a'",
    "abs(age, out=open('pwned', 'w')) > 1",
    "abs(*[age]) > 1",
    "abs(**{'x': age}) > 1",
    "'%1000000000d' % age == city",
    "city * 1000000000 == 'a'",
    "9 ** 9 ** 9 > age",
    "1 << 10000000000 > age",
    "age is None",
    "await age",
    "(yield age)",
    "age > ...",
    "age > 1j",
    "city == b'a'",
    "age.mean() > 1",
    "age.shift(1) > 1",
    "age in city",
    "max(age) > 1",
    "",
    "()",
    "3 > 2",
    "-" * 1500 + "age",
    "(" * 500 + "age" + ")" * 500,
    "age > 1 or " * 400 + "age > 1",
]


@pytest.mark.parametrize(("expression", "rows"), MEANT)
def test_what_an_expression_means(expression: str, rows: list[int]) -> None:
    assert holds(expression, FRAME).astype(int).tolist() == rows


def test_the_same_as_pandas_where_both_answer() -> None:
    for expression, rows in MEANT:
        if "`" not in expression:
            theirs = FRAME.drop(columns=ODD).eval(expression, engine="python")
            plain = [bool(value) and value == value for value in theirs]
            assert list(map(int, plain)) == rows, expression


@pytest.mark.parametrize("expression", ESCAPES)
def test_escapes_are_refused_and_run_nothing(
    expression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"\S"):
        holds(expression, FRAME)
    assert list(tmp_path.iterdir()) == []


def test_ten_thousand_mixtures_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of escapes and of conditions in any order: an answer per row, or a ValueError."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(14)  # noqa: S311 - nothing secret
    pieces = [
        *("age", "city", "`a name`", f"`{ODD}`", "@", "__import__('os')", ".system('touch x')"),
        *(".str", ".dt", ".len()", ".lower()", ".to_csv('x')", ".__class__", "(", ")", "'", '"'),
        *("`", "lambda x:", "f'{age}'", "[", "]", "1", "'Rome'", " and ", " or ", " not ", "=="),
        *(">", "+", "**", "%", " in ", "&", "|", "~", ":=", ",", "\n", "\\", ".query('1')", "#"),
    ]
    answers = 0
    for _ in range(10_000):
        expression = "".join(draw.choices(pieces, k=draw.randint(1, 9)))
        with suppress(ValueError):
            answers += len(holds(expression, FRAME)) == len(FRAME)
    assert list(tmp_path.iterdir()) == []
    assert answers, "some of them are conditions"


def test_no_text_reaches_an_evaluator_of_pandas() -> None:
    others = [
        path
        for path in Path(module.__file__).parents[1].rglob("*.py")
        if any(part in path.read_text() for part in (".eval(", ".query(", "pd.eval"))
    ]
    assert others == []


def test_columns_are_named_once_and_in_order() -> None:
    assert columns_of("b > a and `a name` == 1 or b < 3", ["a", "b", "a name"]) == (
        "b",
        "a",
        "a name",
    )
    with pytest.raises(ValueError, match="names 'heigth', which the columns do not have: height"):
        columns_of("heigth > 3", ["height"])
