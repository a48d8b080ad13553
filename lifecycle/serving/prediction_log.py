"""What a replica answered, on its way to the table `prediction_log`: gathered, never waited for."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from time import time_ns

import pyarrow as pa

from lifecycle.data.privacy import pii_key
from lifecycle.lake import table_uri
from lifecycle.lake.prediction_log import SWEEP_EVERY, TABLE, TIDY_EVERY, LogTable
from lifecycle.project import Project
from lifecycle.serving.lanes import Said
from lifecycle.serving.log_bodies import light
from lifecycle.serving.log_rows import Entry, LogRows
from lifecycle.serving.meters import ANSWERED, DROPPED, LOGGED, Meters
from lifecycle.serving.wire import Asked, Column
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

Raw = tuple[str, int, int, Said, str, Column | None, Asked]
"""""An `Entry`."""

MAX_ROWS = 50_000
"""Rows that wait to be written, at most; beyond them new ones are dropped and counted."""
MAX_BYTES = 64 * 2**20
"""Their memory as Arrow, at most."""
STEP_SECONDS = 0.25
"""How often what has gathered becomes Arrow: little at a time, for the sake of requests."""
FLUSH_STEPS = 4
"""Steps between two appends: one second."""
SWEEP_STEPS = 20
"""Steps between two looks for replicas that are gone."""
WARN_SECONDS = 60.0
CLOSE_SECONDS = 10.0
"""How long `close` waits for the last append."""


class PredictionLog:
    """The log of one replica; `add` belongs to one thread, the event loop's.

    Raises:
        SettingsError: the key of personal data cannot be read or made.
    """

    def __init__(self, settings: Settings, project: Project, meters: Meters) -> None:
        self._meters = meters
        self._writer = meters.counts.token
        self._cells = meters.counts.cells
        self._answered = meters.counts.cell(ANSWERED)
        self._written = meters.counts.cell(LOGGED)
        self._full = meters.counts.cell(DROPPED, reason="full")
        self._memory = meters.counts.cell(DROPPED, reason="memory")
        self._unreadable = meters.counts.cell(DROPPED, reason="unreadable")
        self._rows = LogRows(project, pii_key(settings))
        self._table = LogTable(table_uri(settings, project.name, TABLE))
        self._entries: deque[Raw] = deque()
        self._append = self._entries.append
        self._taken = 0
        """Rows ever accepted; `add` alone writes it."""
        self._gone = 0
        """Rows logged or given up since; the thread alone writes it."""
        self._waiting: list[pa.Table] = []
        self._unsure = False
        """Whether the last append failed, so that it may have come through all the same."""
        self._warned = -WARN_SECONDS
        self._tidying: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(
        self,
        name: str,
        version: int,
        said: Said,
        key: str,
        entities: Column | None,
        asked: Asked,
    ) -> None:
        """Have an answer logged within about a second; it neither waits nor raises.

        Args:
            name: the prediction id; row i is `<name>-<i>`.
            key: name of the API key that asked.
            entities: (rows,), where the request says them.
        """
        rows = asked.rows
        self._cells[self._answered] += rows
        if self._taken - self._gone + rows > MAX_ROWS:
            self._cells[self._full] += rows
            return
        self._taken += rows
        self._append((name, time_ns(), version, said, key, entities, light(asked)))

    def close(self) -> None:
        """Append what has gathered and end; a lake that does not answer is not waited for long."""
        self._stop.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        step = 0
        while not self._stop.wait(STEP_SECONDS):
            self._gather()
            if step % SWEEP_STEPS == 0:
                self._sweep()
            step += 1
            if step % FLUSH_STEPS == 0:
                self._flush()
        self._gather()
        self._flush()

    def _gather(self) -> None:
        """Make Arrow of what has come, where little memory holds many rows."""
        entries = [Entry(*self._entries.popleft()) for _ in range(len(self._entries))]
        if not entries:
            return
        try:
            made = self._rows.table(entries)
        except Exception:  # one odd request must not cost the others
            made = self._one_by_one(entries)
        held = sum(table.nbytes for table in self._waiting)
        if held + made.nbytes > MAX_BYTES:
            self._give_up(made.num_rows, self._memory)
        elif made.num_rows:
            self._waiting.append(made)

    def _one_by_one(self, entries: list[Entry]) -> pa.Table:
        tables = [self._rows.schema.empty_table()]
        for entry in entries:
            try:
                tables.append(self._rows.table([entry]))
            except Exception:
                logger.exception("prediction %s cannot be logged", entry.id)
                self._give_up(entry.asked.rows, self._unreadable)
        return pa.concat_tables(tables)

    def _give_up(self, rows: int, reason: int) -> None:
        self._cells[reason] += rows
        self._gone += rows

    def _flush(self) -> None:
        """Append all that waits in one commit; if that fails it goes on waiting."""
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting)
        done = int(self._cells[self._written])
        try:
            if self._unsure:
                there = max(done, self._table.committed(self._writer))
                rows, done = rows.slice(there - done), self._done(there)
            if rows.num_rows:
                commit = self._table.append(rows, self._writer, done + rows.num_rows)
                self._done(done + rows.num_rows)
                self._tidy(commit)
            self._waiting, self._unsure = [], False
        except Exception as error:  # whatever a lake can do: answering goes on
            self._waiting, self._unsure = [rows], True
            self._warn(error)

    def _done(self, total: int) -> int:
        """So many rows of this replica are in the table."""
        self._gone += total - int(self._cells[self._written])
        self._cells[self._written] = total
        return total

    def _sweep(self) -> None:
        try:
            self._meters.sweep(self._table.committed)
        except Exception as error:  # as above
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if time.monotonic() - self._warned < WARN_SECONDS:
            return
        self._warned = time.monotonic()
        waiting = self._taken - self._gone
        logger.warning("predictions are not logged, %d rows wait: %s", waiting, error)

    def _tidy(self, commit: int) -> None:
        """In a process of its own, at low priority: it would cost requests time and memory."""
        if commit % TIDY_EVERY or (self._tidying is not None and self._tidying.poll() is None):
            return
        sweep = "sweep" if commit % (TIDY_EVERY * SWEEP_EVERY) == 0 else "keep"
        self._tidying = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "lifecycle.lake.prediction_log", self._table.uri, sweep],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.setpriority(os.PRIO_PROCESS, self._tidying.pid, 19)
