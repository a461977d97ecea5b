"""A listing for search engines: JSON-LD in the words of schema.org (RealEstateListing, Vehicle and what they offer)."""

from __future__ import annotations

from typing import assert_never

from pydantic import JsonValue
from pydantic_core import to_json

from k2k.features.listings.kinds import (
    AnyListing,
    Body,
    Drive,
    Property,
    PropertyType,
    Vehicle,
    VehicleCondition,
)
from k2k.features.listings.models import ListingStatus, ListingType, PricePeriod

Thing = dict[str, JsonValue]

_PLACES = {
    PropertyType.house: "House",
    PropertyType.apartment: "Apartment",
    PropertyType.townhouse: "House",
    PropertyType.land: "Landform",
    PropertyType.commercial: "Place",
    PropertyType.office: "Place",
    PropertyType.condo: "Apartment",
    PropertyType.villa: "SingleFamilyResidence",
    PropertyType.room: "Room",
}
_VEHICLES = {Body.motorcycle: "Motorcycle", Body.three_wheeler: "Motorcycle", Body.bus: "BusOrCoach"}
_NO_CARS = {Body.truck, Body.machinery, Body.van, Body.minibus}
_DRIVES = {
    Drive.front: "FrontWheelDriveConfiguration",
    Drive.rear: "RearWheelDriveConfiguration",
    Drive.four_wheel: "FourWheelDriveConfiguration",
}
_CONDITIONS = {
    VehicleCondition.new: "NewCondition",
    VehicleCondition.used: "UsedCondition",
    VehicleCondition.damaged: "DamagedCondition",
}
# UN/CEFACT codes of units of time.
_PERIODS = {PricePeriod.day: "DAY", PricePeriod.week: "WEE", PricePeriod.month: "MON", PricePeriod.year: "ANN"}


def json_ld(listing: AnyListing) -> Thing:
    """The listing as one JSON-LD node; what it does not say is left out."""
    match listing:
        case Property():
            thing = _real_estate(listing)
        case Vehicle():
            thing = _vehicle(listing)
        case _:
            assert_never(listing)
    return _said(
        {
            "@context": "https://schema.org",
            **thing,
            "identifier": str(listing.id),
            "name": listing.title,
            "description": listing.description,
            "image": [image.url for image in listing.images] or None,
            "offers": _offer(listing),
        }
    )


def _real_estate(listing: Property) -> Thing:
    place: Thing = {
        "@type": _PLACES[listing.property_type],
        "numberOfBedrooms": listing.bedrooms,
        "numberOfBathroomsTotal": listing.bathrooms,
        "floorSize": _quantity(listing.square_meters, "MTK"),
        "floorLevel": str(listing.floor) if listing.floor is not None else None,
        "yearBuilt": listing.year_built,
        "address": _address(listing),
        "geo": _geo(listing),
        "amenityFeature": [
            {"@type": "LocationFeatureSpecification", "name": name, "value": True}
            for name in (*listing.amenities, *listing.features)
        ]
        or None,
    }
    return {
        "@type": "RealEstateListing",
        "datePosted": listing.published_at.date().isoformat() if listing.published_at else None,
        "inLanguage": listing.language.value,
        "mainEntity": _said(place),
    }


def _vehicle(listing: Vehicle) -> Thing:
    kind = "Vehicle" if listing.body in _NO_CARS or listing.body is None else _VEHICLES.get(listing.body, "Car")
    return {
        "@type": kind,
        "brand": {"@type": "Brand", "name": listing.brand},
        "model": listing.model,
        "vehicleModelDate": str(listing.year),
        "bodyType": listing.body.value if listing.body else None,
        "mileageFromOdometer": _quantity(listing.mileage_km, "KMT"),
        "fuelType": listing.fuel.value if listing.fuel else None,
        "vehicleTransmission": listing.transmission.value if listing.transmission else None,
        "driveWheelConfiguration": f"https://schema.org/{_DRIVES[listing.drive]}" if listing.drive else None,
        "vehicleEngine": {"@type": "EngineSpecification", "engineDisplacement": _quantity(listing.engine_cc, "CMQ")}
        if listing.engine_cc
        else None,
        "vehicleSeatingCapacity": listing.seats,
        "numberOfDoors": listing.doors,
        "color": listing.color,
        "itemCondition": f"https://schema.org/{_CONDITIONS[listing.condition]}" if listing.condition else None,
        "numberOfPreviousOwners": listing.owners,
        "dateVehicleFirstRegistered": listing.first_registration.isoformat() if listing.first_registration else None,
    }


def _offer(listing: AnyListing) -> Thing:
    available = listing.status is ListingStatus.active
    rent = listing.listing_type is ListingType.rent
    price: Thing = {"@type": "UnitPriceSpecification", "price": float(listing.price)}
    price |= {"priceCurrency": listing.currency.value}
    if listing.price_period is not None:
        price["unitCode"] = _PERIODS[listing.price_period]
    return _said(
        {
            "@type": "Offer",
            "price": float(listing.price),
            "priceCurrency": listing.currency.value,
            "priceSpecification": price if rent else None,
            "businessFunction": f"http://purl.org/goodrelations/v1#{'LeaseOut' if rent else 'Sell'}",
            "availability": f"https://schema.org/{'InStock' if available else 'SoldOut'}",
            "validThrough": listing.expires_at.isoformat() if listing.expires_at else None,
            "availableAtOrFrom": _said({"@type": "Place", "address": _address(listing), "geo": _geo(listing)})
            if isinstance(listing, Vehicle)
            else None,
        }
    )


def _address(listing: AnyListing) -> Thing:
    return _said(
        {
            "@type": "PostalAddress",
            "streetAddress": listing.address,
            "addressLocality": ", ".join(filter(None, (listing.neighborhood, listing.city))),
            "addressRegion": listing.region,
            "addressCountry": listing.country,
        }
    )


def _geo(listing: AnyListing) -> Thing | None:
    if listing.latitude is None:
        return None
    return {"@type": "GeoCoordinates", "latitude": listing.latitude, "longitude": listing.longitude}


def _quantity(value: float | None, unit: str) -> Thing | None:
    """`unit` is a UN/CEFACT code: MTK square metre, KMT kilometre, CMQ cubic centimetre."""
    return None if value is None else {"@type": "QuantitativeValue", "value": value, "unitCode": unit}


def _said(thing: Thing) -> Thing:
    return {name: value for name, value in thing.items() if value is not None}


def within_page(described: JsonValue) -> bytes:
    """JSON that may stand between script tags: nothing in it ends them, whatever a seller writes."""
    text = to_json(described)
    for sign in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(sign.encode(), b"\\u%04x" % ord(sign))
    return text
