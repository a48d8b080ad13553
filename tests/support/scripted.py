"""A lane without a server, whose numbers a test scripts, and a clock that does not wait."""

from collections.abc import Callable, Sequence

from lifecycle.audit.model_trail import Trail
from lifecycle.errors import ServingError
from lifecycle.project import RolloutSpec
from lifecycle.records import Decision, Endpoint, ModelVersion, Observed, Traffic
from lifecycle.release.registry import CHAMPION, by_alias
from lifecycle.release.rollout import Clock, Handover, Sight
from lifecycle.settings import Settings

GATE = Decision(gate="promotion", passed=True, reasons=("Better than champion v1.",))


class Killed(BaseException):
    """Stands for a SIGKILL: nothing that follows in the process may matter."""


class Times:
    """Seconds that pass only in `sleep`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep)


class FakeLane:
    """Keeps what is served; `calls` are in order; `fails` maps a call to its error."""

    def __init__(self, served: ModelVersion | None, settings: Settings) -> None:
        self.served, self.settings = served, settings
        self.candidate: ModelVersion | None = None
        self.traffic = Traffic()
        self.calls: list[str] = []
        self.leases: list[float] = []
        self.champions: list[int | None] = []
        """The alias at each deployment."""
        self.fails: dict[str, BaseException] = {}

    def serving(self) -> ModelVersion | None:
        return self.served

    def rehearse(self, model: ModelVersion) -> None:
        self._call(f"rehearse v{model.version}")

    def deploy(self, model: ModelVersion) -> Endpoint:
        champion = by_alias("small", CHAMPION, self.settings)
        self.champions.append(champion.version if champion else None)
        self._call(f"deploy v{model.version}")
        self.served, self.traffic = model, Traffic()
        return Endpoint(
            url="http://x",
            application="small",
            model=model,
            smoke_rows=1,
            p50_milliseconds=1.0,
            p99_milliseconds=2.0,
            curl="",
        )

    def start_candidate(self, model: ModelVersion) -> None:
        self._call(f"start v{model.version}")
        self.candidate = model

    def set_traffic(self, traffic: Traffic) -> None:
        if self.served is None:
            raise ServingError("small is not served")
        self._call(f"{traffic.policy} {traffic.share:g}")
        self.traffic = traffic
        self.leases.append(traffic.expires_at)

    def stop_candidate(self) -> None:
        self._call("stop")
        self.candidate = None

    def _call(self, name: str) -> None:
        if name in self.fails:
            raise self.fails[name]
        self.calls.append(name)


def observed(
    version: int,
    requests: int = 200,
    errors: int = 0,
    p50: float = 0.002,
    p99: float = 0.004,
    predictions: Sequence[float | str] | None = None,
) -> Observed:
    answered = requests - errors
    said = [(i + 0.5) / answered for i in range(answered)] if predictions is None else predictions
    return Observed(
        version=version,
        requests=requests,
        errors=errors,
        p50_seconds=p50,
        p99_seconds=p99,
        predictions=tuple(said),
        ids=tuple(map(str, range(len(said)))),
    )


def well(challenger: ModelVersion, champion: ModelVersion | None) -> Callable[[float], Sight]:
    """Both do the same at every look."""
    at = champion.version if champion else 0
    return lambda since: Sight(observed(at), observed(challenger.version))


def handover(
    lane: FakeLane,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    times: Times | None = None,
    watch: Callable[[float], Sight] | None = None,
    told: list[str] | None = None,
    **spec: object,
) -> Handover:
    return Handover(
        challenger=challenger,
        champion=champion,
        decision=GATE,
        lane=lane,
        trail=Trail(lane.settings, "small", "tester"),
        spec=RolloutSpec.model_validate({"bake_seconds": 3, **spec}),
        watch=watch or well(challenger, champion),
        tell=lambda text, stays: told.append(text) if stays and told is not None else None,
        clock=(times or Times()).clock(),
    )


def trail(settings: Settings) -> list[str]:
    return [f"{c.action} v{c.version}" for c in Trail(settings, "small", "").changes()]
