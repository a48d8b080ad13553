"""Rules of this repository that no other tool has: `python -m tests.lint`."""

import sys
from pathlib import Path

from tests.lint import modules, names


def main(root: Path = Path()) -> int:
    """Print the problems, and return the exit code."""
    lines = [*names.problems(root), *modules.problems(root)]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
