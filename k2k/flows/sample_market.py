"""A small believable market of Addis Ababa, so that a first start has something to show and people to sign in as.

Everything is written through the services, as clients would write it, and is the same on every machine but for the
dates. Neighbourhoods are where they are; people, homes and prices are made up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from io import BytesIO
from random import Random

from k2k.core.ids import ListingId, UserId
from k2k.core.settings import ListingSettings
from k2k.features.accounts import service as accounts
from k2k.features.accounts.models import Registration
from k2k.features.accounts.passwords import Passwords
from k2k.features.agents import service as agents
from k2k.features.agents.models import AgencyDraft, AgencyRole, ProfileDraft
from k2k.features.listings import images
from k2k.features.listings import service as listings
from k2k.features.listings.images import Changing
from k2k.features.listings.kinds import Body, Fuel, PropertyDraft, PropertyType, VehicleDraft
from k2k.features.listings.models import Collection, Language, ListingType
from k2k.features.media.incoming import receive
from k2k.features.media.models import Purpose
from k2k.features.media.studio import Studio
from k2k.infra.db import Db
from k2k.infra.transaction import Tx
from k2k.ops.files import File, Files
from k2k.ops.permissions import Role
from k2k.seed.chance import chance as dice
from k2k.seed.drawing import draw
from k2k.seed.pictures import outside
from k2k.seed.worth import MESKEL_SQUARE, asked, kilometres, square_meter

DEMO_PASSWORD = "addis-abeba-2026"  # for development alone; whoever runs production never seeds


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """Somebody to sign in as; the password is DEMO_PASSWORD."""

    email: str
    full_name: str
    role: Role
    description: str


@dataclass(frozen=True, slots=True)
class _Agent:
    account: DemoAccount
    phone: str
    specializations: tuple[str, ...]
    bio: str


@dataclass(frozen=True, slots=True)
class _Home:
    """One offer. Its price follows from what, where and how large it is."""

    owner: DemoAccount
    kind: PropertyType
    listing_type: ListingType
    neighborhood: str
    square_meters: int
    rooms: tuple[int, int] | None
    """Bedrooms and bathrooms."""
    year_built: int | None
    title: str
    description: str
    language: Language = Language.en


@dataclass(frozen=True, slots=True)
class _Car:
    """One vehicle that is offered."""

    owner: DemoAccount
    brand: str
    model: str
    year: int
    body: Body
    fuel: Fuel
    mileage_km: int
    price: int
    title: str
    description: str
    language: Language = Language.en


def _account(full_name: str, role: Role, description: str) -> DemoAccount:
    return DemoAccount(f"{full_name.split()[0].lower()}@demo.key2key.example", full_name, role, description)


SELAM = _account("Selam Tesfaye", Role.agent, "agent, owner of Bole Homes")
DAWIT = _account("Dawit Bekele", Role.agent, "agent at Bole Homes")
RAHEL = _account("Rahel Mekonnen", Role.agent, "agent, owner of Entoto Realty")
MERON = _account("Meron Alemu", Role.seller, "seller without an agency")
HANNA = _account("Hanna Girma", Role.buyer, "buyer")
YONAS = _account("Yonas Haile", Role.buyer, "buyer")
DEMO_ACCOUNTS = (SELAM, DAWIT, RAHEL, MERON, HANNA, YONAS)

# Each agency with its agents; the first one founds it.
_AGENCIES = {
    "Bole Homes": (
        _Agent(SELAM, "+251900000001", ("Bole", "Kazanchis", "apartments"), "Twelve years of flats around Bole."),
        _Agent(DAWIT, "+251900000002", ("CMC", "Summit", "ኪራይ"), "ከቦሌ እስከ ሲኤምሲ የኪራይ ቤቶችን አገናኛለሁ።"),
    ),
    "Entoto Realty": (
        _Agent(RAHEL, "+251900000003", ("Old Airport", "Piassa", "villas"), "Family homes on the western side."),
    ),
}

_PLACES = {
    "Bole": (8.9935, 38.7905),
    "Kazanchis": (9.0160, 38.7660),
    "Megenagna": (9.0200, 38.8000),
    "CMC": (9.0230, 38.8350),
    "Summit": (9.0050, 38.8560),
    "Ayat": (9.0290, 38.8720),
    "Gerji": (8.9960, 38.8120),
    "Mexico": (9.0080, 38.7480),
    "Saris": (8.9620, 38.7620),
    "Piassa": (9.0358, 38.7502),
    "Arat Kilo": (9.0330, 38.7633),
    "Merkato": (9.0340, 38.7410),
    "Old Airport": (8.9950, 38.7300),
    "Sarbet": (8.9930, 38.7370),
    "Lebu": (8.9480, 38.7190),
}

_APARTMENT, _CONDO, _HOUSE, _VILLA = PropertyType.apartment, PropertyType.condo, PropertyType.house, PropertyType.villa
_FOR_SALE, _TO_LET = ListingType.sale, ListingType.rent
_AMHARIC = Language.am

# Oldest offer first.
_HOMES = (
    _Home(MERON, _CONDO, _FOR_SALE, "Ayat", 58, (1, 1), 2016, "የአያት ኮንዶሚኒየም፣ አንድ መኝታ",
          "ሁለተኛ ፎቅ፣ ውሃና መብራት የማይቋረጥበት፣ ካርታው የተዘጋጀ።", _AMHARIC),
    _Home(RAHEL, _VILLA, _FOR_SALE, "Old Airport", 420, (5, 4), 2008, "Villa with a garden near the schools",
          "Two floors on a quiet lane, servants' quarters, a well and room for four cars."),
    _Home(SELAM, _APARTMENT, _FOR_SALE, "Bole", 135, (3, 2), 2021, "Three bedrooms near Edna Mall",
          "Fourth floor with a lift, backup generator, water tank and one parking place."),
    _Home(DAWIT, _HOUSE, _FOR_SALE, "CMC", 220, (4, 3), 2012, "Family house in a CMC compound",
          "Guarded compound, small garden, ten minutes' walk to the light rail."),
    _Home(SELAM, _APARTMENT, _TO_LET, "Kazanchis", 95, (2, 2), 2019, "Furnished two bedrooms in Kazanchis",
          "Five minutes on foot to the ECA. Internet and cleaning included; diplomats welcome."),
    _Home(RAHEL, PropertyType.commercial, _TO_LET, "Merkato", 60, None, 2010, "መርካቶ የሚከራይ ሱቅ",
          "ምድር ቤት፣ ሁለት በር ያለው፣ ለጅምላ ንግድ የሚመች።", _AMHARIC),
    _Home(MERON, PropertyType.room, _TO_LET, "Megenagna", 18, (1, 1), 2014, "Room with its own bath",
          "In a family's house near the ring road; quiet people, please."),
    _Home(DAWIT, PropertyType.townhouse, _FOR_SALE, "Summit", 180, (3, 3), 2020, "Townhouse, hardly lived in",
          "End of the row, so light comes from three sides. Half can be paid by bank loan."),
    _Home(SELAM, PropertyType.office, _TO_LET, "Bole", 210, (0, 2), 2018, "Office floor on the airport road",
          "Open floor with two meeting rooms, fibre, lift and a full generator."),
    _Home(RAHEL, _HOUSE, _FOR_SALE, "Piassa", 160, (3, 1), 1965, "Old house with a veranda in Piassa",
          "High ceilings and wooden floors from the days of the railway; the roof is new."),
    _Home(DAWIT, _APARTMENT, _TO_LET, "Gerji", 38, (1, 1), 2017, "ገርጂ የሚከራይ ስቱዲዮ",
          "ንጹህ ስቱዲዮ፣ ከታክሲ መያዣው አጠገብ፣ የሦስት ወር ቅድሚያ።", _AMHARIC),
    _Home(SELAM, _VILLA, _TO_LET, "Bole", 380, (5, 4), 2011, "Villa for an embassy or an NGO",
          "Walled plot, guard house, big salon; the contract can be in dollars."),
    _Home(RAHEL, PropertyType.land, _FOR_SALE, "Lebu", 250, None, None, "Plot with a clean title in Lebu",
          "Lease paid up, corner of two asphalted streets, permit for four floors."),
    _Home(SELAM, _APARTMENT, _FOR_SALE, "Kazanchis", 110, (2, 2), 2022, "ካዛንቺስ ባለ ሁለት መኝታ አፓርታማ",
          "አዲስ ሕንፃ፣ ሊፍትና ጄኔሬተር ያለው፣ ወዲያውኑ መግባት ይቻላል።", _AMHARIC),
    _Home(DAWIT, _CONDO, _TO_LET, "Summit", 76, (2, 1), 2015, "Two bedrooms in the Summit condominium",
          "Third floor with a view of the hills, shops downstairs, buses to Megenagna."),
    _Home(MERON, _HOUSE, _FOR_SALE, "Saris", 140, (3, 2), 2003, "House and shop under one roof",
          "Street front can stay a shop. The seller moves abroad and answers in the evening."),
    _Home(RAHEL, _APARTMENT, _TO_LET, "Sarbet", 120, (3, 2), 2016, "Three bedrooms by the African Union",
          "Unfurnished, two balconies, parking in the basement, guard day and night."),
    _Home(SELAM, _APARTMENT, _FOR_SALE, "Megenagna", 88, (2, 1), 2023, "New flat, paid in four parts",
          "Handover this year. Thirty per cent at signing, the rest as the building grows."),
    _Home(DAWIT, _VILLA, _FOR_SALE, "CMC", 350, (4, 4), 2015, "ሲኤምሲ ዘመናዊ ቪላ",
          "ሙሉ ግቢ፣ የሠራተኛ ቤት፣ ለአራት መኪና የሚሆን ቦታ ያለው።", _AMHARIC),
    _Home(RAHEL, PropertyType.office, _TO_LET, "Mexico", 85, (0, 1), 2013, "Small office at Mexico Square",
          "Sixth floor above a bank; both lines of the light rail stop at the door."),
    _Home(SELAM, _APARTMENT, _TO_LET, "Bole", 72, (1, 1), 2020, "One bedroom with a balcony in Bole",
          "Furnished, lift, water tank. Free from the first of next month."),
    _Home(MERON, _CONDO, _TO_LET, "Ayat", 50, (1, 1), 2018, "Ground floor for a young family",
          "Near the market and a kindergarten. No broker, no fee."),
    _Home(DAWIT, _APARTMENT, _TO_LET, "Gerji", 105, (3, 2), 2019, "ገርጂ ባለ ሦስት መኝታ አፓርታማ",
          "ሰፊ ሳሎን፣ ሁለት መታጠቢያ፣ የመኪና ማቆሚያ፤ ለቤተሰብ የሚመች።", _AMHARIC),
    _Home(SELAM, PropertyType.commercial, _FOR_SALE, "Arat Kilo", 75, None, 2009, "Shop near the university",
          "Let until next year; the tenant would stay. Copy shop, café or pharmacy."),
)  # fmt: skip

_CARS = (
    _Car(MERON, "Toyota", "Vitz", 2006, Body.hatchback, Fuel.petrol, 148_000, 1_250_000, "Vitz, cheap to run",
         "One owner since it came, serviced every 5,000 km, new tyres in front."),
    _Car(RAHEL, "Toyota", "Land Cruiser Prado", 2015, Body.suv, Fuel.diesel, 96_000, 9_800_000, "ፕራዶ፣ በጥሩ ሁኔታ ላይ ያለች",
         "ሙሉ ሰነድ ያላት፣ አደጋ ያልደረሰባት፣ ቀረጥ የተከፈለ።", Language.am),
    _Car(DAWIT, "Isuzu", "NPR", 2012, Body.truck, Fuel.diesel, 210_000, 4_300_000, "NPR with a closed box",
         "Carried furniture between Addis and Hawassa; gearbox renewed last year."),
    _Car(SELAM, "BYD", "Yuan Plus", 2023, Body.suv, Fuel.electric, 18_000, 4_100_000, "Yuan Plus with its charger",
         "Charged at home overnight; the wall charger and its cable come with it."),
    _Car(MERON, "Suzuki", "Dzire", 2021, Body.sedan, Fuel.petrol, 52_000, 2_450_000, "ዲዛየር 2021 የሚሸጥ",
         "ነዳጅ ቆጣቢ፣ ለታክሲ ያልሠራች፣ የባንክ ብድር ይቻላል።", Language.am),
    _Car(DAWIT, "Toyota", "HiAce", 2009, Body.minibus, Fuel.diesel, 265_000, 3_600_000, "HiAce with its line permit",
         "Twelve seats, works every day; seen at Megenagna after six in the evening."),
)  # fmt: skip

# One new offer about every second day makes a market of six weeks.
_BETWEEN_OFFERS = timedelta(hours=42)


class _MarketIsThere(Exception):
    """One of the demo addresses is taken."""


@dataclass(frozen=True, slots=True)
class _Offer:
    """What is offered now."""

    thing: _Home | _Car
    listing: ListingId
    owner: UserId
    published_at: datetime


async def seed(db: Db, passwords: Passwords, studio: Studio, offers: ListingSettings) -> tuple[DemoAccount, ...]:
    """Make the market, all of it or nothing; the accounts made, none if one of their addresses is taken.

    Of several processes that start at once one makes it: the others wait at its first address. Pictures come after it,
    and whoever is stopped before has a market without them. Raises Unavailable while database or storage is away.
    """
    password_hash = await passwords.hash(DEMO_PASSWORD)
    try:
        async with db.transaction() as tx:
            people = {account: await _open(tx, account, password_hash) for account in DEMO_ACCOUNTS}
            for name, members in _AGENCIES.items():
                await _found(tx, name, members, people)
            offered = await _publish(tx, people, offers, db.clock.now())
    except _MarketIsThere:
        return ()
    for owner in people.values():
        await _picture(db, studio, owner, [offer for offer in offered if offer.owner == owner])
    return DEMO_ACCOUNTS


async def _open(tx: Tx, account: DemoAccount, password_hash: str) -> UserId:
    wish = Registration(full_name=account.full_name, email=account.email, password=DEMO_PASSWORD)
    user = await accounts.open_account(tx, wish, password_hash, account.role)
    if user is None:
        raise _MarketIsThere
    return user


async def _found(tx: Tx, name: str, members: tuple[_Agent, ...], people: dict[DemoAccount, UserId]) -> None:
    """The agency, its founder and those who joined."""
    for agent in members:
        profile = ProfileDraft(
            display_name=agent.account.full_name,
            company_name=name,
            specializations=agent.specializations,
            bio=agent.bio,
            contact_phone=agent.phone,
            contact_email=agent.account.email,
        )
        await agents.open_profile(tx, people[agent.account], profile)
    founder, *others = (people[agent.account] for agent in members)
    agency = await agents.found_agency(tx, founder, AgencyDraft(name=name, city="Addis Ababa"))
    for user in others:
        await agents.join_agency(tx, user, agency, AgencyRole.member)


async def _publish(tx: Tx, people: dict[DemoAccount, UserId], offers: ListingSettings, now: datetime) -> list[_Offer]:
    chance, offered = Random(2018), []  # noqa: S311 - a seed, so that every machine gets the same market
    aged: list[tuple[int, _Home | _Car]] = [
        *zip(range(len(_HOMES), 0, -1), _HOMES, strict=True),
        *zip(range(len(_HOMES), 0, -len(_HOMES) // len(_CARS)), _CARS, strict=True),
    ]
    for age, thing in sorted(aged, key=lambda one: one[0], reverse=True):
        published_at = now - age * _BETWEEN_OFFERS + chance.random() * _BETWEEN_OFFERS
        draft = _home_draft(thing, chance) if isinstance(thing, _Home) else _car_draft(thing)
        listing = await listings.publish(tx, people[thing.owner], draft, offers, published_at)
        offered.append(_Offer(thing, listing, people[thing.owner], published_at))
    return offered


async def _picture(db: Db, studio: Studio, owner: UserId, offered: Sequence[_Offer]) -> None:
    """Upload a picture for each offer of one person, and put it there."""
    if not offered:
        return
    uploads = await receive(db.transaction, studio, owner, Purpose.image, _drawn(offered), db.clock.now())
    for offer, upload in zip(offered, uploads, strict=True):
        async with db.transaction() as tx:
            it = Changing(Collection.listings, offer.listing, owner, version=None, now=offer.published_at)
            await images.add(tx, it, [upload])


async def _drawn(offered: Sequence[_Offer]) -> Files:
    """Each thing as somebody's camera might have sent it."""
    for offer in offered:
        thing, sent = offer.thing, BytesIO()
        scene = outside(thing.kind if isinstance(thing, _Home) else thing.body)
        draw(scene, dice(2018, thing.title)).save(sent, "PNG")
        yield File(f"{scene}.png", "image/png", _once(sent.getvalue()))


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _home_draft(home: _Home, chance: Random) -> PropertyDraft:
    """The offer at a place within some 300 m of its neighbourhood's middle."""
    middle = _PLACES[home.neighborhood]
    latitude, longitude = (round(degrees + chance.uniform(-0.003, 0.003), 5) for degrees in middle)
    bedrooms, bathrooms = home.rooms or (None, None)
    return PropertyDraft(
        title=home.title,
        description=home.description,
        language=home.language,
        property_type=home.kind,
        listing_type=home.listing_type,
        price=_price(home, latitude, longitude, chance),
        bedrooms=bedrooms,
        bathrooms=bathrooms,
        square_meters=Decimal(home.square_meters),
        year_built=home.year_built,
        neighborhood=home.neighborhood,
        city="Addis Ababa",
        latitude=latitude,
        longitude=longitude,
    )


def _price(home: _Home, latitude: float, longitude: float, chance: Random) -> Decimal:
    """ETB, rounded as people ask, give or take a tenth."""
    from_centre = kilometres((latitude, longitude), MESKEL_SQUARE)
    worth = square_meter(home.kind, home.listing_type, from_centre) * home.square_meters * chance.uniform(0.9, 1.1)
    return Decimal(asked(worth, home.listing_type))


def _car_draft(car: _Car) -> VehicleDraft:
    return VehicleDraft(
        title=car.title,
        description=car.description,
        listing_type=ListingType.sale,
        price=Decimal(car.price),
        brand=car.brand,
        model=car.model,
        year=car.year,
        body=car.body,
        fuel=car.fuel,
        mileage_km=car.mileage_km,
        city="Addis Ababa",
        language=car.language,
    )
