"""Checksums and shapes that a number must have to be the identifier it looks like."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping

_VIN_VALUES = dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ", (*range(1, 9), *range(1, 6), 7, 9, *range(2, 10)), strict=True))
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_SPANISH_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_QUANTITY = re.compile(
    r"(?i)^[0-9.,/-]*(?:mg|mcg|ml|kg|mm|cm|hz|khz|mmhg|bpm|days?|weeks?|months?|years?|yo|hours?|hrs?|th|st|nd|rd|g|x|%)$"
)
_NUMBER = re.compile(
    r"(?P<before>[#.,]|rs|10\.[0-9]{4}/[A-Za-z.]+)?(?P<number>[0-9]+(?:-+[0-9]+)*)(?P<unit>[0-9A-Za-z-]*)"
)
_PUBLIC = re.compile(r"rs[0-9]{3,10}(?:-?[ACGT])?|10\.[0-9]{4}/[A-Za-z.]+[0-9]{7,10}")
"""A variant in dbSNP, and an article by its DOI."""
_UNIT = re.compile(
    r"(?i)(?:mg|mcg|ml|kg|mm|cm|k?hz|mmhg|u|iu|ui|units?|unidades|copies|copias|cells?|celulas|days?|years?|cfu|ufc|[kmg]?bq)?"
)
_TIME = re.compile(r"(?:[01][0-9]|2[0-3])[0-5][0-9]|2400")
_LONG = 7
"""Digits in a row that an identifier of somebody may be."""
_NEAR = 100
"""How far apart the two ends of a stretch of a genome may be that is written in full."""
_MOST = 12
"""Numbers of a list at most."""
_SHAPES = {(3, 3, 4), (3, 2, 4), (4, 4, 4, 4)}
"""How many digits stand between the hyphens of a telephone's, a social security or a card's number."""


def is_ip_address(value: str) -> bool:
    """Whether an address of version 4 or 6 is written rightly."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return len(value) > 6


def is_card_number(value: str) -> bool:
    """Whether the last digit of a payment card's number is its checksum (Luhn; ISO/IEC 7812)."""
    digits = [int(each) for each in reversed(value) if each.isdigit()]
    return sum(digits[::2] + [sum(divmod(2 * each, 10)) for each in digits[1::2]]) % 10 == 0


def is_bank_account(value: str) -> bool:
    """Whether the third and fourth character of an international bank account number are its checksum (ISO 13616)."""
    letters = "".join(filter(str.isalnum, value)).upper()
    return int("".join(str(int(each, 36)) for each in letters[4:] + letters[:4])) % 97 == 1


def is_spanish_identity(value: str) -> bool:
    """Whether the last letter of a Spanish identity number (DNI, or NIE of a foreigner) is its checksum."""
    letters = "".join(filter(str.isalnum, value)).upper()
    number = letters[:-1].translate(str.maketrans("XYZ", "012"))
    return _SPANISH_LETTERS[int(number) % 23] == letters[-1]


def is_vehicle_number(value: str) -> bool:
    """Whether the ninth character of a vehicle identification number is its checksum (ISO 3779, 49 CFR 565)."""
    total = sum(
        weight * (int(each) if each.isdigit() else _VIN_VALUES[each])
        for weight, each in zip(_VIN_WEIGHTS, value, strict=True)
    )
    return value[8] == "0123456789X"[total % 11]


def is_dea_number(value: str) -> bool:
    """Whether the last digit of a prescriber's DEA number is its checksum."""
    digits = [int(each) for each in value[2:]]
    return (sum(digits[0:6:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6]


def _has_digits(least: int) -> Callable[[str], bool]:
    """Whether a value has that many digits, one fewer beside a capital, and is no quantity with a unit."""
    return lambda value: (
        sum(map(str.isdigit, value)) >= least - any(map(str.isupper, value)) and not _QUANTITY.match(value)
    )


def is_phone_number(value: str) -> bool:
    """Whether a number has the digits of a telephone's, and is no range of two numbers."""
    digits = "".join(filter(str.isdigit, value))
    parts = re.fullmatch(r"([0-9]{3,5})-([0-9]{3,5})", value)
    return 7 <= len(digits) <= 15 and not (parts and len(digits) != 7 and int(parts[1]) < int(parts[2]))


def is_number_of_somebody(value: str) -> bool:
    """Whether digits, in one piece or with hyphens between, may number somebody: no quantity, range or list of numbers.

    What is stuck to them does not matter, nor whether some are missing; a unit excuses what is round.
    """
    found = _NUMBER.fullmatch(value)
    if not found or _PUBLIC.fullmatch(value):
        return False
    pieces = _pieces(found["number"])
    decimal = found["before"] in (".", ",") and pieces[0].startswith("0")
    if sum(map(len, pieces)) < _LONG or decimal:
        return False
    if not _UNIT.fullmatch(found["unit"]):
        return True
    if len(pieces) == 1:
        return not found["unit"] or not re.fullmatch(r"[1-9][0-9]*000", pieces[0])
    return not (_are_years(pieces) or _are_times(pieces) or (_is_range if len(pieces) == 2 else _is_list)(pieces))


def _is_counted(value: str) -> bool:
    """Whether a number is two pieces, as images are counted, or three as drugs are numbered (NDC)."""
    lengths = [len(each) for each in _pieces(value)]
    drug = len(lengths) == 3 and lengths[0] in (4, 5) and lengths[1] in (3, 4) and lengths[2] in (1, 2)
    return max(lengths) <= 5 and (len(lengths) == 2 or drug)


def _pieces(number: str) -> list[str]:
    return re.findall(r"[0-9]+", number)


def _are_years(pieces: list[str]) -> bool:
    """Whether two or three numbers are years, the earlier ones first."""
    likely = all(len(each) == 4 and 1800 <= int(each) < 2100 for each in pieces)
    return likely and len(pieces) <= 3 and pieces == sorted(set(pieces))


def _are_times(pieces: list[str]) -> bool:
    """Whether numbers are times of day, the earlier ones first, or two of which the later is a full hour of a night."""
    overnight = len(pieces) == 2 and pieces[1].endswith("00")
    return all(map(_TIME.fullmatch, pieces)) and (pieces == sorted(set(pieces)) or overnight)


def _is_range(pieces: list[str]) -> bool:
    """Whether two numbers, the smaller one first, are short or round, or so long that being near is no chance.

    Round are two that end in a nought, and one of them in two.
    """
    low, high = map(int, pieces)
    if _starts_with_nought(pieces) or low >= high:
        return False
    round_ones = low % 10 == high % 10 == 0 and 0 in (low % 100, high % 100)
    near = min(map(len, pieces)) >= 6 and high - low <= _NEAR
    return sum(map(len, pieces)) <= _LONG or round_ones or near


def _is_list(pieces: list[str]) -> bool:
    """Whether numbers rise or fall throughout, three of them in fives; only short ones repeat.

    What has the shape of a telephone's number, or of a damaged one, is no list.
    """
    lengths, numbers = tuple(map(len, pieces)), [int(each) for each in pieces]
    abroad = len(lengths) == 4 and lengths[0] < 3
    if _starts_with_nought(pieces) or lengths[abroad:] in _SHAPES or len(pieces) > _MOST:
        return False
    ordered = numbers in (sorted(numbers), sorted(numbers, reverse=True))
    apart = max(lengths) < 3 or len(set(numbers)) == len(numbers)
    return ordered and apart and (len(pieces) > 3 or all(each % 5 == 0 for each in numbers))


def _starts_with_nought(pieces: list[str]) -> bool:
    return any(each.startswith("0") and each != "0" for each in pieces)


CHECKS: Mapping[str, Callable[[str], bool]] = {
    "counted": lambda value: _is_counted(value) and is_number_of_somebody(value),
    "dea": is_dea_number,
    "digits": lambda value: not _is_counted(value) and is_number_of_somebody(value),
    "iban": is_bank_account,
    "ip": is_ip_address,
    "long": _has_digits(4),
    "luhn": is_card_number,
    "phone": is_phone_number,
    "postcode": lambda value: not value.endswith(("MG", "ML", "KG", "MM", "CM", "HZ", "PM", "AM", "YO")),
    "serial": _has_digits(5),
    "spanish identity": is_spanish_identity,
    "vin": is_vehicle_number,
}
"""Checks by the name that a language file calls them."""
