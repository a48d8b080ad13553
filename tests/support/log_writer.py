"""A replica's log without a replica: answers made up at a given pace, until it is killed.

python -m tests.support.log_writer PROJECT HOME NAME REQUESTS_A_SECOND SECONDS MODE
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import ModelVersion
from lifecycle.serving.metrics import Meters
from lifecycle.serving.prediction_log import PredictionLog
from lifecycle.serving.records import Answer, PredictionRequest
from lifecycle.serving.traffic import RoutedAnswer
from lifecycle.settings import Settings

STEP = 0.02


def model_of(name: str, version: int = 1) -> ModelVersion:
    return ModelVersion(
        name=name,
        version=version,
        uri=f"models:/{name}/{version}",
        run_id="",
        digest=f"digest{version}",
        identity="i",
    )


def metrics_folder(settings: Settings, project: Project) -> Path:
    return settings.home / "metrics" / project.name


def open_log(
    settings: Settings, project: Project, version: int = 1
) -> tuple[Meters, PredictionLog]:
    meters = Meters(metrics_folder(settings, project), model_of(project.name, version), "champion")
    return meters, PredictionLog(settings, project, meters)


def said(name: str, predictions: Any, version: int = 1, role: Any = "champion") -> RoutedAnswer:
    answer = Answer(
        id=name, model=model_of("small", version), predictions=np.asarray(predictions, dtype=float)
    )
    return RoutedAnswer(role, answer, 0.002)


def main(project: Project, settings: Settings, name: str, rate: float, seconds: float) -> None:
    meters, log = open_log(settings, project)
    rows = [{"age": 41.5, "visits": 3, "city": "Rome"}, {"age": None, "visits": 4, "city": "Oslo"}]
    asked, number, started = PredictionRequest(rows=2, records=rows), 0, time.monotonic()
    while (now := time.monotonic() - started) < seconds:
        while number < rate * now:
            log.add(f"{name}{number}", 1, said(name, [0.25, 0.75]), "key", None, asked)
            number += 1
            if number % 1000 == 0 and time.monotonic() - started > seconds:
                break
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        time.sleep(STEP)
    log.close()
    meters.close()


if __name__ == "__main__":
    file, home, called, pace, length, mode = sys.argv[1:]
    if mode == "dies-after-commit":
        PredictionLog._set_written = lambda *_: os.kill(  # type: ignore[method-assign, assignment, return-value]
            os.getpid(), signal.SIGKILL
        )
    main(load_project(file), Settings(home=Path(home)), called, float(pace), float(length))
