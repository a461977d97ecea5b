"""When people offer something: all day, and most of them in the evening."""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime, timedelta
from itertools import accumulate

from k2k.seed.market import SPAN, Market

_AHEAD = timedelta(hours=3)
"""How far the clocks of East Africa are ahead of UTC."""
# Of a day's listings so many are published in each hour, by the clocks there.
_HOURS = (1, 1, 1, 1, 1, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 6, 7, 9, 12, 14, 12, 7, 3)
_BY_THEN = list(accumulate(_HOURS, initial=0))


def moment(market: Market, share: float) -> datetime:
    """When that share (0 to 1) of all listings was published. Later for more, so that numbers follow time."""
    days, rest = divmod(share * SPAN.days, 1)
    wanted = rest * _BY_THEN[-1]
    hour = bisect_right(_BY_THEN, wanted) - 1
    hours = hour + (wanted - _BY_THEN[hour]) / _HOURS[hour]
    return market.begins - _AHEAD + timedelta(days=days, hours=hours)
