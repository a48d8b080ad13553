"""In whose name a version is changed."""

import getpass

from prefect.runtime import deployment, flow_run

from lifecycle.audit.model_trail import Trail
from lifecycle.project import Project
from lifecycle.settings import Settings


def trail_of(project: Project, settings: Settings) -> Trail:
    """The project's audit trail, in the name of whoever runs this flow."""
    return Trail(settings, project.name, who())


def who() -> str:
    """The user, or where a schedule or an event started it the deployment; and the flow run."""
    return f"{starter()}, flow run {flow_run.name}" if flow_run.name else starter()


def starter() -> str:
    """Who started this flow: the user, or the deployment where a schedule or an event did."""
    return f"deployment {deployment.name}" if deployment.name else _user()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown user"
