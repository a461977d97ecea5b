"""How much of a thing of which there is little each owner has in hand."""

from __future__ import annotations

from collections import Counter

from k2k.core.ids import UserId


class Shares:
    """What owners take, and the most that one of them may have at once.

    It sheds load, so that one person leaves room for everybody else. Each process counts for itself: nothing may rely
    on it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[UserId] = Counter()

    def spare(self, owner: UserId) -> int:
        """How much more this owner may take."""
        return self._most - self._taken[owner]

    def take(self, owner: UserId, count: int = 1) -> bool:
        """Whether it was taken; give it back then."""
        if count > self.spare(owner):
            return False
        self._taken[owner] += count
        return True

    def give_back(self, owner: UserId, count: int = 1) -> None:
        """What was taken."""
        self._taken[owner] -= count
        if not self._taken[owner]:
            del self._taken[owner]
