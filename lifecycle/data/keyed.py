"""Which key a project's personal data were hashed with: under another one everybody is another."""

from lifecycle.data.privacy import FILE, pii_key, pseudonym
from lifecycle.errors import SettingsError
from lifecycle.lake import history, table_uri
from lifecycle.project import Project
from lifecycle.settings import Settings

NOTED = "pii_key"
"""In the commit of a version with hashed columns: the fingerprint of the key."""
PURPOSE = b"fingerprint\0"
"""Begins what is hashed, so that the fingerprint is no hash of a value."""
TABLES = ("accepted", "current")


def fingerprint(settings: Settings) -> str:
    """Tells two keys apart without telling either; 16 hexadecimal digits.

    Raises:
        SettingsError: the key cannot be read or made.
    """
    return (pseudonym([""], pii_key(settings), PURPOSE)[0] or "")[:16]


def check_key(project: Project, settings: Settings) -> None:
    """See that the key is the one that the newest versions were hashed with; none is made here.

    Raises:
        SettingsError: it is another one, or is gone.
        BackendError: the lake cannot be read.
    """
    for table in TABLES:
        notes = history(table_uri(settings, project.name, table)).to_dict("records")
        noted = [(one["version"], one["note"][NOTED]) for one in notes if NOTED in one["note"]]
        if not noted:
            continue
        file = settings.home / FILE
        there = settings.pii_key is not None or file.is_file()
        version, known = noted[-1]
        if not there or fingerprint(settings) != known:
            raise SettingsError(
                f"LIFECYCLE_PII_KEY: {table} version {version} of {project.name} was hashed with "
                f"{'another key' if there else 'a key that is not here'}, under which everybody is "
                f"another person; set the variable to that key, or restore {file} if it was there"
            )
