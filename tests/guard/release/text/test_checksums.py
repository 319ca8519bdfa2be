"""A number that obeys its checksum is taken for what it looks like, one with a digit changed is not."""

import pytest

from medward.guard.release.text.checksums import CHECKS

RIGHT = {
    "luhn": ["4111 1111 1111 1111", "5500-0000-0000-0004", "340000000000009"],
    "iban": ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000", "ES9121000418450200051332"],
    "spanish identity": ["12345678Z", "12345678-z", "X1234567L", "Y1234567X"],
    "vin": ["1M8GDM9AXKP042788", "11111111111111111"],
    "dea": ["AB1234563"],
    "ip": ["192.168.10.77", "2001:db8::8a2e:370:7334"],
}


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, values in RIGHT.items() for value in values])
def test_a_right_number_is_one(check, value):
    assert CHECKS[check](value)


@pytest.mark.parametrize(
    ("check", "value"), [(check, value) for check, values in RIGHT.items() if check != "ip" for value in values]
)
def test_a_digit_changed_is_noticed(check, value):
    at = next(place for place in reversed(range(len(value))) if value[place].isdigit())
    assert not CHECKS[check](value[:at] + str((int(value[at]) + 1) % 10) + value[at + 1 :])


@pytest.mark.parametrize(
    ("check", "value"), [("ip", "192.168.10.777"), ("ip", "::1"), ("long", "12"), ("long", "5000mg"), ("serial", "123")]
)
def test_what_is_none_is_refused(check, value):
    assert not CHECKS[check](value)


@pytest.mark.parametrize("value", ["224-410-62K", "849-440-72K2", "1234567K", "#1234567", "3962-0924", "6799-5773"])
def test_digits_as_many_as_an_identifier_has_number_somebody_whatever_is_stuck_to_them(value):
    assert CHECKS["digits"](value)


@pytest.mark.parametrize(
    "value",
    ["224-410", "2010-2015", "2018-2019-2020", "1000-1500", "47-10000", "99213-99215", "0700-1900", "5000000u", "#12"],
)
def test_quantities_and_ranges_number_nobody(value):
    assert not CHECKS["digits"](value)
