"""What the filter refuses, hides and chooses: bad text, values in errors, languages, surrogates, recognisers."""

import logging
import re
import subprocess
import sys
from datetime import datetime

import pytest

from medward.guard.errors import MedwardError
from medward.guard.release.disguises.folded_text import fold_text
from medward.guard.release.text import IdentifierKind, IdentifierSpan, KnownIdentifiers, TextFilter, find_identifiers
from medward.guard.release.text.language import language_names
from medward.guard.release.text.patterns import IdentifierPattern, PatternSet

KEY = b"sixteen bytes..."


@pytest.mark.parametrize("text", [b"Jane \xff Roe", "Jane \ud800 Roe"])
def test_a_text_that_is_no_unicode_is_refused_without_its_content(text):
    with pytest.raises(MedwardError, match="position 5 is no valid Unicode") as error:
        find_identifiers(text)
    assert "Jane" not in str(error.value)
    assert error.value.__cause__ is None


def test_bytes_are_read_as_utf_8():
    assert TextFilter().redact("José seen by Dr. Alice Carter".encode()).text == "[NAME] seen by [NAME]"


def test_an_unknown_language_is_refused_with_those_there_are():
    with pytest.raises(MedwardError, match="there are: en, es"):
        find_identifiers("x", language="tlh")


def test_nothing_is_logged(caplog):
    with caplog.at_level(logging.DEBUG):
        TextFilter().redact("Jane Roe, MRN 4711-22", KnownIdentifiers.from_mapping({"name": "Jane Roe"}))
    assert caplog.records == []


def test_the_serving_path_loads_no_heavy_library():
    heavy = ("torch", "sklearn", "transformers", "pandas", "spacy")
    code = f"import sys, medward.guard.release.text; print([each for each in {heavy} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("language", language_names())
def test_every_language_finds_what_looks_alike_everywhere(language):
    redacted = (
        TextFilter(language=language).redact("jane@example.org 4111 1111 1111 1111 192.168.10.77 http://x.org/a").text
    )
    assert redacted == "[EMAIL] [ACCOUNT] [IP_ADDRESS] [URL]"


def test_spanish_identifiers_are_found_and_clinical_words_kept():
    text = (
        "Nombre: Blanca.\nApellidos: Ramos Ibáñez.\nNHC: 150679.\nDomicilio: Calle del Pez, 28.\n"
        "Localidad/ Provincia: Madrid.\nCP: 28018.\nFecha de Ingreso: 28/02/2016.\n"
        "Médico: Josep Rubio Palau NºCol: 08-08-25574.\n"
        "Antecedentes: enfermedad de Parkinson, hernia L4-L5, intervenida en marzo de 2012.\n"
    )
    assert TextFilter(language="es").redact(text).text == (
        "Nombre: [NAME].\nApellidos: [NAME].\nNHC: [RECORD_NUMBER].\nDomicilio: [PLACE].\n"
        "Localidad/ Provincia: [PLACE].\nCP: [PLACE].\nFecha de Ingreso: [DATE].\n"
        "Médico: [NAME] NºCol: [LICENCE].\n"
        "Antecedentes: enfermedad de Parkinson, hernia L4-L5, intervenida en [DATE].\n"
    )


def test_surrogates_are_the_same_for_the_same_and_hide_the_key():
    text_filter = TextFilter(surrogate_key=KEY)
    first = text_filter.redact("John Smith met Dr. Smith. JOHN SMITH left; call 555-123-4567.", patient="p1").text
    given_name, family = re.match(r"(\w+) (\w+) met Dr\. (?P<again>\w+)", first).group(1, 2)
    assert (
        first
        == f"{given_name} {family} met Dr. {family}. {given_name.upper()} {family.upper()} left; call {first[-13:-1]}."
    )
    assert "Smith" not in first
    assert re.fullmatch(r"\d{3}-\d{3}-\d{4}", first[-13:-1])
    assert first[-13:-1] != "555-123-4567"
    other = TextFilter(surrogate_key=KEY[::-1]).redact("John Smith met Dr. Smith.", patient="p1").text
    assert other[:12] != first[:12]
    assert KEY.decode() not in repr(text_filter)


def test_dates_of_a_patient_are_shifted_by_one_number_of_days():
    text = "on 03/05/2023, on 2023-04-05, on March 15, 2023"
    shifted = TextFilter(surrogate_key=KEY).redact(text, patient="p1").text
    dates = re.fullmatch(r"on (\S+), on (\S+), on (.+)", shifted).groups()
    days = [
        datetime.strptime(each, form) for each, form in zip(dates, ("%m/%d/%Y", "%Y-%m-%d", "%B %d, %Y"), strict=True)
    ]
    assert (days[1] - days[0]).days == 31
    assert (days[2] - days[0]).days == 10
    assert days[0] != datetime(2023, 3, 5)
    other = TextFilter(surrogate_key=KEY).redact(text, patient="p2").text
    assert other != shifted


@pytest.mark.parametrize("day", ["12 March", "March 12", "12/3/2024", "5 Mar. 2023", "June 2024"])
def test_a_date_at_the_end_of_a_sentence_leaves_its_full_stop(day):
    assert (
        TextFilter().redact(f"He fell on {day}. The lungs are clear.").text == "He fell on [DATE]. The lungs are clear."
    )


@pytest.mark.parametrize("value", ["Room 23", "Room 27", "Dr. Chen", "at 10.0.0.1", "a 97-year-old", "Ext 4711"])
def test_no_surrogate_is_the_value_itself(value):
    for number in range(200):
        text_filter = TextFilter(surrogate_key=number.to_bytes(16, "big"))
        assert text_filter.redact(value, patient="p").text != value


def test_titles_stay_and_times_of_day_do():
    text = "Nurse Kowalski, Captain Miller and Sister Agnes came on March 5 at 10:15."
    for patient in ("p1", "p2", "p3", "p4", "p5", "p6"):
        made_up = TextFilter(surrogate_key=KEY).redact(text, patient=patient).text
        assert re.fullmatch(r"Nurse \w+, Captain \w+ and Sister \w+ came on [A-Z][a-z]+ \d+ at 10:15\.", made_up)


def test_addresses_in_a_network_have_surrogates_of_their_own():
    text = " ".join(f"at 10.0.{each // 250}.{each % 250 + 1}," for each in range(1000))
    made_up = TextFilter(surrogate_key=KEY).redact(text, patient="p").text
    assert len(set(made_up.split())) > 1000


def test_surrogates_need_a_key_and_a_patient():
    with pytest.raises(MedwardError, match="16 or more"):
        TextFilter(surrogate_key=b"short").redact("x", patient="p")
    with pytest.raises(MedwardError, match="patient is empty"):
        TextFilter(surrogate_key=KEY).redact("x")


class OneName:
    def recognise(self, text):
        at = text.find("Xqzrv")
        if at >= 0:
            yield IdentifierSpan(at, at + 5, IdentifierKind.NAME, "model")


def test_what_a_recogniser_finds_is_added():
    text = "the Xqzrv and Dr. Alice Carter"
    assert TextFilter().redact(text).text == "the Xqzrv and [NAME]"
    assert TextFilter(recogniser=OneName()).redact(text).text == "the [NAME] and [NAME]"


def test_a_set_of_patterns_that_runs_out_of_memory_searches_for_each(monkeypatch):
    patterns = PatternSet([IdentifierPattern(kind=IdentifierKind.CODE, expression="[0-9]{4}")])
    monkeypatch.setattr(patterns, "_occurring", type("Exhausted", (), {"Match": lambda self, view: None})())
    assert [(each.start, each.end) for each in patterns.find(fold_text("ab 1234"))] == [(3, 7)]


def test_a_pattern_that_re2_cannot_read_is_refused():
    with pytest.raises(MedwardError, match="pattern for code"):
        PatternSet([IdentifierPattern(kind=IdentifierKind.CODE, expression=r"(a)\1")])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kinds": ["names"]}, "got 'names'; there are: name, place, date"),
        ({"kinds": []}, r"got \[\]; there are: name"),
        ({"kinds": "name"}, "got 'name'; there are: name"),
        ({"kinds": None}, "got None; there are: name"),
        ({"language": "de"}, "language 'de': no data file; there are: en, es"),
        ({"language": ["en"]}, "there are: en, es"),
        ({"surrogate_key": b"abc"}, "16 or more bytes, got 3 bytes"),
        ({"surrogate_key": "a" * 20}, "16 or more bytes, got str"),
        ({"recogniser": 3}, r"a method recognise\(text\), got int"),
    ],
)
def test_a_filter_that_could_not_work_is_refused_when_it_is_made(settings, said):
    with pytest.raises(MedwardError, match=said):
        TextFilter(**settings)


def test_kinds_are_read_by_their_spelling():
    assert TextFilter(kinds=["phone"]).redact("Emily Smith, 555-123-4567").text == "Emily Smith, [PHONE]"
    assert TextFilter(kinds=["phone"]) == TextFilter(kinds=frozenset({IdentifierKind.PHONE}))


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda each: each.stream(None), "expected KnownIdentifiers, got NoneType"),
        (lambda each: each.redact("x", {"name": "Jane Roe"}), "expected KnownIdentifiers, got dict"),
        (lambda each: each.redact(None), "text: expected str, got NoneType"),
        (lambda each: each.find(5), "text: expected str, got int"),
        (lambda each: each.stream().push(b"x"), "text: expected str, got bytes"),
    ],
)
def test_what_is_no_text_and_what_is_nothing_known_is_refused_by_its_type(use, said):
    with pytest.raises(MedwardError, match=said) as error:
        use(TextFilter())
    assert "Jane" not in str(error.value)


def test_a_view_behind_a_name_stays():
    for view in ("AP and lateral views", "PA and lateral", "LAT view"):
        assert TextFilter().redact(f"Mr Rao {view} of the chest").text == f"[NAME] {view} of the chest"
