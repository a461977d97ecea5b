"""The same two reads as one would write them with FastAPI and async SQLAlchemy: measured against, never shipped.

Serves Key2Key's own tables. Nothing is slowed down on purpose: no debugging, as many connections as Key2Key has, one
statement where one is enough, responses serialised by pydantic's core.
"""

import os
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, computed_field
from sqlalchemy import ARRAY, ForeignKey, String, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship, selectinload

SECRET = os.environ["SECRET"]
POOL = int(os.environ["POOL"])
MEDIA = "/media/"
STANDARD_STATUS = {"active": "Active", "under_offer": "ActiveUnderContract", "sold": "Closed", "rented": "Closed"}

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=POOL,
    max_overflow=0,
    connect_args={"server_settings": {"jit": "off", "timezone": "UTC"}},
)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str | None]
    phone: Mapped[str | None]
    full_name: Mapped[str]
    avatar: Mapped[str | None]
    role: Mapped[str]
    is_verified: Mapped[bool]
    is_active: Mapped[bool]
    country: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class SignIn(Base):
    __tablename__ = "sign_ins"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    revoked_at: Mapped[datetime | None]
    user: Mapped[User] = relationship()


class Agent(Base):
    __tablename__ = "agent_profiles"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("listings.owner_id"))
    display_name: Mapped[str]
    company_name: Mapped[str | None]
    rating: Mapped[Decimal]
    review_count: Mapped[int]
    deleted_at: Mapped[datetime | None]


class Media(Base):
    __tablename__ = "media"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    width: Mapped[int]
    height: Mapped[int]
    color: Mapped[str]
    blurhash: Mapped[str]


class Image(Base):
    __tablename__ = "images"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    listing_id: Mapped[UUID] = mapped_column(ForeignKey("listings.id"))
    media_id: Mapped[UUID] = mapped_column(ForeignKey("media.id"))
    is_primary: Mapped[bool]
    display_order: Mapped[int]
    created_at: Mapped[datetime]
    media: Mapped[Media] = relationship(lazy="joined", innerjoin=True)


class Stats(Base):
    __tablename__ = "listing_stats"

    id: Mapped[UUID] = mapped_column(ForeignKey("listings.id"), primary_key=True)
    view_count: Mapped[int]
    save_count: Mapped[int]


class Listing(Base):
    __tablename__ = "listings"
    __mapper_args__ = {"polymorphic_on": "kind"}  # noqa: RUF012 -- as SQLAlchemy documents it

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    owner_id: Mapped[UUID]
    agency_id: Mapped[UUID | None]
    title: Mapped[str]
    description: Mapped[str | None]
    listing_type: Mapped[str]
    price: Mapped[Decimal]
    price_type: Mapped[str]
    price_period: Mapped[str | None]
    currency: Mapped[str]
    status: Mapped[str]
    address: Mapped[str | None]
    neighborhood: Mapped[str | None]
    city: Mapped[str]
    region: Mapped[str | None]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    amenities: Mapped[list[str]] = mapped_column(ARRAY(String))
    features: Mapped[list[str]] = mapped_column(ARRAY(String))
    is_featured: Mapped[bool]
    language: Mapped[str]
    country: Mapped[str]
    version: Mapped[int]
    canonical_id: Mapped[UUID | None]
    published_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    images: Mapped[list[Image]] = relationship(order_by=(Image.display_order, Image.id))
    stats: Mapped[Stats | None] = relationship(uselist=False)
    agent: Mapped[Agent | None] = relationship(
        primaryjoin=lambda: (Agent.user_id == Listing.owner_id) & Agent.deleted_at.is_(None), uselist=False
    )


class Property(Listing):
    __tablename__ = "properties"
    __mapper_args__ = {"polymorphic_identity": "property"}  # noqa: RUF012 -- as above

    id: Mapped[UUID] = mapped_column(ForeignKey("listings.id"), primary_key=True)
    property_type: Mapped[str]
    bedrooms: Mapped[int | None]
    bathrooms: Mapped[int | None]
    square_meters: Mapped[Decimal | None]
    lot_square_meters: Mapped[Decimal | None]
    floor: Mapped[int | None]
    floors: Mapped[int | None]
    furnishing: Mapped[str | None]
    condition: Mapped[str | None]
    parking: Mapped[int | None]
    available_from: Mapped[date | None]
    year_built: Mapped[int | None]

    @property
    def view_count(self) -> int:
        return self.stats.view_count if self.stats else 0

    @property
    def save_count(self) -> int:
        return self.stats.save_count if self.stats else 0


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class UserOut(Out):
    id: UUID
    email: str | None
    phone: str | None
    full_name: str
    avatar: str | None
    role: str
    is_verified: bool
    is_active: bool
    country: str
    created_at: datetime
    updated_at: datetime


class MediaOut(Out):
    width: int
    height: int
    color: str
    blurhash: str


class ImageOut(Out):
    id: UUID
    media_id: UUID = Field(exclude=True)
    media: MediaOut = Field(exclude=True)
    is_primary: bool
    display_order: int
    created_at: datetime

    @computed_field
    def url(self) -> str:
        return f"{MEDIA}images/{self.media_id}-large.webp"

    @computed_field
    def medium_url(self) -> str:
        return f"{MEDIA}images/{self.media_id}-medium.webp"

    @computed_field
    def small_url(self) -> str:
        return f"{MEDIA}images/{self.media_id}-small.webp"

    @computed_field
    def width(self) -> int:
        return self.media.width

    @computed_field
    def height(self) -> int:
        return self.media.height

    @computed_field
    def color(self) -> str:
        return self.media.color

    @computed_field
    def blurhash(self) -> str:
        return self.media.blurhash


class AgentOut(Out):
    id: UUID
    display_name: str
    company_name: str | None
    rating: float
    review_count: int


class PropertyOut(Out):
    id: UUID
    kind: str
    user_id: UUID = Field(validation_alias="owner_id")
    agency_id: UUID | None
    title: str
    description: str | None
    property_type: str
    listing_type: str
    price: float
    price_type: str
    price_period: str | None
    currency: str
    status: str
    bedrooms: int | None
    bathrooms: int | None
    square_meters: float | None
    lot_square_meters: float | None
    floor: int | None
    floors: int | None
    furnishing: str | None
    condition: str | None
    parking: int | None
    available_from: date | None
    year_built: int | None
    address: str | None
    neighborhood: str | None
    city: str
    region: str | None
    latitude: float | None
    longitude: float | None
    amenities: list[str]
    features: list[str]
    images: list[ImageOut]
    is_featured: bool
    language: str
    country: str
    version: int
    canonical_id: UUID | None
    published_at: datetime | None
    expires_at: datetime | None
    closed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    view_count: int
    save_count: int
    saved: bool = False
    agent: AgentOut | None

    @computed_field
    def standard_status(self) -> str | None:
        return STANDARD_STATUS.get(self.status)


# Written out rather than bound, so that PostgreSQL may use the partial index whatever plan it keeps.
PUBLIC = (
    Listing.kind == literal_column("'property'"),
    Listing.status == literal_column("'active'"),
    Listing.deleted_at.is_(None),
)

app = FastAPI(openapi_url=None)
bearer = HTTPBearer()


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_current_user(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)], session: Session
) -> User:
    """The person of the token, whose sign-in must still be open."""
    try:
        claims = jwt.decode(
            credentials.credentials,
            SECRET,
            algorithms=["HS256"],
            audience="key2key",
            issuer="key2key",
            options={"require": ["exp", "iat", "sub", "sid"]},
        )
    except jwt.PyJWTError as error:
        raise HTTPException(401, "The token does not hold") from error
    sign_in = await session.get(SignIn, UUID(claims["sid"]), options=[joinedload(SignIn.user, innerjoin=True)])
    if (
        sign_in is None
        or sign_in.revoked_at is not None
        or str(sign_in.user_id) != claims["sub"]
        or not sign_in.user.is_active
        or sign_in.user.deleted_at is not None
    ):
        raise HTTPException(401, "This sign-in has ended")
    return sign_in.user


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/api/v1/auth/me", response_model=UserOut)
async def get_me(user: Annotated[User, Depends(get_current_user)]) -> User:
    return user


@app.get("/api/v1/properties", response_model=list[PropertyOut])
async def list_properties(
    session: Session,
    response: Response,
    skip: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
) -> Sequence[Property]:
    total = await session.scalar(select(func.count()).select_from(Listing).where(*PUBLIC))
    page = await session.scalars(
        select(Property)
        .where(*PUBLIC)
        .options(selectinload(Property.images), joinedload(Property.stats), joinedload(Property.agent))
        .order_by(Listing.published_at.desc(), Listing.id.desc())
        .offset(skip)
        .limit(limit)
    )
    response.headers["X-Total-Count"] = str(total)
    return page.all()
