"""How much one person, one address and one operation may be asked for: a policy over the counting in `infra`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from k2k.core.errors import Limited
from k2k.core.settings import LimitsSettings
from k2k.infra.limits import Limits, Rate, Standing
from k2k.infra.metrics import Metrics
from k2k.ops.authenticator import Principal
from k2k.ops.registry import Operation

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit after it was counted.

    `policy` names the limit: user, address, user_commands, address_commands, or the operation.
    """

    policy: str
    standing: Standing


class Guard:
    """Admits calls, the same at both doors, and what sockets ask besides.

    A signed-in person is limited as a person, wherever they are: whole cities share an address. Everybody else is
    limited by address, and so is whoever brings a token that does not hold. Operations may have a rate of their own.
    """

    def __init__(self, limits: Limits, settings: LimitsSettings, metrics: Metrics) -> None:
        self._limits = limits
        self._refused = metrics.limited
        self._enabled = settings.enabled
        self._user = Rate(settings.user_per_minute, MINUTE)
        self._address = Rate(settings.address_per_minute, MINUTE)
        self._user_commands = Rate(settings.commands_per_user_minute, MINUTE)
        self._address_commands = Rate(settings.commands_per_address_minute, MINUTE)

    async def count(self, operation: Operation, principal: Principal | None, address: str) -> Sequence[Allowance]:
        """Count the call, refused or not, and say where every limit on it stands."""
        if not self._enabled:
            return ()
        policy, rate, who = (
            ("user", self._user, f"user:{principal.id}")
            if principal is not None
            else ("address", self._address, f"address:{network_of(address)}")
        )
        allowances = [Allowance(policy, await self._limits.take(who, rate))]
        if operation.rate is not None and allowances[0].standing.granted:
            standing = await self._limits.take(f"{operation.name}:{who}", operation.rate)
            allowances.append(Allowance(operation.name, standing))
        return allowances

    async def admit_command(self, principal: Principal | None, address: str) -> None:
        """Count a command of a socket that is no call, over all sockets of who sent it. Raises Limited."""
        if not self._enabled:
            return
        policy, rate, who = (
            ("user_commands", self._user_commands, f"user_commands:{principal.id}")
            if principal is not None
            else ("address_commands", self._address_commands, f"address_commands:{network_of(address)}")
        )
        self.enforce([Allowance(policy, await self._limits.take(who, rate))])

    def enforce(self, allowances: Sequence[Allowance]) -> None:
        """Raise Limited, with `retry_after`, if the call was one too many for any of them."""
        for allowance in allowances:
            if not allowance.standing.granted:
                self._refused.labels(allowance.policy).inc()
                refusal = Limited()
                refusal.retry_after = allowance.standing.retry_after
                raise refusal


def network_of(address: str) -> str:
    """What counts as one address: an IPv6 customer has a whole /64 to choose from. All that is none counts as one."""
    try:
        found = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or ip_network((found, 64), strict=False))
    return str(found)
