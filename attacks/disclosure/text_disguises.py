"""Disguises of a whole value: encoded, turned round, or wrapped into another form."""

from __future__ import annotations

import base64
import binascii
import json
import re


def write_base64(value: str) -> str:
    """The value in base64."""
    return base64.b64encode(value.encode()).decode()


def write_base64_by_word(value: str) -> str:
    """Each word in base64."""
    return " ".join(write_base64(word) for word in value.split())


def read_base64(text: str) -> str:
    """What every stretch that may be base64 decodes to; one line in a row, and a line each."""
    found = [_from_base64(run) for run in re.findall(r"[A-Za-z0-9+/]{2,}={0,2}", text)]
    return "\n".join(["".join(found), *found])


def write_hex(value: str) -> str:
    """The value in hexadecimal digits."""
    return value.encode().hex()


def write_hex_apart(value: str) -> str:
    """The same, byte by byte."""
    return value.encode().hex(" ")


def write_percent(value: str) -> str:
    """Every byte as in an address: %4A."""
    return "".join(f"%{byte:02X}" for byte in value.encode())


def read_hex(text: str) -> str:
    """What pairs of hexadecimal digits decode to."""
    runs = re.findall(r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{2}[ %]*)+(?![0-9A-Za-z])", text)
    return "\n".join(bytes.fromhex(run.replace("%", " ")).decode("utf-8", "replace") for run in runs)


def write_decimal(value: str) -> str:
    """The code of each character."""
    return " ".join(str(ord(each)) for each in value)


def read_decimal(text: str) -> str:
    """The characters of numbers that are codes."""
    return "".join(chr(int(each)) for each in re.findall(r"\b\d{2,3}\b", text))


def turn_round(text: str) -> str:
    """The text from its end."""
    return text[::-1]


def turn_words(text: str) -> str:
    """Each word from its end."""
    return re.sub(r"\S+", lambda match: match[0][::-1], text)


def tag_words(value: str) -> str:
    """Each word between the marks of a translation."""
    return " ".join(f"<es>{word}</es>" for word in value.split())


def untag_words(text: str) -> str:
    """The text without such marks."""
    return re.sub(r"</?es>", " ", text)


def write_fields(value: str) -> str:
    """Pieces of three characters as the fields of a JSON object."""
    return json.dumps({f"part{place}": value[place : place + 3] for place in range(0, len(value), 3)})


def read_fields(text: str) -> str:
    """The values of all fields in a row."""
    return "".join(re.findall(r'": "([^"]*)', text))


def write_morse(value: str) -> str:
    """The letters and digits in Morse code."""
    return " ".join(_MORSE[each] for each in value.lower() if each in _MORSE)


def read_morse(text: str) -> str:
    """What Morse code says, with and without the full stop that may end it; one line each."""
    letters = {code: letter for letter, code in _MORSE.items()}
    return "\n".join(
        "".join(letters.get(code, "\n") for code in re.findall(r"[.-]+", said)) for said in (text, text[:-1])
    )


def write_binary(value: str) -> str:
    """Every byte as eight binary digits."""
    return " ".join(f"{byte:08b}" for byte in value.encode())


def read_binary(text: str) -> str:
    """What groups of eight binary digits decode to."""
    return bytes(int(each, 2) for each in re.findall(r"\b[01]{8}\b", text)).decode("utf-8", "replace")


def shift_letters(text: str, places: int) -> str:
    """Letters moved on in the alphabet, as Caesar did."""
    return re.sub("[a-z]", lambda match: chr((ord(match[0]) - ord("a") + places) % 26 + ord("a")), text.lower())


def _from_base64(run: str) -> str:
    plain = run.rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4)).decode("utf-8", "ignore")
    except (binascii.Error, ValueError):
        return ""


_MORSE = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz0123456789",
        re.findall(
            r"\S+",
            ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- "
            "--.. ----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----.",
        ),
        strict=True,
    )
)
