"""Where something is offered: the neighbourhoods of Addis Ababa by the people of their sub-city, and other cities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from k2k.features.places.models import Gazetted
from k2k.seed.chance import Dice
from k2k.seed.worth import MESKEL_SQUARE

CAPITAL = "Addis Ababa"
ELSEWHERE = 0.25
"""What is offered outside of the capital for as many people, against what is offered there."""
LEVEL_ELSEWHERE = 0.45
"""Prices at the centre of another city, against those at Meskel Square."""
# One sigma, in degrees: a neighbourhood is some 500 m wide, a city some kilometres.
_NEIGHBORHOOD, _CITY = 0.0025, 0.012


@dataclass(frozen=True, slots=True)
class Spot:
    """A place where something may be offered."""

    place_id: int
    city: Sequence[str]
    """Its names: the usual English one, the usual Amharic one, then the others."""
    neighborhood: Sequence[str]
    """The same; empty where only the city is known."""
    latitude: float
    longitude: float
    spread: float
    centre: tuple[float, float]
    """What prices fall away from."""
    level: float


class Town:
    """All spots of a country, and who sells there."""

    def __init__(self, gazetteer: Sequence[Gazetted], agents: int) -> None:
        weighed = [*_neighborhoods(gazetteer), *_cities(gazetteer)]
        self.spots = [spot for spot, _ in weighed]
        self._weights = list(accumulate(weight for _, weight in weighed))
        bounds = [round(agents * weight / self._weights[-1]) for weight in self._weights]
        self._agents = list(zip([0, *bounds], bounds, strict=False))

    def somewhere(self, dice: Dice) -> int:
        """The number of a spot, each as often as people live there."""
        return dice.weighed(range(len(self.spots)), self._weights)

    def agents(self, spot: int) -> range:
        """The numbers of the agents who know this spot best; there may be none."""
        return range(*self._agents[spot])

    def home(self, agent: int) -> Spot:
        """The spot that an agent knows best."""
        return next(self.spots[spot] for spot, (first, end) in enumerate(self._agents) if first <= agent < end)


def _neighborhoods(gazetteer: Sequence[Gazetted]) -> list[tuple[Spot, float]]:
    """Those of the capital, each with its share of the people of its sub-city."""
    (capital,) = (place for place in gazetteer if place.names[0] == CAPITAL)
    people = _people_of_sub_cities([place for place in gazetteer if place.parent_id == capital.id])
    found = [place for place in gazetteer if place.parent_id in people]
    spots = []
    for place in found:
        neighbors = sum(other.parent_id == place.parent_id for other in found)
        spot = Spot(
            place.id,
            capital.names,
            place.names,
            place.latitude,
            place.longitude,
            _NEIGHBORHOOD,
            MESKEL_SQUARE,
            1.0,
        )
        spots.append((spot, people[place.parent_id] / neighbors))
    return spots


def _people_of_sub_cities(sub_cities: Sequence[Gazetted]) -> dict[int | None, float]:
    """How many live in each; one that was not counted is taken for a usual one."""
    counted = [place.population for place in sub_cities if place.population]
    usual = sum(counted) / len(counted)
    return {place.id: place.population or usual for place in sub_cities}


def _cities(gazetteer: Sequence[Gazetted]) -> list[tuple[Spot, float]]:
    spots = []
    for place in gazetteer:
        if place.kind == "city" and place.names[0] != CAPITAL:
            middle = (place.latitude, place.longitude)
            spot = Spot(place.id, place.names, (), *middle, _CITY, middle, LEVEL_ELSEWHERE)
            spots.append((spot, (place.population or 0) * ELSEWHERE))
    return spots
