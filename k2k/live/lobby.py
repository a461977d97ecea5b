"""Who is let in: sockets that have not said who they are are few at once, and few from one address.

After a process died everybody comes back at once. Upgrades are what costs most then, so beyond `connecting_at_once` the
rest is refused before the upgrade, cheaply, and comes back by the SDKs' own jittered backoff; no address may have more
than half of those places, or one that opens sockets and says nothing would keep everybody out. An address may hold
many sockets of people who signed in, for whole cities share one; of strangers it may hold `strangers_per_address`.
"""

from __future__ import annotations

from collections import Counter

from k2k.core.errors import Limited, Unavailable
from k2k.core.settings import LiveSettings
from k2k.ops.limits import network_of


class Lobby:
    """Counts the newcomers and strangers of one process."""

    def __init__(self, settings: LiveSettings) -> None:
        self._most_newcomers = settings.connecting_at_once
        self._most_strangers = settings.strangers_per_address
        self._strangers: Counter[str] = Counter()
        self._newcomers: Counter[str] = Counter()

    @property
    def newcomers(self) -> int:
        """How many sockets have not said yet who they are."""
        return self._newcomers.total()

    def enter(self, address: str) -> Ticket:
        """Let a socket in. Raises Unavailable while too many are coming, Limited for one too many from an address."""
        network = network_of(address)
        # One address may not keep everybody else out: half of the places are never its own.
        if self.newcomers >= self._most_newcomers or 2 * self._newcomers[network] >= self._most_newcomers:
            raise Unavailable("Many clients are connecting just now")
        if self._strangers[network] >= self._most_strangers:
            raise Limited("Too many sockets without a sign-in are open from this address")
        self._newcomers[network] += 1
        self._strangers[network] += 1
        return Ticket(self, network)

    def _forget_newcomer(self, network: str) -> None:
        self._forget(self._newcomers, network)

    def _forget_stranger(self, network: str) -> None:
        self._forget(self._strangers, network)

    @staticmethod
    def _forget(counted: Counter[str], network: str) -> None:
        counted[network] -= 1
        if not counted[network]:
            del counted[network]


class Ticket:
    """One socket's place in the lobby."""

    __slots__ = ("_lobby", "_network", "_new", "_stranger")

    def __init__(self, lobby: Lobby, network: str) -> None:
        self._lobby = lobby
        self._network = network
        self._new = self._stranger = True

    def connect(self, *, signed_in: bool) -> None:
        """It has said who it is, or that it will not."""
        if self._new:
            self._new = False
            self._lobby._forget_newcomer(self._network)
        if signed_in and self._stranger:
            self._stranger = False
            self._lobby._forget_stranger(self._network)

    def leave(self) -> None:
        """The socket is gone."""
        self.connect(signed_in=True)
