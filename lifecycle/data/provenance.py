"""What whatever is made says of its making: code, commit, run and who; lineage walks along it."""

import subprocess
from functools import cache

from lifecycle.identity import PACKAGE, code_digest
from lifecycle.run import current_run

GIT_SECONDS = 5.0


def provenance() -> dict[str, str]:
    """For a commit's note or the tags of a run; what is not known is left out.

    `code` is the digest of the `lifecycle` package, `commit` what Git says of the checkout it is
    in, `run` the flow run's id, `run_name` its name, `who` the user or deployment that started it.
    """
    run = current_run()
    known = {
        "code": code_digest(),
        "commit": git_commit(),
        "run": run.id,
        "run_name": run.name,
        "who": run.who,
    }
    return {key: value for key, value in known.items() if value}


@cache
def git_commit() -> str:
    """The checkout's commit, ending with `-dirty` where files differ from it; empty without Git."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        said = subprocess.run(  # noqa: S603 - our own arguments
            [*command, "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()
