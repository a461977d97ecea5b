"""What can go wrong with uploads."""

from __future__ import annotations

from k2k.core.errors import Conflict, Invalid, Limited, NotFound, Problem, Unavailable


class UploadNotFound(NotFound):
    """There is no such upload of yours. What nothing refers to is collected after a day."""

    code = "upload-not-found"
    number = 1700
    title = "Upload not found"


class UploadInUse(Conflict):
    """Something still shows or needs it: take it away there first."""

    code = "upload-in-use"
    number = 1701
    title = "The upload is in use"


class FileRefused(Invalid):
    """A file is no image or document of the kinds we take, is broken, or has too many pixels. None was kept."""

    code = "file-refused"
    number = 1702
    title = "The file is not one that we take"

    @classmethod
    def because(cls, reason: str, detail: str, place: int = 0) -> FileRefused:
        """The refusal of the file at that place in the request."""
        return cls(detail, problems=[Problem(f"/files/{place}", "body", reason, detail)])


class MediaBusy(Unavailable):
    """More pictures are being developed than this process can; nothing was kept."""

    code = "media-busy"
    number = 1703
    title = "Too many pictures are coming in right now: try again in a moment"

    def __init__(self) -> None:
        super().__init__()
        self.retry_after = 5


class NothingUploaded(Conflict):
    """The upload was announced, and nothing has been put there yet."""

    code = "nothing-uploaded"
    number = 1704
    title = "Nothing has been uploaded there yet"


class UploadsUsedUp(Limited):
    """One person's uploads of a day have a limit."""

    code = "uploads-used-up"
    number = 1705
    title = "You have uploaded as much as a day allows"

    def __init__(self) -> None:
        super().__init__()
        self.retry_after = 3600
