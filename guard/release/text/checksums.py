"""Checksums and ranges that a number must obey to be the identifier it looks like."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

from stdnum import luhn
from stdnum.es import dni, nie
from stdnum.gb import nhs
from stdnum.us import ssn


def is_ip_address(value: str) -> bool:
    """Whether an address of version 4 or 6 is written rightly."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


CHECKS: Mapping[str, Callable[[str], bool]] = {
    "luhn": lambda value: luhn.is_valid("".join(filter(str.isdigit, value))),
    "ssn": ssn.is_valid,
    "nhs": nhs.is_valid,
    "dni": dni.is_valid,
    "nie": nie.is_valid,
    "ip": is_ip_address,
}
"""Checks by the name that a language file calls them."""
