"""The same two reads as one would write them with FastAPI and async SQLAlchemy: measured against, never shipped.

Serves Key2Key's own tables. Nothing is slowed down on purpose: no debugging, as many connections as Key2Key has, one
statement where one is enough, responses serialised by pydantic's core.
"""

import os
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ForeignKey, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship

SECRET = os.environ["SECRET"]
POOL = int(os.environ["POOL"])

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
    currency: Mapped[str]
    status: Mapped[str]
    address: Mapped[str | None]
    neighborhood: Mapped[str | None]
    city: Mapped[str]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    view_count: Mapped[int]
    is_featured: Mapped[bool]
    language: Mapped[str]
    country: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class Property(Listing):
    __tablename__ = "properties"
    __mapper_args__ = {"polymorphic_identity": "property"}  # noqa: RUF012 -- as above

    id: Mapped[UUID] = mapped_column(ForeignKey("listings.id"), primary_key=True)
    property_type: Mapped[str]
    bedrooms: Mapped[int | None]
    bathrooms: Mapped[int | None]
    square_meters: Mapped[Decimal | None]
    year_built: Mapped[int | None]


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


class PropertyOut(Out):
    id: UUID
    user_id: UUID = Field(validation_alias="owner_id")
    agency_id: UUID | None
    title: str
    description: str | None
    property_type: str
    listing_type: str
    price: float
    currency: str
    status: str
    bedrooms: int | None
    bathrooms: int | None
    square_meters: float | None
    year_built: int | None
    address: str | None
    neighborhood: str | None
    city: str
    latitude: float | None
    longitude: float | None
    view_count: int
    is_featured: bool
    language: str
    country: str
    created_at: datetime
    updated_at: datetime


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
        select(Property).where(*PUBLIC).order_by(Listing.created_at.desc(), Listing.id.desc()).offset(skip).limit(limit)
    )
    response.headers["X-Total-Count"] = str(total)
    return page.all()
