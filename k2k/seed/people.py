"""Who sells and who looks: agents in agencies around the spots they know, sellers of their own things, buyers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice

from k2k.core.ids import AgencyId, AgentId, UserId
from k2k.features.accounts.bulk import UserRow, load_users
from k2k.features.agents.bulk import AgencyRow, ProfileRow, load_agents
from k2k.features.agents.models import AgencyRole
from k2k.infra.bulk import Bulk
from k2k.ops.permissions import Role
from k2k.seed.chance import Dice, chance, id_of
from k2k.seed.market import Market
from k2k.seed.town import Spot, Town

IN_AN_AGENCY = 8
_AT_ONCE = 20_000
_CAME_BEFORE = timedelta(days=30)
"""How long before the first listing the last of its people had come."""
_CITY_NAMES = ("Homes", "Realty", "Properties", "Real Estate", "Brokers", "Trading", "Estates", "House Agents")
_FIRST = (
    "Abebe", "Almaz", "Aster", "Bekele", "Berhanu", "Biruk", "Chaltu", "Dawit", "Derartu", "Eleni", "Ermias", "Eyob",
    "Fasil", "Fikirte", "Genet", "Girma", "Habtamu", "Hanna", "Helen", "Hirut", "Kalkidan", "Kebede", "Kidist",
    "Lemlem", "Liya", "Mahlet", "Marta", "Mekdes", "Meron", "Mulugeta", "Nardos", "Natnael", "Rahel", "Robel", "Saba",
    "Samuel", "Selam", "Sisay", "Solomon", "Tadesse", "Tigist", "Tsion", "Yared", "Yohannes", "Yonas", "Zeritu",
    "ሰላም", "ዳዊት", "ሜሮን", "አስቴር", "ብሩክ", "ትዕግስት", "ዮናስ", "ሃና",
)  # fmt: skip
_FATHER = (
    "Abate", "Abera", "Alemayehu", "Alemu", "Assefa", "Ayele", "Bekele", "Belay", "Demissie", "Desta", "Fekadu",
    "Gebre", "Getachew", "Girma", "Haile", "Hailu", "Kassa", "Kebede", "Lemma", "Mamo", "Mekonnen", "Mengistu",
    "Mohammed", "Negash", "Regassa", "Seyoum", "Shiferaw", "Tadesse", "Tekle", "Tesfaye", "Tolossa", "Wolde", "Worku",
    "Yimer", "Zewde", "Zeleke",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose listing it is."""

    user: UserId
    agency: AgencyId | None


def agent(market: Market, number: int) -> Owner:
    """One of the agents, who are all in an agency."""
    return Owner(_user(market, Role.agent, number), _agency(market, number // IN_AN_AGENCY))


def seller(market: Market, number: int) -> Owner:
    """One of those who sell without an agent."""
    return Owner(_user(market, Role.seller, number), None)


def buyer(market: Market, number: int) -> UserId:
    """One of those who only look."""
    return _user(market, Role.buyer, number)


async def load_people(bulk: Bulk, market: Market) -> None:
    """Add all of them, within the transaction that runs. They sign in with the market's password."""
    accounts = _accounts(market)
    while rows := list(islice(accounts, _AT_ONCE)):
        await load_users(bulk, rows)
    town = Town(market.gazetteer, market.agents)
    agencies = -(-market.agents // IN_AN_AGENCY)
    await load_agents(
        bulk,
        [_agency_row(market, town, number) for number in range(agencies)],
        [_profile_row(market, town, number) for number in range(market.agents)],
    )


def _accounts(market: Market) -> Iterator[UserRow]:
    for role, count in ((Role.agent, market.agents), (Role.seller, market.sellers), (Role.buyer, market.buyers)):
        for number in range(count):
            born = _born(market, number)
            yield UserRow(
                id=_user(market, role, number),
                email=_email(role, number),
                phone=_phone(number) if role is Role.agent else None,
                password_hash=market.password_hash,
                full_name=_name(chance(market.seed, role, number)),
                role=role,
                is_verified=True,
                created_at=born,
                updated_at=born,
            )


def _agency_row(market: Market, town: Town, number: int) -> AgencyRow:
    spot = town.home(number * IN_AN_AGENCY)
    born = _born(market, number)
    return AgencyRow(
        id=_agency(market, number),
        name=_agency_name(market, spot, number),
        license=f"AG/{market.seed}/{number:06}",
        city=spot.city[0],
        created_at=born,
        updated_at=born,
    )


def _profile_row(market: Market, town: Town, number: int) -> ProfileRow:
    spot, born = town.home(number), _born(market, number)
    agency = number // IN_AN_AGENCY
    name = _name(chance(market.seed, Role.agent, number))  # as on the account
    dice = chance(market.seed, "profile", number)
    reviews = int(dice.expovariate(1 / 12))
    where = (spot.neighborhood or spot.city)[0]
    return ProfileRow(
        id=AgentId(id_of(market.seed, "profile", number, born)),
        user_id=_user(market, Role.agent, number),
        agency_id=_agency(market, agency),
        agency_role=AgencyRole.member if number % IN_AN_AGENCY else AgencyRole.owner,
        display_name=name,
        company_name=_agency_name(market, town.home(agency * IN_AN_AGENCY), agency),
        license=f"AA/{market.seed}/{number:06}",
        specializations=[where, dice.pick(("apartments", "villas", "land", "cars", "offices", "ኪራይ", "ሽያጭ"))],
        bio=f"{dice.randint(1, 20)} years around {where}.",
        contact_phone=_phone(number),
        contact_email=_email(Role.agent, number),
        rating=Decimal(dice.randint(32, 50)) / 10 if reviews else Decimal(0),
        review_count=reviews,
        properties_sold=int(dice.expovariate(1 / 25)),
        created_at=born,
        updated_at=born,
    )


def _born(market: Market, number: int) -> datetime:
    """One after the other, some seconds apart, all before the first listing."""
    return market.begins - _CAME_BEFORE - timedelta(seconds=number * 10)


def _user(market: Market, role: Role, number: int) -> UserId:
    return UserId(id_of(market.seed, role, number, _born(market, number)))


def _agency(market: Market, number: int) -> AgencyId:
    return AgencyId(id_of(market.seed, "agency", number, _born(market, number)))


def _agency_name(market: Market, spot: Spot, number: int) -> str:
    return f"{(spot.neighborhood or spot.city)[0]} {chance(market.seed, 'agency', number).pick(_CITY_NAMES)} {number}"


def _email(role: Role, number: int) -> str:
    return f"{role}{number}@market.key2key.example"


def _phone(number: int) -> str:
    """A mobile number of Ethiopia; those of the sample market begin otherwise."""
    return f"+25191{number:07}"


def _name(dice: Dice) -> str:
    return f"{dice.pick(_FIRST)} {dice.pick(_FATHER)}"
