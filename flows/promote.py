"""promote: champion of one environment → same bundle, gated and approved → release in the next."""

if __name__ == "__main__":
    from lifecycle.cli.flow import run_flow

    run_flow("promote")

import argparse
from typing import Annotated

from pydantic import Field

from flows.command import ENV, REASON, TO, Command, Option, at_least_one
from flows.prepare import prepare
from lifecycle.environments import Environment
from lifecycle.errors import GateError
from lifecycle.project import Project
from lifecycle.project.loader import ProjectFile
from lifecycle.records import Approval, Decision, Promotion
from lifecycle.settings import Settings
from tasks.cluster import ray_cluster, running_cluster
from tasks.exclusive import exclusive
from tasks.promotion import (
    accept,
    ask_approval,
    conclude,
    decline,
    duel_of,
    judge,
    propose,
    require_approver,
    require_origin,
    say_plan,
)
from tasks.quality import checks_program
from tasks.release import require_name, require_port
from tasks.rollout import keep, roll_out
from tasks.runs import flow


@flow(flow_run_name="promote-{project.name}")  # not exclusive: an approval may take a day
def promote(
    project: ProjectFile,
    env: Environment | None = None,
    origin: Environment | None = None,
    version: Annotated[int, Field(ge=1)] | None = None,
    approved_by: str = "",
    because: str = "",
    reason: str = "",
) -> Promotion:
    """Bring the champion of another environment here, as the same bundle, and release it.

    The gate decides on this environment's own data, then a person where LIFECYCLE_APPROVAL says so.
    `version` takes an earlier champion of the other environment, to go back to it. Of two
    promotions at once one goes on; the other changes nothing and says why.
    """
    settings = Settings.load(env)
    origin = require_origin(settings, origin)
    require_approver(settings, approved_by, because)
    require_name(project, settings)
    say_plan(project, settings, origin, bool(approved_by))
    proposal = propose(project, settings, origin, version)
    if proposal.refusal:
        refused = Decision(gate="rollback", passed=False, reasons=(proposal.refusal,))
        return decline(project, settings, proposal, refused)
    judgement, approval = None, None
    if not proposal.is_champion:
        with running_cluster(settings):
            prepared = prepare(project, env)
            with checks_program(settings) as program:
                judgement = judge(project, settings, proposal, prepared.split, program)
        if not judgement.decision.passed:
            return decline(project, settings, proposal, judgement.decision)
        option = Approval(who=approved_by, reason=because) if approved_by else None
        answer = ask_approval(project, settings, proposal, option)
        if isinstance(answer, Decision):
            decline(project, settings, proposal, answer)
            raise GateError(f"{proposal.offer} is not promoted: {' '.join(answer.reasons)}")
        approval = answer
    with exclusive(project, settings):
        if judgement:
            accepted = accept(project, settings, proposal, judgement, approval, reason)
            if isinstance(accepted, Decision):
                return decline(project, settings, proposal, accepted, approval)
        trained, duel = duel_of(project, settings, proposal, judgement)
        if proposal.is_settled and settings.local_ray:
            release = keep(project, settings, trained, duel)
        else:
            require_port(settings)
            with ray_cluster(settings):
                release = roll_out(project, settings, trained, duel, reason)
    return conclude(project, settings, proposal, approval, release)


FROM = Option(
    "--from",
    dest="origin",
    metavar="ENV",
    help="environment to promote from; by default what LIFECYCLE_PROMOTES_FROM names",
)
VERSION = Option(
    "--version",
    type=at_least_one,
    metavar="N",
    help="an earlier champion there, to go back to it; by default the champion",
)
APPROVED_BY = Option("--approved-by", metavar="NAME", default="", help="who approves it")
BECAUSE = Option("--because", metavar="TEXT", default="", help="why they do")


def _require_answers(options: argparse.Namespace, project: Project, settings: Settings) -> None:
    require_origin(settings, options.origin)
    require_approver(settings, options.approved_by, options.because)


command = Command(
    promote,
    (FROM, VERSION, APPROVED_BY, BECAUSE, REASON),
    lambda options: {
        "origin": options.origin,
        "version": options.version,
        "approved_by": options.approved_by,
        "because": options.because,
        "reason": options.reason,
    },
    before=_require_answers,
    cluster=True,
    env_flags=(ENV, TO),
)
