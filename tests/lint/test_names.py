from pathlib import Path

from tests.lint import names

ROOT = Path(__file__).parents[2]


def test_that_no_name_is_a_participle_and_no_class_name_occurs_twice() -> None:
    assert list(names.problems(ROOT)) == []


def test_that_a_participle_and_a_second_class_of_a_name_are_reported(tmp_path: Path) -> None:
    code = "class Row:\n    _kept = 1\n\n\ndef f(one, known_columns):\n    self.found = one\n"
    for name in ("a.py", "b.py"):
        file = tmp_path / "lifecycle" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code if name == "a.py" else "class Row: ...\n")
    assert sorted(names.problems(tmp_path)) == [
        "lifecycle/a.py:2: _kept: say what it is, with a noun",
        "lifecycle/a.py:5: one: say what it is, with a noun",
        "lifecycle/a.py:6: found: say what it is, with a noun",
        "lifecycle/b.py:1: Row: say another name, lifecycle/a.py:1 has this one",
    ]


def test_that_a_public_docstring_that_begins_with_a_clause_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "flows" / "a.py"
    file.parent.mkdir()
    file.write_text(
        '"""How it runs."""\n\n\ndef f():\n    """Whether it does so, or not."""\n\n\n'
        'def _g():\n    """Whether it does."""\n\n\nclass C:\n    """Fields of a row."""\n'
    )
    assert list(names.problems(tmp_path)) == [
        "flows/a.py:1: How it runs. …: begin a docstring with a verb or a noun",
        "flows/a.py:4: Whether it does …: begin a docstring with a verb or a noun",
    ]
