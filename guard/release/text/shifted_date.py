"""Shifted dates: a date moved by a number of days and written as it was, whatever its form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

_NUMBERS = re.compile(r"[0-9]+")
_WORDS = re.compile(r"[^\W\d_]+")
_WEEKDAY = re.compile(r"(?i)^[a-z]+day,? (?:the )?")
_TIME = re.compile(r"(?i)[T ,]*(?:at )?[0-2]?[0-9]:[0-5][0-9].*$")
_ANY_YEAR, _ANY_DAY = 2001, 15  # of a date that says none
_LEAP_YEAR = 2000

_Place = tuple[int, int]
_Parts = Mapping[str, tuple[int, _Place | None]]


def shifted_date(value: str, shift: timedelta, months: Mapping[str, int], day_first: bool) -> str | None:
    """The date moved by `shift` in the form it had, without its weekday; None where it cannot be read.

    `months` are month names in lower case; `day_first` says whether 3/4 is in April. A day or year that is not said is
    taken to be in the middle of a month or some year, and is not said afterwards; a time of day stays as it is.
    """
    value = _WEEKDAY.sub("", value)
    time = _TIME.search(value)
    if time and time.start():
        without = shifted_date(value[: time.start()], shift, months, day_first)
        return without and without + value[time.start() :]
    words = [word for word in _WORDS.findall(value) if word.lower() in months]
    numbers = [(match[0], match.span()) for match in _NUMBERS.finditer(value)]
    parts = _named_date(words, numbers, months) if words else _numeric_date(numbers, day_first)
    if parts is None:
        return None
    month, day = (parts.get(name, (usual, None))[0] for name, usual in (("month", 1), ("day", _ANY_DAY)))
    year = parts.get("year", (_LEAP_YEAR if (month, day) == (2, 29) else _ANY_YEAR, None))[0]
    try:
        moved = date(year, month, day) + shift
    except (ValueError, OverflowError):
        return None
    result = value
    for start, end, name in sorted(((*place, name) for name, (_, place) in parts.items() if place), reverse=True):
        written = str(getattr(moved, name))
        written = written[-2:] if name == "year" and end - start == 2 else written.zfill(end - start)
        result = result[:start] + written + result[end:]
    if words:
        result = result.replace(words[0], _month_like(words[0], moved.month, months), 1)
    return re.sub(r"(?i)(?<=[0-9])(st|nd|rd|th)\b", _ordinal(moved.day), result)


def _named_date(
    words: Sequence[str], numbers: Sequence[tuple[str, _Place]], months: Mapping[str, int]
) -> _Parts | None:
    parts: dict[str, tuple[int, _Place | None]] = {"month": (months[words[0].lower()], None)}
    for number, span in numbers[:2]:
        if len(number) <= 2 and "day" not in parts:
            parts["day"] = (int(number), span)
        else:
            parts["year"] = (_year(number), span)
    return parts


def _numeric_date(numbers: Sequence[tuple[str, _Place]], day_first: bool) -> _Parts | None:
    if len(numbers) == 1 and len(numbers[0][0]) == 8:
        digits, (start, _) = numbers[0]
        cuts = ((0, 4), (4, 6), (6, 8))
        numbers = [(digits[first:last], (start + first, start + last)) for first, last in cuts]
    if len(numbers) == 2:
        first, second = numbers
        return (
            {"month": (int(first[0]), first[1]), "year": (_year(second[0]), second[1])} if len(second[0]) == 4 else None
        )
    if len(numbers) < 3:
        return None
    if len(numbers[0][0]) == 4:
        order = ("year", "month", "day")
    elif int(numbers[0][0]) > 12 or (day_first and int(numbers[1][0]) <= 12):
        order = ("day", "month", "year")
    else:
        order = ("month", "day", "year")
    return {
        name: (_year(number) if name == "year" else int(number), span)
        for name, (number, span) in zip(order, numbers, strict=False)
    }


def _year(number: str) -> int:
    return int(number) if len(number) > 2 else 2000 + int(number) if int(number) < 50 else 1900 + int(number)


def _month_like(word: str, month: int, months: Mapping[str, int]) -> str:
    """The name of a month, short where the other one is short; "May" is the whole name."""
    of_month: dict[int, list[str]] = {}
    for name, number in months.items():
        of_month.setdefault(number, []).append(name)
    whole = len(word) == max(map(len, of_month[months[word.lower()]]))
    found = (max if whole else min)(of_month[month], key=len)
    return found.upper() if word.isupper() else found.title()


def _ordinal(day: int) -> str:
    return "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
