"""How the columns of a table are commonly sent wrongly: other units, other codes, and numbers for what is missing."""

from __future__ import annotations

from medward.guard.commissioning.mistake import SendingMistake, linear_change

GAPS = (0.0, -1.0, -9.0, 9.0, 99.0, 999.0, 9999.0, -99.0, -999.0, -9999.0)
"""Numbers that commonly stand for a missing value."""
MOST_CODES = 20
"""A column of so many different whole numbers at most may hold codes."""

UNIT_FACTORS = (
    (10.0, "a power of ten"),
    (100.0, "a power of ten, or percent for a share"),
    (1000.0, "a power of ten, as milli for whole units"),
    (10000.0, "a power of ten"),
    (1e6, "a power of ten, as micro for whole units"),
    (18.016, "glucose in mg/dL for mmol/L"),
    (88.42, "creatinine in umol/L for mg/dL"),
    (38.67, "cholesterol in mg/dL for mmol/L"),
    (88.57, "triglycerides in mg/dL for mmol/L"),
    (17.1, "bilirubin in umol/L for mg/dL"),
    (59.48, "urate in umol/L for mg/dL"),
    (2.8, "urea nitrogen in mg/dL for urea in mmol/L"),
    (6.006, "urea in mg/dL for mmol/L"),
    (4.008, "calcium in mg/dL for mmol/L"),
    (1.611, "haemoglobin in g/dL for mmol/L"),
    (2.2046, "pounds for kilograms"),
    (2.54, "centimetres for inches"),
    (30.48, "centimetres for feet"),
    (7.5006, "mmHg for kPa"),
    (12.0, "months for years"),
    (365.25, "days for years"),
    (7.0, "days for weeks"),
    (24.0, "hours for days"),
    (60.0, "minutes for hours, or seconds for minutes"),
)
"""By what a column may be multiplied, and what in medicine does so."""


def scaled_columns() -> tuple[SendingMistake, ...]:
    """Mistakes of units, powers of ten first."""
    found = []
    for factor, what in UNIT_FACTORS:
        for name, words, gain in (
            (f"{factor:g} times too large", f"{factor:.4g} times too large ({what})", 1 / factor),
            (f"{factor:g} times too small", f"{factor:.4g} times too small ({what}, the other way round)", factor),
        ):
            found.append(SendingMistake(name=name, words=words, undo=linear_change(gain)))
    further = (
        ("Fahrenheit", "like degrees Fahrenheit for Celsius", 1 / 1.8, -32 / 1.8),
        ("Celsius", "like degrees Celsius for Fahrenheit", 1.8, 32.0),
        ("sign", "of the other sign", -1.0, 0.0),
    )
    found += [SendingMistake(name=name, words=words, undo=linear_change(*change)) for name, words, *change in further]
    return tuple(found)


def shifted_codes() -> tuple[SendingMistake, ...]:
    """Mistakes of whole numbers that are codes."""
    large, small = "coded 1 too large, from 1 on for from 0 on", "coded 1 too small, from 0 on for from 1 on"
    return (
        SendingMistake(name="1 too large", words=large, undo=linear_change(1.0, -1.0)),
        SendingMistake(name="1 too small", words=small, undo=linear_change(1.0, 1.0)),
    )
