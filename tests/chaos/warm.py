"""A process that has imported everything and run nothing; each order runs in a fork of it.

Orders are JSON lines on stdin, answers on stdout. It is started with the library of `faults.c`.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

KINDS = {"kill": 1, "full": 2}
STAGE_S = 60
"""A stage that takes longer hangs."""


def main(library: str, folder: Path) -> None:
    """Answer orders until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(folder.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)
    faults = ctypes.CDLL(library)
    faults.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
    faults.fault_calls.restype = ctypes.c_long
    _preload()
    print(json.dumps({"threads": len(os.listdir("/proc/self/task"))}), file=answers)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line), folder, faults)), file=answers)


def _preload() -> None:
    import deltalake
    import matplotlib.figure
    import mlflow.pyfunc
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.xgboost  # noqa: F401
    import xgboost  # noqa: F401

    from lifecycle.release.mlflow_store import load_mlflow
    from lifecycle.settings import Settings
    from tasks.policies import pin_code
    from tests.chaos import stages, state  # noqa: F401

    pin_code()  # of what all forks run, also if a file is edited meanwhile
    load_mlflow(Settings.load(None))
    stages.replace_endpoint()
    stages.hurry()
    assert deltalake
    assert matplotlib.figure


def _answer(order: dict[str, Any], folder: Path, faults: Any) -> dict[str, Any]:
    """Carry out an order in a fork; how it ended, and what it says."""
    begun = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 70
        try:
            signal.alarm(STAGE_S)
            with os.fdopen(writer, "w") as said:
                code = _do(order, folder, faults, said)
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - begun
    answer = json.loads(text) if text else {}
    return answer | {"exit": os.waitstatus_to_exitcode(status), "seconds": seconds}


def _do(order: dict[str, Any], folder: Path, faults: Any, said: Any) -> int:
    from lifecycle.errors import LifecycleError, full_disk
    from lifecycle.project.loader import load_project
    from lifecycle.settings import Settings
    from tests.chaos import stages
    from tests.chaos.state import state_of

    settings = Settings.load(None)
    answer: dict[str, Any] = {}
    code = 0
    try:
        if order["do"] == "before":
            stages.before(order["stage"], folder)
        elif order["do"] == "state":
            project = load_project(folder / "project.yaml")
            answer["state"] = json.loads(json.dumps(state_of(project, settings), default=_plain))
        else:
            faults.fault_arm(
                str(settings.home).encode(), order.get("at", 0), KINDS.get(order.get("kind"), 0)
            )
            try:
                stages.run(order["stage"], folder)
            finally:
                answer["calls"] = faults.fault_calls()
                faults.fault_arm(b"/nowhere", 0, 0)
    except LifecycleError as error:
        answer["error"] = f"{type(error).__name__}: {error}"
        code = 2
    except OSError as error:  # as a command tells it
        full = full_disk(error)
        answer["error"] = full or f"traceback: {type(error).__name__}: {error}"
        code = 2 if full else 1
    except BaseException as error:
        traceback.print_exc()
        answer["error"] = f"traceback: {type(error).__name__}: {error}"
        code = 1
    with contextlib.suppress(BrokenPipeError):
        said.write(json.dumps(answer))
    sys.stdout.flush()
    return code


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
