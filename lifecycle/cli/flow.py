"""The start of a flow from the shell: by a process that is ready for it, or by this one."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import NoReturn

from lifecycle.runtime.fork_server import conditions, run_forked

PREDICTING = ("score",)
"""Flows that predict as a replica does, and like it without XGBoost's scikit-learn estimators."""
ENV_FLAGS = ("--env", "--to")
HELP = {"-h", "--help"}


def run_flow(
    name: str, arguments: Sequence[str] | None = None, program: str | None = None
) -> NoReturn:
    """Run the command of `flows/NAME.py` and end the process."""
    options = list(sys.argv[1:] if arguments is None else arguments)
    key = hand_over(name, options, program)
    run: Callable[..., NoReturn] = import_module("flows.command").run_flow
    run(name, options, program, key)


def hand_over(name: str, arguments: list[str], program: str | None) -> str | None:
    """Have a process that is ready do the work, and end as it does.

    Returns only if there is none: the conditions under which one may be left for the next script.
    """
    if HELP & set(arguments):
        return None
    # nothing is left for other environments than that of the settings
    environment = [text for text in arguments if text.startswith(ENV_FLAGS)]
    environment += [value for flag, value in pairwise(arguments) if flag in ENV_FLAGS]
    key = conditions(f"{name in PREDICTING} {environment}")
    if key:
        run_forked(key, name, arguments, program)
    return key
