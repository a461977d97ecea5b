"""Some thousand listings as rows: who offers what, where, since when, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never

from k2k.core.ids import ImageId, ListingId
from k2k.features.listings.bulk import ImageRow, ListingRow, PropertyRow, StatsRow, VehicleRow
from k2k.features.listings.models import Language, ListingKind, ListingStatus, ListingType, PriceType
from k2k.features.saved.bulk import SavedRow
from k2k.seed.cars import car
from k2k.seed.chance import chance, uuid7
from k2k.seed.homes import home
from k2k.seed.hours import moment
from k2k.seed.market import SPAN, Market
from k2k.seed.offered import Offered
from k2k.seed.people import Owner, agent, buyer, seller
from k2k.seed.pictures import picture_id, some
from k2k.seed.town import Spot, Town
from k2k.seed.words import said_again

# Of a hundred listings.
VEHICLES = 35
REPEATED = 5
ALIASES = 10
AMHARIC = 35
BY_AGENTS = 70
_AROUND_THEIR_SPOT = 75
"""Of a hundred listings of agents those in the places they know best."""
_STATUSES = (
    *[ListingStatus.active] * 86,
    *[ListingStatus.sold] * 5,  # or rented
    *[ListingStatus.paused] * 3,
    *[ListingStatus.expired] * 2,
    *[ListingStatus.under_offer] * 2,
    ListingStatus.reserved,
    ListingStatus.withdrawn,
)


@dataclass(slots=True)
class Block:
    """Rows that go into the database together, in the order in which they were published."""

    listings: list[ListingRow] = field(default_factory=list)
    properties: list[PropertyRow] = field(default_factory=list)
    vehicles: list[VehicleRow] = field(default_factory=list)
    images: list[ImageRow] = field(default_factory=list)
    stats: list[StatsRow] = field(default_factory=list)
    saved: list[SavedRow] = field(default_factory=list)


class _Life(NamedTuple):
    """What became of a listing."""

    status: ListingStatus
    expires_at: datetime
    closed_at: datetime | None
    closed_price: int | None


class _Said(NamedTuple):
    """What is offered, and how its place is written."""

    offered: Offered
    spot: int
    city: str
    neighborhood: str | None
    language: Language
    owner: Owner
    pictures: tuple[int, ...]


def make(market: Market, number: int) -> Block:
    """The rows of a block: always the same, whoever makes them and whatever was made before."""
    maker = _Maker(market, number)
    for listing in range(number * market.block, min((number + 1) * market.block, market.listings)):
        maker.add(listing)
    return maker.block


class _Maker:
    """Makes the listings of one block one after the other."""

    def __init__(self, market: Market, number: int) -> None:
        self.block = Block()
        self._market = market
        self._town = Town(market.gazetteer, market.agents)
        self._dice = chance(market.seed, "block", number)
        self._repeatable: list[_Said] = []

    def add(self, number: int) -> None:
        """The listing of that number in the whole market."""
        dice, market = self._dice, self._market
        again = self._repeatable and dice.percent(REPEATED)
        said = self._somebody_else_s() if again else self._new()
        published = moment(market, (number + dice.random()) / market.listings)
        row = self._row(said, published)
        self.block.listings.append(row)
        match said.offered.detail:
            case PropertyRow() as detail:
                self.block.properties.append(detail._replace(id=row.id))
            case VehicleRow() as detail:
                self.block.vehicles.append(detail._replace(id=row.id))
            case _:
                assert_never(said.offered.detail)
        self._show(row.id, said.pictures, published)
        self._look_at(row.id, published)

    def _new(self) -> _Said:
        dice, today = self._dice, self._market.until.date()
        number = self._town.somewhere(dice)
        spot = self._town.spots[number]
        language = Language.am if dice.percent(AMHARIC) else Language.en
        where = (spot.neighborhood or spot.city)[1 if language is Language.am else 0]
        vehicle = dice.percent(VEHICLES)
        offered = car(dice, spot, language, today) if vehicle else home(dice, spot, where, language, today)
        pictures = some(dice, offered.detail)
        said = _Said(offered, number, *self._written(spot), language, self._owner(number), pictures)
        self._repeatable.append(said)
        return said

    def _somebody_else_s(self) -> _Said:
        """What was offered before, offered again by another: a little beside it, for about as much."""
        dice = self._dice
        said = self._repeatable.pop(dice.below(len(self._repeatable)))
        owner = self._owner(said.spot)
        while owner == said.owner or (owner.agency and owner.agency == said.owner.agency):
            owner = seller(self._market, dice.below(self._market.sellers))
        offered = replace(
            said.offered,
            title=said_again(dice, said.language, said.offered.title),
            price=max(1, round(said.offered.price * dice.pick((0.95, 0.98, 1, 1, 1.02, 1.05)))),
            latitude=round(said.offered.latitude + dice.gauss(0, 0.0003), 5),
            longitude=round(said.offered.longitude + dice.gauss(0, 0.0003), 5),
        )
        written = self._written(self._town.spots[said.spot])
        return _Said(offered, said.spot, *written, said.language, owner, said.pictures)

    def _written(self, spot: Spot) -> tuple[str, str | None]:
        """City and neighbourhood as the seller writes them: one of ten by another name than the usual one."""
        dice = self._dice
        if not dice.percent(ALIASES):
            return spot.city[0], spot.neighborhood[0] if spot.neighborhood else None
        if not spot.neighborhood:
            return dice.pick(spot.city), None
        city = dice.pick(spot.city) if dice.below(2) else spot.city[0]
        return city, dice.pick(spot.neighborhood[1:] or spot.neighborhood)

    def _owner(self, spot: int) -> Owner:
        dice, market = self._dice, self._market
        if not dice.percent(BY_AGENTS):
            return seller(market, dice.below(market.sellers))
        near = self._town.agents(spot)
        if near and dice.percent(_AROUND_THEIR_SPOT):
            return agent(market, dice.pick(near))
        return agent(market, dice.below(market.agents))

    def _row(self, said: _Said, published: datetime) -> ListingRow:
        dice, offered = self._dice, said.offered
        life = self._life(offered, published)
        return ListingRow(
            id=ListingId(uuid7(published, dice.getrandbits(74))),
            kind=ListingKind.property if isinstance(offered.detail, PropertyRow) else ListingKind.vehicle,
            owner_id=said.owner.user,
            agency_id=said.owner.agency,
            changed_by=said.owner.user,
            title=offered.title,
            description=offered.description,
            listing_type=offered.listing_type,
            price=offered.price,
            price_type=PriceType.negotiable if dice.percent(40) else PriceType.fixed,
            price_period=offered.price_period,
            status=life.status,
            address=f"Woreda {1 + dice.below(14)}, {1 + dice.below(2400)}" if dice.below(2) else None,
            neighborhood=said.neighborhood,
            city=said.city,
            place_id=self._town.spots[said.spot].place_id,
            latitude=offered.latitude,
            longitude=offered.longitude,
            amenities=offered.amenities,
            features=offered.features,
            is_featured=life.status is ListingStatus.active and dice.below(200) == 0,
            language=said.language,
            unit_hash=offered.unit_hash,
            published_at=published,
            expires_at=life.expires_at,
            closed_at=life.closed_at,
            closed_price=life.closed_price,
            created_at=published,
            updated_at=life.closed_at or published,
        )

    def _life(self, offered: Offered, published: datetime) -> _Life:
        dice, until = self._dice, self._market.until
        status = dice.pick(_STATUSES)
        since = self._between(published, until)
        match status:
            case ListingStatus.sold:
                done = ListingStatus.rented if offered.listing_type == ListingType.rent else status
                return _Life(done, published + SPAN, since, max(1, round(offered.price * dice.uniform(0.88, 1))))
            case ListingStatus.expired:
                return _Life(status, since, None, None)
            case _:
                return _Life(status, published + SPAN, None, None)

    def _show(self, listing: ListingId, pictures: tuple[int, ...], published: datetime) -> None:
        for order, number in enumerate(pictures):
            image = ImageId(uuid7(published, self._dice.getrandbits(74)))
            media = picture_id(self._market, number)
            self.block.images.append(ImageRow(image, listing, media, order == 0, order, published))

    def _look_at(self, listing: ListingId, published: datetime) -> None:
        """Most are looked at, the longer they are there the more; of fifty who look one saves it."""
        dice, market = self._dice, self._market
        days = (market.until - published) / timedelta(days=1)
        views = int(days * dice.lognormvariate(-1, 1)) if dice.below(10) else 0
        if views == 0:
            return
        savers = {dice.below(market.buyers) for _ in range(views // 50 + (dice.below(50) < views % 50))}
        for number in sorted(savers):
            moment_saved = self._between(published, market.until)
            self.block.saved.append(SavedRow(buyer(market, number), listing, moment_saved))
        self.block.stats.append(StatsRow(listing, views, len(savers), self._between(published, market.until)))

    def _between(self, earlier: datetime, later: datetime) -> datetime:
        return earlier + (later - earlier) * self._dice.random()
