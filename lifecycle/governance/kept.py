"""Old versions of objects: a bucket with versioning keeps what was replaced or deleted in it.

They are never deleted here: whoever turned versioning on wanted them, perhaps by law. What still
names a person is told until the bucket's own rule has let it expire.
"""

from collections.abc import Iterator

from lifecycle.errors import BackendError
from lifecycle.governance.folder import Folder, open_folder

KEPT = " (an old version that the bucket keeps)"
VERSION = "?versionId="


def kept_versions(folder: Folder) -> Iterator[tuple[Folder, str]]:
    """Old versions below a folder of S3, each with the folder that opens it.

    Raises:
        BackendError: they cannot be listed.
    """
    if not hasattr(folder.fs, "call_s3"):
        return
    old = open_folder(folder.shown(folder.path), version_aware=True)
    bucket, _, key = folder.path.rstrip("/").partition("/")
    asked = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
    while True:
        try:
            page = old.fs.call_s3("list_object_versions", **asked)
        except Exception as error:  # s3fs passes on what botocore raises
            if "NotImplemented" in f"{error!r}{error.__cause__!r}":
                return  # a server that keeps none
            reason = " ".join(str(error).split())
            raise BackendError(
                f"{folder.shown(folder.path)}: old versions, if the bucket keeps any ({reason}); "
                "allow s3:ListBucketVersions and s3:GetObjectVersion"
            ) from None
        for one in page.get("Versions", ()):
            if not one["IsLatest"]:
                yield old, f"{bucket}/{one['Key']}{VERSION}{one['VersionId']}"
        if not page.get("IsTruncated"):
            return
        asked["KeyMarker"] = page["NextKeyMarker"]
        asked["VersionIdMarker"] = page["NextVersionIdMarker"]
