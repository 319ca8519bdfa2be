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


def numbers_somebody(value):
    return CHECKS["digits"](value) or CHECKS["counted"](value)


OF_SOMEBODY = (
    "224-410-62K 849-440-72K2 1234567K #1234567 3962-0924 6799-5773 "
    "12345678U 123-45-6789U 224-410-6262u 12345678days 1234500u 12345678cells 1000-2000K "
    "1230-1460 1230-4560 12345-12399 1985-1999-2001-2010 2500-1261 1985-0312 2000-1215 "
    "250-500-1000 100-200-3000 1-224-410-6262 985-12-11 985-03-02 24-410-6262 3-410-6262 "
    "224---410---6262 2-2-4-4-1-0-6-2-6-2 06-12-34-56 22-44-10-62-62 71-33-52-22 "
    "0-0-0-0-0-0-0-0-0-0-0-0-0 1111-1111-1111 .22441062 rs12345678K rs224-410-6262 "
    "1234567890123456789012345678901234567890123456789012345678901234567890 "
)
OF_NOBODY = (
    "224-410 2010-2015 2018-2019-2020 1000-1500 47-10000 0700-1900 #12 "
    "5000000u 10000000CFU 7400000Bq 1000000-2000000cells "
    "2300-0700 0805-1617 0800-1600-2400 1000-100000 25700-288000 117559590-117559593 170-1734 "
    "3-4-5-6-7-8-9 7-8-9-9-10-10-10 31-32-41-42 3-6-12-24-36 60-40-30-20-10-5 0-50-400-800 0-500-1000 "
    "12-45-89-120 101-102-103-104 1200-2400-3600 5-10-20-40-80mg .0000001 "
    "rs1234567 rs7903146-T 10.1148/radiol.2019182716 "
)


@pytest.mark.parametrize("value", OF_SOMEBODY.split())
def test_digits_as_many_as_an_identifier_has_number_somebody_whatever_is_stuck_to_them(value):
    assert numbers_somebody(value)


@pytest.mark.parametrize("value", OF_NOBODY.split())
def test_quantities_ranges_and_lists_number_nobody(value):
    assert not numbers_somebody(value)


@pytest.mark.parametrize(
    "value", ["1062-1085", "99213-99215", "0002-8215-01", "2244106-2620", "224-410-6262", "22441062"]
)
def test_only_few_short_numbers_can_be_counted(value):
    assert CHECKS["counted"](value) == (max(map(len, value.split("-"))) <= 5 and value != "224-410-6262")
    assert CHECKS["digits"](value) != CHECKS["counted"](value)
