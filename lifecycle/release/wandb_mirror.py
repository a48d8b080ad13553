"""Weights & Biases as a mirror of a model's MLflow run: the same numbers in a run there.

MLflow stays the record that everything else reads; a mirror that fails is a warning. wandb runs in
a process of its own, so that nothing it starts, patches or waits for reaches a training.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.settings import Settings

if TYPE_CHECKING:
    from lifecycle.records import Bundle, Trained

logger = logging.getLogger(__name__)

TIMEOUT_S = 60
"""Time after which the mirror is given up."""
FAILED = 1
ID_LENGTH = 32
"""Characters of an identity that name its run, so that a model is mirrored once."""
EXTRA = "pip install 'lifecycle-flows[wandb]'"
LAST_LINES = 3
"""Of wandb's own messages, in a warning."""


def mirror_run(
    settings: Settings, trained: "Trained", bundle: "Bundle", numbers: Mapping[str, float]
) -> None:
    """Send the numbers of a registered model to Weights & Biases, where settings say so.

    Where and as whom wandb's own variables say: `WANDB_API_KEY`, `WANDB_ENTITY`, `WANDB_MODE`.

    Args:
        trained: with the registered version.
        numbers: metrics by the names they have in MLflow.
    """
    if not settings.wandb:
        return
    model = trained.model
    content = {
        "project": settings.wandb,
        "id": model.identity[:ID_LENGTH],
        "name": f"{model.name} v{model.version}",
        "group": model.name,
        "tags": [settings.env, "passed" if trained.decision.passed else "not passed"],
        "notes": "\n".join(trained.decision.reasons),
        "folder": str(settings.home.resolve()),
        "config": {
            **{f"parameters/{key}": value for key, value in trained.tuned.parameters.items()},
            **{f"identity/{key}": value for key, value in trained.identity},
            "mlflow_run": model.run_id,
            "bundle": model.digest,
            "train": f"{trained.split.train.uri}@{trained.split.train.version}",
        },
        "curve": {part: list(values) for part, values in bundle.curve.items()},
        "summary": dict(numbers),
    }
    command = [sys.executable, "-P", "-m", __name__]
    try:
        process = subprocess.run(  # noqa: S603
            command,
            input=json.dumps(content, default=str),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=os.environ | {"WANDB_SILENT": "true", "WANDB_DISABLE_CODE": "true"},
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        logger.warning("%s v%d is not in Weights & Biases: %s", model.name, model.version, error)
        return
    if process.returncode:
        reason = " ".join(process.stderr.strip().splitlines()[-LAST_LINES:])
        logger.warning("%s v%d is not in Weights & Biases: %s", model.name, model.version, reason)


def main() -> int:
    """Write the run that stdin describes, with wandb."""
    content: dict[str, Any] = json.load(sys.stdin)
    try:
        import wandb
    except ImportError as error:
        sys.stderr.write(f"{error}: {EXTRA}\n")
        return FAILED
    keys = ("project", "id", "name", "group", "tags", "notes", "config")
    Path(content["folder"]).mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        dir=content["folder"],
        resume="allow",
        reinit="finish_previous",
        **{key: content[key] for key in keys},
    )
    parts = content["curve"]
    rounds = max((len(values) for values in parts.values()), default=0)
    for at in range(rounds):
        scores = {f"curve/{part}": values[at] for part, values in parts.items() if at < len(values)}
        run.log(scores, step=at + 1)
    run.summary.update(content["summary"])
    run.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
