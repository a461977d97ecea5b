"""Which storage there is, by the settings."""

from __future__ import annotations

from pathlib import Path

from k2k.core.clock import Clock
from k2k.core.settings import Settings
from k2k.infra.storage.directory import Directory
from k2k.infra.storage.port import Storage
from k2k.infra.storage.signing import Signer


async def open_storage(settings: Settings, clock: Clock) -> Storage:
    """The bucket that the settings name, or else the directory. Nothing is asked of it yet."""
    media, auth = settings.media, settings.auth
    if media.bucket:
        # Only here: half a second of imports that a directory does not need.
        from k2k.infra.storage.s3 import Bucket

        return await Bucket.open(media)
    root = Path(media.directory) if media.directory else settings.home / "media"
    secrets = [secret.get_secret_value() for secret in (auth.secret, *auth.previous_secrets)]
    return Directory(root, Signer(secrets), clock)
