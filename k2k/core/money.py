"""Money: amounts are decimal, never float; a currency is its ISO 4217 code. There is no exchange."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError


class Currency(StrEnum):
    ETB = "ETB"
    KES = "KES"
    TZS = "TZS"
    UGX = "UGX"
    USD = "USD"


def from_number(value: object) -> object:
    """A JSON number as a decimal: even in strict mode a decimal would also be read out of a string."""
    match value:
        case bool() | str():
            raise PydanticCustomError("number_type", "Input should be a number")
        case int() | float():
            return Decimal(str(value))
    return value


# In JSON a price is a number, as SQL renders it; two decimals of at most 14 digits survive a double exactly.
Price = Annotated[
    Decimal,
    Field(gt=0, max_digits=14, decimal_places=2, allow_inf_nan=False),
    BeforeValidator(from_number),
    PlainSerializer(float, return_type=float, when_used="json"),
    WithJsonSchema(
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10**12, "description": "At most two decimals"}
    ),
]
