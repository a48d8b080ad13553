"""Routes each request to the champion (this replica) or to the candidate (its own Serve app).

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
from lifecycle.records import ModelVersion, Traffic
from lifecycle.serving.predictor import ServedModel
from lifecycle.serving.protocols.oip import check_model
from lifecycle.serving.records import Answer, PredictionRequest
from lifecycle.training.bundle import BundleSchema

logger = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds the candidate may take before the champion answers in its place."""
REST_SECONDS = 1.0
"""Seconds without requests for a candidate that was late or is gone."""
SHADOWS = 64
"""Requests that may wait for the shadow; beyond them it is not asked."""

Role = Literal["champion", "candidate", "shadow"]


class RoutedAnswer(NamedTuple):
    """Answer of one version, for the prediction log."""

    role: Role
    answer: Answer | None
    """None: it failed."""
    seconds: float
    refused: RequestError | None = None
    """Why the candidate takes no such request."""


class NoAnswerError(RequestError):
    """The candidate, asked for by its number, is late or gone."""

    status = 503


def candidate_name(project_name: str) -> str:
    """The Serve application in which a candidate runs."""
    return f"{project_name}-candidate"


def place(key: bytes, salt: str) -> float:
    """Map an entity to a number in [0, 1). Entities below the share go to the candidate.

    The salt differs per candidate, so that each meets other entities first.
    """
    digest = blake2b(key, digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest, "big") / 2**64


class Lanes:
    """Follows `Traffic` for one replica.

    Args:
        model: the champion, loaded here.
    """

    record: Callable[[PredictionRequest, str, str, int, RoutedAnswer], None]
    """Takes what the candidate said or failed to say, for the log; set by the endpoint."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._traffic = Traffic()
        self._handle: Any = None
        self._resting_until = 0.0
        self._shadows: set[asyncio.Task[None]] = set()
        self._schema: tuple[str, BundleSchema] | None = None

    def follow(self, traffic: Traffic) -> None:
        """Route requests by this setting from now on."""
        from ray import serve

        if traffic.candidate is not None and traffic.policy != "straight":
            self._handle = serve.get_app_handle(candidate_name(self._model.project.name))
        else:
            self._handle = None
        self._traffic = traffic

    @property
    def shared(self) -> bool:
        """Return whether a candidate shares the traffic, and its lease has not run out."""
        if self._handle is None:
            return False
        if time.time() >= self._traffic.expires_at:  # whoever rolls out has died
            logger.error("the rollout's lease has run out: the champion answers all requests")
            self._handle = None
            return False
        return True

    @property
    def candidate(self) -> ModelVersion | None:
        """The version that may be asked for beside the champion; a shadow answers nobody."""
        return self._traffic.candidate if self._traffic.policy == "canary" and self.shared else None

    def role_of(self, version: str) -> Role | None:
        """Return the role of the version that a path names; None if the path names none.

        Raises:
            NotServedError: the version is neither the champion's nor the candidate's.
        """
        if not version:
            return None
        candidate, champion = self.candidate, self._model.model
        if candidate is not None and version == str(candidate.version):
            return "candidate"
        check_model(champion.name, version, champion)
        return "champion"

    async def candidate_schema(self) -> BundleSchema:
        """Return the schema of the candidate's requests and answers.

        Raises:
            NoAnswerError: the candidate does not answer, or is not there any more.
        """
        candidate = self.candidate
        if candidate is None:
            raise NoAnswerError("there is no candidate any more")
        if self._schema is None or self._schema[0] != candidate.digest:
            try:
                schema = await asyncio.wait_for(self._handle.schema.remote(), PATIENCE)
            except Exception as error:  # whatever Ray raises when a replica is gone or late
                logger.warning("the candidate does not say its schema: %s", type(error).__name__)
                raise NoAnswerError(f"version {candidate.version} does not answer") from None
            self._schema = candidate.digest, schema
        return self._schema[1]

    async def answer(
        self, request: PredictionRequest, name: str, body: bytes, key: str, only: Role | None = None
    ) -> RoutedAnswer:
        """The answer of whichever version this request belongs to.

        Args:
            name: the prediction id.
            body: stands for the entity where the request does not say it.
            key: name of the API key, for the log.
            only: the version the client asked for by its number.

        Raises:
            RequestError: the champion refuses the request, or the candidate one that names it.
            NoAnswerError: a request names the candidate, and it does not answer.
            FeatureError: the champion's features hook fails.
        """
        if self._traffic.policy == "shadow" and only is None:
            outcome = self._champion(request, name)
            self._in_shadow(request, name, key)
            return outcome
        if only == "candidate" or (only is None and self._is_candidates(request, body)):
            outcome = await self._candidate(request, name, "candidate")
            if outcome.answer is not None:
                return outcome
            if only is not None:  # nobody answers in the name of another version
                if outcome.refused is not None:
                    raise outcome.refused
                self._record_candidates(request, name, key, outcome)
                raise NoAnswerError("the version of this path does not answer")
            instead = self._champion(request, name)  # if it refuses too, the request is to blame
            self._record_candidates(request, name, key, outcome)
            return instead
        return self._champion(request, name)

    def _champion(self, request: PredictionRequest, name: str) -> RoutedAnswer:
        started = time.perf_counter()
        answer = self._model.answer(request, name)
        return RoutedAnswer("champion", answer, time.perf_counter() - started)

    def _is_candidates(self, request: PredictionRequest, body: bytes) -> bool:
        if time.monotonic() < self._resting_until:
            return False
        entities: Sequence[Any] | Any = self._model.entities(request)
        has_entity = entities is not None and len(entities) > 0 and entities[0] is not None
        key = str(entities[0]).encode() if has_entity else body
        candidate = self._traffic.candidate
        salt = candidate.digest if candidate else ""
        return place(key, salt) < self._traffic.share

    async def _candidate(self, request: PredictionRequest, name: str, role: Role) -> RoutedAnswer:
        """Ask the candidate. The result has no answer if it fails, refuses or is late."""
        started = time.perf_counter()
        try:
            result = await asyncio.wait_for(self._handle.answer.remote(request, name), PATIENCE)
        except Exception as error:  # whatever Ray raises when a replica is gone or late
            logger.warning("the candidate did not answer %s: %s", name, type(error).__name__)
            self._resting_until = time.monotonic() + REST_SECONDS
            return RoutedAnswer(role, None, time.perf_counter() - started)
        if isinstance(result, RequestError):
            return RoutedAnswer(role, None, time.perf_counter() - started, result)
        answer, seconds = result
        return RoutedAnswer(role, answer, seconds)

    def _in_shadow(self, request: PredictionRequest, name: str, key: str) -> None:
        if len(self._shadows) >= SHADOWS or time.monotonic() < self._resting_until:
            return

        async def follow() -> None:
            outcome = await self._candidate(request, name, "shadow")
            self._record_candidates(request, name, key, outcome)

        task = asyncio.get_running_loop().create_task(follow())
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    def _record_candidates(
        self, request: PredictionRequest, name: str, key: str, outcome: RoutedAnswer
    ) -> None:
        candidate = self._traffic.candidate
        if candidate is not None:
            self.record(request, name, key, candidate.version, outcome)
