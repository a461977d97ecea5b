"""How things are offered, in English and in Amharic."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

from k2k.features.listings.kinds import PropertyType
from k2k.features.listings.models import Language
from k2k.seed.chance import Dice

HOME_NAMES: Mapping[PropertyType, Mapping[Language, str]] = {
    PropertyType.apartment: {Language.en: "apartment", Language.am: "አፓርታማ"},
    PropertyType.condo: {Language.en: "condominium", Language.am: "ኮንዶሚኒየም"},
    PropertyType.house: {Language.en: "house", Language.am: "መኖሪያ ቤት"},
    PropertyType.villa: {Language.en: "villa", Language.am: "ቪላ"},
    PropertyType.townhouse: {Language.en: "townhouse", Language.am: "ታውንሃውስ"},
    PropertyType.land: {Language.en: "plot of land", Language.am: "ቦታ"},
    PropertyType.commercial: {Language.en: "shop", Language.am: "የንግድ ቤት"},
    PropertyType.office: {Language.en: "office", Language.am: "ቢሮ"},
    PropertyType.room: {Language.en: "room", Language.am: "ክፍል ቤት"},
}
_LOOKS = {
    Language.en: ("", "", "Quiet ", "Bright ", "Spacious ", "Modern ", "Well kept ", "Affordable "),
    Language.am: ("", "", "ሰፊ ", "ዘመናዊ ", "ጸጥ ያለ ", "ንጹህ ", "ምርጥ "),
}
_TO_LET = {Language.en: " for rent", Language.am: " የሚከራይ"}
_FOR_SALE = {Language.en: "", Language.am: " የሚሸጥ"}
_OF_HOMES = {
    Language.en: (
        "Water around the clock, with a tank on the roof.",
        "Close to the main road, schools and a clinic.",
        "The title deed is ready and clean.",
        "A guard at the gate day and night.",
        "Ten minutes on foot to the light rail.",
        "Backup generator and a lift that works.",
        "Shops, pharmacy and a bank downstairs.",
        "The kitchen was fitted last year.",
        "Sunny balcony with a view of the hills.",
        "Bank loan is possible.",
        "Seen by appointment, also on weekends.",
        "Room for two cars in the compound.",
        "Neighbours are quiet families.",
        "The price can be talked about with a serious buyer.",
    ),
    Language.am: (
        "ውሃ ሃያ አራት ሰዓት የማይጠፋበት።",
        "ለዋና መንገድ፣ ለትምህርት ቤትና ለጤና ጣቢያ ቅርብ።",
        "ካርታው የተዘጋጀ፣ ከዕዳ ነጻ።",
        "ቀንና ሌሊት ጥበቃ ያለው።",
        "ከባቡር ጣቢያው በእግር አሥር ደቂቃ።",
        "ጄኔሬተርና ሊፍት ያለው።",
        "ሱቅ፣ መድኃኒት ቤትና ባንክ በአቅራቢያው።",
        "ወጥ ቤቱ ባለፈው ዓመት የታደሰ።",
        "በረንዳው ለእይታ የሚያምር።",
        "የባንክ ብድር ይቻላል።",
        "ቅዳሜና እሁድም ማየት ይቻላል።",
        "ለሁለት መኪና የሚሆን ማቆሚያ አለው።",
        "ዋጋው ድርድር አለው።",
    ),
}
_OF_CARS = {
    Language.en: (
        "Never in an accident.",
        "Serviced at the dealer, all papers there.",
        "The tyres are new.",
        "Cold air conditioning.",
        "Second key and the manual come with it.",
        "One careful driver.",
        "Low fuel use in the city.",
        "Engine and gearbox without a fault.",
        "Can be seen at the weekend.",
        "Bank loan is possible.",
        "Exchange for a smaller car is welcome.",
    ),
    Language.am: (
        "አደጋ ያልደረሰበት።",
        "ሙሉ ሰነድ ያለው።",
        "ጎማዎቹ አዲስ ናቸው።",
        "ኤሲው በደንብ ይሠራል።",
        "በጥንቃቄ የተነዳ።",
        "ነዳጅ ቆጣቢ።",
        "ሞተሩና ካምቢዮው ችግር የለበትም።",
        "የባንክ ብድር ይቻላል።",
        "በሌላ መኪና መቀየር ይቻላል።",
        "ዋጋው ድርድር አለው።",
    ),
}
_CHARGED = {
    Language.en: "Home charger included; {range_km} km with a full battery.",
    Language.am: "ቻርጀሩ አብሮ ይሰጣል፤ ሙሉ ባትሪ {range_km} ኪሎ ሜትር ይጓዛል።",
}
_AGAIN = {
    Language.en: ("{}!", "{}, direct", "Urgent: {}", "{} (new photos)"),
    Language.am: ("{}!", "አስቸኳይ፦ {}", "{}፣ ያለ ደላላ"),
}
# Every way to say three of them: to draw one of these is ten times as fast as to draw three.
_HOME_TEXTS = {language: [" ".join(three) for three in permutations(said, 3)] for language, said in _OF_HOMES.items()}
_CAR_TEXTS = {language: [" ".join(three) for three in permutations(said, 3)] for language, said in _OF_CARS.items()}


def home_title(
    dice: Dice, language: Language, kind: PropertyType, bedrooms: int | None, where: str, *, to_let: bool
) -> str:
    """A few words about a home."""
    look, name = dice.pick(_LOOKS[language]), HOME_NAMES[kind][language]
    trade = (_TO_LET if to_let else _FOR_SALE)[language]
    if language is Language.am:
        rooms = f"ባለ {bedrooms} መኝታ " if bedrooms else ""
        return f"{where} {look}{rooms}{name}{trade}"
    rooms = f"{bedrooms}-bedroom " if bedrooms else ""
    words = f"{look}{rooms}{name}{trade} in {where}"
    return words[0].upper() + words[1:]


def home_text(dice: Dice, language: Language) -> str:
    """Some sentences about a home."""
    return dice.pick(_HOME_TEXTS[language])


def car_title(dice: Dice, language: Language, name: str, year: int, *, to_let: bool) -> str:
    """A few words about a vehicle."""
    trade = (_TO_LET if to_let else _FOR_SALE)[language]
    return f"{dice.pick(_LOOKS[language])}{name} {year}{trade}"


def car_text(dice: Dice, language: Language, range_km: int | None) -> str:
    """Some sentences about a vehicle."""
    said = dice.pick(_CAR_TEXTS[language])
    return said if range_km is None else f"{said} {_CHARGED[language].format(range_km=range_km)}"


def said_again(dice: Dice, language: Language, title: str) -> str:
    """The title under which somebody else offers the same."""
    return dice.pick(_AGAIN[language]).format(title)
