from pathlib import Path

from tests.lint import modules

ROOT = Path(__file__).parents[2]


def test_that_no_module_imports_itself_and_no_docstring_has_another_parameter() -> None:
    assert list(modules.problems(ROOT)) == []


def test_that_a_long_module_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "flows" / "a.py"
    file.parent.mkdir()
    file.write_text("\n" * 501)
    assert list(modules.problems(tmp_path)) == ["flows/a.py:500: 501 lines, and 500 are allowed"]


def test_that_both_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "tasks" / "a.py"
    file.parent.mkdir()
    file.write_text(
        "from tasks import a as b\n\n\ndef f(x):\n"
        '    """Do.\n\n    Args:\n        x: is there.\n        y: is not.\n    """\n'
    )
    assert list(modules.problems(tmp_path)) == [
        "tasks/a.py:1: imports itself",
        "tasks/a.py:4: f has no parameter y",
    ]
