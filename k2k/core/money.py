"""Money: amounts are decimal, never float; a currency is its ISO 4217 code. There is no exchange."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import Field, PlainSerializer


class Currency(StrEnum):
    ETB = "ETB"
    KES = "KES"
    TZS = "TZS"
    UGX = "UGX"
    USD = "USD"


# In JSON a price is a number, as SQL renders it; two decimals of at most 14 digits survive a double exactly.
Price = Annotated[
    Decimal,
    Field(gt=0, max_digits=14, decimal_places=2, allow_inf_nan=False),
    PlainSerializer(float, return_type=float, when_used="json"),
]
