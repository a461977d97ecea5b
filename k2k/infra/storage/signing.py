"""Signed addresses of what is not public: who holds one may do that one thing for a while (HMAC-SHA256)."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import urlencode

from k2k.core.errors import Denied

EXPIRES, SIGNATURE = "expires", "signature"


class LinkRefused(Denied):
    """The address was not signed by us, was changed, is for something else, or its time is over. Ask for a new one."""

    code = "link-refused"
    number = 1033
    title = "This link does not hold, or not any more"


class Signer:
    """Signs with the first secret, and accepts what any of them has signed."""

    def __init__(self, secrets: Sequence[str]) -> None:
        # Keys of their own: a signature here is none of a token.
        self._keys = [hmac.digest(secret.encode(), b"k2k storage links", "sha256") for secret in secrets]

    def query(self, method: str, name: str, fields: Mapping[str, str], expires: datetime) -> str:
        """The query of an address that allows `method` on `name` until then, with exactly these fields."""
        told = {**fields, EXPIRES: str(int(expires.timestamp()))}
        return urlencode({**told, SIGNATURE: _signature(self._keys[0], method, name, told)})

    def fields(self, method: str, name: str, query: Mapping[str, str], now: datetime) -> Mapping[str, str]:
        """The fields of an address of ours. Raises LinkRefused."""
        told = {field: value for field, value in query.items() if field != SIGNATURE}
        given = query.get(SIGNATURE, "").encode("utf-8", "replace")
        found = [hmac.compare_digest(_signature(key, method, name, told).encode(), given) for key in self._keys]
        # Only what is signed is looked at, so it is a number.
        if not any(found) or int(told[EXPIRES]) <= now.timestamp():
            raise LinkRefused
        return told


def _signature(key: bytes, method: str, name: str, fields: Mapping[str, str]) -> str:
    return hmac.digest(key, json.dumps([method, name, sorted(fields.items())]).encode(), "sha256").hex()
