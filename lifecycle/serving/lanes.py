"""Who answers a request while two versions are up: the champion here, or the candidate elsewhere.

The candidate is a Serve application of its own, so whatever it does cannot hurt this replica: if it
fails, refuses or is late, the champion answers, and the failure counts as the candidate's.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

from lifecycle.errors import RequestError
from lifecycle.records import Traffic
from lifecycle.serving.predictor import ServedModel
from lifecycle.serving.wire import Answer, Asked

logger = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds the candidate may take before the champion answers in its place."""
REST = 1.0
"""Seconds without requests for a candidate that was late or is gone."""
SHADOWS = 64
"""Requests that may wait for the shadow; beyond them it is not asked."""

Role = Literal["champion", "candidate", "shadow"]


class Said(NamedTuple):
    """What one version said, for the prediction log."""

    role: Role
    answer: Answer | None
    """None: it failed."""
    seconds: float


def candidate_name(project_name: str) -> str:
    """The Serve application in which a candidate runs."""
    return f"{project_name}-candidate"


def place(key: bytes, salt: str) -> float:
    """Where in [0, 1) an entity stands; those below the share are the candidate's.

    The salt makes each candidate meet other entities first.
    """
    digest = blake2b(key, digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest, "big") / 2**64


class Lanes:
    """Follows `Traffic` for one replica.

    Args:
        model: the champion, loaded here.
    """

    record: Callable[[Asked, str, str, int, Said], None]
    """Takes what the candidate said or failed to say, for the log; set by the endpoint."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._traffic = Traffic()
        self._handle: Any = None
        self._resting_until = 0.0
        self._shadows: set[asyncio.Task[None]] = set()

    def follow(self, traffic: Traffic) -> None:
        """From now on share the requests like this."""
        from ray import serve

        if traffic.candidate is not None and traffic.policy != "straight":
            self._handle = serve.get_app_handle(candidate_name(self._model.project.name))
        else:
            self._handle = None
        self._traffic = traffic

    @property
    def shared(self) -> bool:
        """Whether there is a candidate at all; the champion needs no lanes without."""
        if self._handle is None:
            return False
        if time.time() >= self._traffic.expires_at:  # whoever rolls out has died
            logger.error("the rollout's lease has run out: the champion answers all requests")
            self._handle = None
            return False
        return True

    def candidate_version(self) -> int | None:
        """The candidate's version, if there is one."""
        candidate = self._traffic.candidate
        return candidate.version if candidate is not None and self.shared else None

    async def answer(
        self, asked: Asked, name: str, body: bytes, key: str, only: Role | None = None
    ) -> Said:
        """The answer of whichever version this request belongs to.

        Args:
            name: the prediction id.
            body: stands for the entity where the request does not say it.
            key: name of the API key, for the log.
            only: the version the client asked for by its number.

        Raises:
            RequestError: the champion refuses the request.
            FeatureError: the champion's features hook fails.
        """
        if self._traffic.policy == "shadow" and only is None:
            said = self._champion(asked, name)
            self._in_shadow(asked, name, key)
            return said
        if only == "candidate" or (only is None and self._is_candidates(asked, body)):
            said = await self._candidate(asked, name, "candidate")
            if said.answer is not None:
                return said
            instead = self._champion(asked, name)  # if it refuses too, the request is to blame
            self._record_candidates(asked, name, key, said)
            return instead
        return self._champion(asked, name)

    def _champion(self, asked: Asked, name: str) -> Said:
        started = time.perf_counter()
        answer = self._model.answer(asked, name)
        return Said("champion", answer, time.perf_counter() - started)

    def _is_candidates(self, asked: Asked, body: bytes) -> bool:
        if time.monotonic() < self._resting_until:
            return False
        entities: Sequence[Any] | Any = self._model.entities(asked)
        known = entities is not None and len(entities) > 0 and entities[0] is not None
        key = str(entities[0]).encode() if known else body
        candidate = self._traffic.candidate
        salt = candidate.digest if candidate else ""
        return place(key, salt) < self._traffic.share

    async def _candidate(self, asked: Asked, name: str, role: Role) -> Said:
        """What the candidate says; without an answer if it fails, refuses or is late."""
        started = time.perf_counter()
        try:
            said = await asyncio.wait_for(self._handle.answer.remote(asked, name), PATIENCE)
        except Exception as error:  # whatever Ray raises when a replica is gone or late
            logger.warning("the candidate did not answer %s: %s", name, type(error).__name__)
            self._resting_until = time.monotonic() + REST
            return Said(role, None, time.perf_counter() - started)
        if isinstance(said, RequestError):
            return Said(role, None, time.perf_counter() - started)
        answer, seconds = said
        return Said(role, answer, seconds)

    def _in_shadow(self, asked: Asked, name: str, key: str) -> None:
        if len(self._shadows) >= SHADOWS or time.monotonic() < self._resting_until:
            return

        async def follow() -> None:
            said = await self._candidate(asked, name, "shadow")
            self._record_candidates(asked, name, key, said)

        task = asyncio.get_running_loop().create_task(follow())
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    def _record_candidates(self, asked: Asked, name: str, key: str, said: Said) -> None:
        candidate = self._traffic.candidate
        if candidate is not None:
            self.record(asked, name, key, candidate.version, said)
