"""How a script's process ends: soon, with everything done that an exit owes."""

import logging
import subprocess
import sys
import time
from typing import Any

import pytest

from lifecycle.runtime.process import redact_records

CODE = """
import atexit, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from lifecycle.runtime.process import end_process

class Freed:
    def __del__(self):
        print("freed")

def late():
    time.sleep(0.2)
    print("thread")

kept = Freed()
idle = ThreadPoolExecutor(1)
idle.submit(int).result()
atexit.register(print, "handler")
threading.Thread(target=late).start()
print("last", end=" ")
end_process(3)
"""


def test_threads_and_handlers_are_waited_for_and_nothing_is_taken_apart() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "last thread\nhandler\n", "")


def test_age_counts_from_the_start_of_the_process_and_survives_exec() -> None:
    age = "from lifecycle.runtime.process import process_age; print(process_age())"
    then = f"os.execv(sys.executable, ['python', '-c', {age!r}])"
    command = f"import os, sys, time; time.sleep(1); {then}"
    started = time.monotonic()
    output = subprocess.run([sys.executable, "-c", command], capture_output=True, check=True).stdout
    assert 1.0 <= float(output) <= time.monotonic() - started + 0.1


def test_records_of_another_librarys_factory_are_redacted_and_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "planted-4711")
    before = logging.getLogRecordFactory()

    def stamped(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = logging.LogRecord(*args, **kwargs)
        record.stamp = 7
        return record

    logging.setLogRecordFactory(stamped)
    try:
        redact_records()
        factory = logging.getLogRecordFactory()
        redact_records()
        assert logging.getLogRecordFactory() is factory
        record = factory("x", logging.INFO, "", 0, "by %s", ("planted-4711",), None)
    finally:
        logging.setLogRecordFactory(before)
    assert record.getMessage() == "by ***"
    assert record.stamp == 7  # type: ignore[attr-defined]
