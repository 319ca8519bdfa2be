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
_GLUED_UNIT = re.compile(
    r"(?i)[0-9-]*(?:mg|mcg|ml|kg|mm|cm|k?hz|mmhg|u|iu|ui|units?|unidades|copies|copias|cells?|celulas|days?|years?)"
)
_LONG = 7
"""Digits in a row that an identifier of somebody may be."""
_NEAR = 100
"""How far apart the two numbers of a longer range may be that are not round."""


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
    """Whether digits, in one piece or with hyphens between, may number somebody: no quantity, and no range of two.

    What is stuck to them does not matter, nor whether some are missing.
    """
    number = re.match(r"#?[0-9-]+", value)
    pieces = re.findall(r"[0-9]+", number[0]) if number else []
    if sum(map(len, pieces)) < _LONG or _GLUED_UNIT.fullmatch(value):
        return False
    return not all(map(_is_year, pieces)) and (len(pieces) != 2 or not _is_range(*pieces))


def _is_year(digits: str) -> bool:
    return len(digits) == 4 and 1800 <= int(digits) < 2100


def _is_range(first: str, last: str) -> bool:
    """Whether two numbers, the smaller one first, are round, near each other, or short; or both are times of day."""
    if all(re.fullmatch(r"(?:[01][0-9]|2[0-4])(?:00|15|30|45)", each) for each in (first, last)):
        return True
    low, high = int(first), int(last)
    if "0" in (first[0], last[0]) or low >= high:
        return False
    alike = len(last) - len(first) <= 1 and (low % 10 == high % 10 == 0 or high - low <= _NEAR)
    return alike or len(first + last) <= _LONG


CHECKS: Mapping[str, Callable[[str], bool]] = {
    "dea": is_dea_number,
    "digits": is_number_of_somebody,
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
