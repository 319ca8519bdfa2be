"""Every kind of identifier is found where it stands, and what only looks like one stays."""

import pytest

from medward.guard.release.text import IdentifierKind, TextFilter, find_identifiers

ENGLISH = TextFilter()

FOUND = {
    "Seen by Dr. Alice Carter today": "Seen by [NAME] today",
    "Emily Smith is a 60-year-old woman": "[NAME] is a 60-year-old woman",
    "a 55-year-old male, Robert B., with COPD": "a 55-year-old male, [NAME], with COPD",
    "SMITH, JOHN had a scan": "[NAME] had a scan",
    "Smith, John had a scan": "[NAME] had a scan",
    "patient named Xiulan Zhao reports pain": "patient named [NAME] reports pain",
    "Signed by: Anne-Marie O'Brien": "Signed by: [NAME]",
    "admitted to Mercy Hospital with pain": "admitted to [PLACE] with pain",
    "She lives at 123 Maple Street, Springfield, IL 62704.": "She lives at [PLACE].",
    "He is from Chicago and well": "He is from [PLACE] and well",
    "zip code 62704": "zip code [PLACE]",
    "seen on March 5th, 2023 for pain": "seen on [DATE] for pain",
    "seen on 5 March 2023 for pain": "seen on [DATE] for pain",
    "seen on 03/05/2023 for pain": "seen on [DATE] for pain",
    "seen on 2023-03-05 for pain": "seen on [DATE] for pain",
    "seen in April 2023 for pain": "seen in [DATE] for pain",
    "study 20230305 shows": "study [DATE] shows",
    "a 92-year-old man": "a [AGE]-year-old man",
    "age: 101": "age: [AGE]",
    "call 555-123-4567 now": "call [PHONE] now",
    "call (555) 123-4567 now": "call [PHONE] now",
    "PATIENT NAME: OKONKWO, CHIDINMA": "PATIENT NAME: [NAME]",
    "Patient: Kowalczyk, Agnieszka (F)": "Patient: [NAME] (F)",
    "Name: Okafor, Ngozi": "Name: [NAME]",
    "RADIOLOGIST: TANAKA HIROSHI": "RADIOLOGIST: [NAME]",
    "patient name: okonkwo, chidinma": "patient name: [NAME]",
    "Mobile: 723 813 266 after six": "Mobile: [PHONE] after six",
    "Phone:\n51 516 33 75\n\nE-mail": "Phone:\n[PHONE]\n\nE-mail",
    "Fax: 555-123-4568": "Fax: [FAX]",
    "write to jane.roe@example.org please": "write to [EMAIL] please",
    "write to jane.roe [at] example [dot] org": "write to [EMAIL]",
    "SSN 123-45-6789": "SSN [SOCIAL_SECURITY]",
    "social security number: 123456789": "social security number: [SOCIAL_SECURITY]",
    "MRN: 4711-22": "MRN: [RECORD_NUMBER]",
    "(MRN: #CS123456)": "(MRN: [RECORD_NUMBER])",
    "insurance ID: HX-223344": "insurance ID: [HEALTH_PLAN]",
    "Medicare 1EG4-TE5-MK73": "Medicare [HEALTH_PLAN]",
    "account number 99887766": "account number [ACCOUNT]",
    "card 4111 1111 1111 1111": "card [ACCOUNT]",
    "IBAN GB82 WEST 1234 5698 7654 32": "IBAN [ACCOUNT]",
    "driver's license D1234567": "driver's license [LICENCE]",
    "DEA AB1234563": "DEA [LICENCE]",
    "VIN 1M8GDM9AXKP042788": "VIN [VEHICLE]",
    "license plate 7ABC123": "license plate [VEHICLE]",
    "pacemaker serial number SN-99881234": "pacemaker serial number [DEVICE]",
    "MAC 00:1A:2B:3C:4D:5E": "MAC [DEVICE]",
    "see https://example.org/patient/7?x=1 there": "see [URL] there",
    "from 192.168.10.77 at": "from [IP_ADDRESS] at",
    "from 2001:db8::8a2e:370:7334 at": "from [IP_ADDRESS] at",
    "accession number A-1234567": "accession number [CODE]",
    "UID 1.2.840.113619.2.55.3": "UID [CODE]",
    "the number 123456789012 stands alone": "the number [CODE] stands alone",
}

GIVEN_AWAY_BY_COMPANY = {
    "Mrs. White and Miss Black": "[NAME] and [NAME]",
    "Dr. English, Dr. French, Dr. Best, Dr. March": "[NAME], [NAME], [NAME], [NAME]",
    "Mrs. West and Ms. Ward and Mr. Street": "[NAME] and [NAME] and [NAME]",
    "Smith, Mary presents": "[NAME] presents",
    "Johnson, Grace": "[NAME]",
    "Mary had a fall": "[NAME] had a fall",
    "Mary Okonkwo presents": "[NAME] presents",
    "Grace was seen": "[NAME] was seen",
    "Jack Black seen today": "[NAME] seen today",
    "Frank Miller seen today": "[NAME] seen today",
    "John White was seen": "[NAME] was seen",
    "Attending: Will Young MD": "Attending: [NAME] MD",
}
IN_ANY_CASE = {
    "mr. jones was seen": "[NAME] was seen",
    "Reviewed with dr. smith": "Reviewed with [NAME]",
    "RADIOLOGIST: KHAN, A.": "RADIOLOGIST: [NAME]",
    "attending: khan": "attending: [NAME]",
    "patient name: xiaoming zhang": "patient name: [NAME]",
    "patient john smith was seen": "patient [NAME] was seen",
    "lisa g. is well": "[NAME] is well",
    "she lives in boston with him": "she lives in [PLACE] with him",
    "JOHN SMITH WAS SEEN AT MERCY HOSPITAL AND LIVES IN BOSTON": "[NAME] WAS SEEN AT [PLACE] AND LIVES IN [PLACE]",
    "ADMITTED TO ST. MARY'S HOSPITAL ON MARCH 5": "ADMITTED TO [PLACE] ON [DATE]",
}
WITHOUT_A_SHAPE_OF_THEIR_OWN = {
    "Medical record number is 483 921 3.": "Medical record number is [RECORD_NUMBER].",
    "Comparison: 2/12.": "Comparison: [DATE].",
    "Follow-up 05.03.23 in clinic": "Follow-up [DATE] in clinic",
    "Labs 1/14: Na 138": "Labs [DATE]: Na 138",
    "Surgical pathology S21-4512.": "Surgical pathology [CODE].",
    "She is 93 and lives alone": "She is [AGE] and lives alone",
    "Her 91st birthday": "Her [AGE] birthday",
    "in her 93rd year": "in her [AGE] year",
    "a nonagenarian": "a [AGE]",
    "in May of that year": "in [DATE] of that year",
    "class: phone number; evidence: 224-410-62K": "class: phone number; evidence: [CODE]",
    "evidence: 3962-09-24, seen": "evidence: [DATE], seen",
    "fell on 24/13/3962 and": "fell on [DATE] and",
    "patient name66804800 and shows": "patient name[CODE] and shows",
    "Patient rs 45678912.": "Patient rs [CODE].",
    "RS 12345678": "RS [CODE]",
    "item 1.12345678": "item 1.[CODE]",
    "no.12345678 it is": "no.[CODE] it is",
    "seen 1230-4560, 12345678U": "seen [CODE], [CODE]",
    "image 224410-626K": "image [CODE]",
    "since 24.12.3962": "since [DATE]",
}

KEPT = [
    "Patient: Stable, Alert",
    "PATIENT: INTUBATED, SEDATED",
    "Physician: Notified, Agrees",
    "Excision of a Morton neuroma",
    "Patient turned 90 degrees; temperature 99 F; HR 92 F; fever to 101 F with chills; aged 90 months",
    "Age 90-day mortality; 98 man-hours; she is 95 kg; he was 98% on room air",
    "Ratio 1/2000 epinephrine, ANA 1/1280, insulin 10-10-12 units, steroid taper 10-8-06",
    "Before 1/2 tablet, seen 2/6 systolic murmur, from 4/5 strength, until 1/2 hour before",
    "OCT 3 mm thickness, SEPT9 methylation, Dec 10 mg, Mar 3 cm, Apr 5 units",
    "Head of bed 30 degrees, room 12 air, received in Formalin, admitted to Stepdown",
    "Philadelphia chromosome, St. John's wort, St. Jude mitral valve, Rocky Mountain spotted fever",
    "White cell 4500-11000 normal range, home 500 mL, Rx 500 mg, viral load 1250000 copies/mL",
    "Plan 1000 mL bolus, monitor 12000 platelets, order 12500 units, case 12345 cells",
    "Patient Tolerated procedure, Patient Intubated, Provider Notified, Nurse Practitioner to see",
    "LI-RADS 5, Le Fort I fracture, Clark level IV, Arnold-Chiari, Homer Wright rosettes",
    "Travelled to India. From China. Born in Mexico.",
    "PATIENT TOLERATED THE PROCEDURE WELL AND WAS DISCHARGED HOME IN STABLE CONDITION.",
    "patient is stable. dr. to follow. provider: notified. the attending was called",
    "Parkinson disease, Hashimoto's thyroiditis, Graves' disease and Crohn's disease",
    "a Foley catheter and a Swan-Ganz catheter were placed",
    "compression of T8, C5-C6 and L4-L5; T8-T9 is normal",
    "Glasgow Coma Scale 15, Wells score 3, Duke criteria, Allen test negative",
    "Charcot-Marie-Tooth disease; Wilson disease; Down syndrome; Marfan syndrome",
    "Gram stain negative, Murphy sign positive, Babinski reflex absent",
    "Bethesda category III, Boston criteria, Vancouver classification B2",
    "heart size is normal in 2019; no change since 2020",
    "a 72-year-old man; aged 89; 15 years ago",
    "BP 120/80, HR 72, SpO2 98%, temperature 98.6 F, EF 55-60%",
    "nodule of 1.2 x 3.4 cm, 5/5 strength, grade 2/6 murmur, T2/FLAIR",
    "platelets 250000, WBC 11.2, sodium 140, HbA1c 7.5%, LDL 130",
    "take aspirin 81 mg daily, metformin 500 mg twice a day, 1/2 tablet",
    "Impression: No acute cardiopulmonary process. Findings: Clear lungs.",
    "May represent pneumonia. Will follow. Mark the site. Reading of the film.",
    "G3P2, ASA 3, NYHA class II, stage IIIB, T2N1M0, CHA2DS2-VASc 4, BRCA1",
    "ICD-10 I50.9 and CPT 71046; version 2.4.1; ratio 3.5; p < 0.001",
    "Tylenol, Lasix and Dr. or Mr. alone; vitamin B12 and D3; H. pylori; E. coli",
    "internal medicine, mental health and the emergency department were consulted",
    "follow-up at the clinic in 3 weeks; admitted to the ICU",
    "from 2010-2015, 2018-2019-2020, images 1012-1045, CPT 99213-99215, testosterone (170-1734), shift 0700-1900",
    "rs1234567 variant, 2400000u penicillin, 5000000 units, viral load 1000000-2000000, ratio 0.12345678",
    "ribs 3-4-5-6-7-8-9, Teeth 31-32-41-42, months 3-6-12-24-36, taper 60-40-30-20-10-5, b-values 0-50-400-800",
    "troponins 12-45-89-120, P < .0000001, 1000-100000, 10000000CFU/mL, 10000000 CFU/mL, 7400000Bq, 5040-5940 cGy",
    "NDC 0002-8215-01, doi 10.1148/radiol.2019182716, Image 1043-2081, Titres 1024-4096, Times 0805-1617",
    "10/20/2000 mg, 20-30-4000 units, Ratio 10/20/1000, Software 3000.10.2, chr7:117559590-117559593",
    "1000-1500 mL, 100-110-120 mg, 12.5x13.2x10.5 cm, 12,345,678 cells, 12345678%",
    "IN THE CHEST, NO FOCAL CONSOLIDATION. HEART SIZE NORMAL. LEFT LOWER LOBE CLEAR.",
]


@pytest.mark.parametrize("text", FOUND)
def test_an_identifier_is_replaced_by_its_kind(text):
    assert ENGLISH.redact(text).text == FOUND[text]


@pytest.mark.parametrize(
    ("text", "redacted"),
    [pair for each in (GIVEN_AWAY_BY_COMPANY, IN_ANY_CASE, WITHOUT_A_SHAPE_OF_THEIR_OWN) for pair in each.items()],
)
def test_company_case_and_context_give_an_identifier_away(text, redacted):
    assert ENGLISH.redact(text).text == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Nº de historia clínica 987654.", "Nº de historia clínica [RECORD_NUMBER]."),
        ("alta el 10-I-2021", "alta el [DATE]"),
        ("Escala de Glasgow 15", "Escala de Glasgow 15"),
        ("Dosis 2400000 UI.", "Dosis 2400000 UI."),
        ("es 22441062 y", "es [CODE] y"),
        ("Paciente: P\u00c9REZ G\u00d3MEZ, JUAN", "Paciente: [NAME]"),
        ("Nombre del paciente: Goikoetxea Etxeberria, Amaia", "Nombre del paciente: [NAME]"),
        ("Paciente: Estable, Consciente", "Paciente: Estable, Consciente"),
    ],
)
def test_spanish_context_gives_an_identifier_away(text, redacted):
    assert TextFilter(language="es").redact(text).text == redacted


@pytest.mark.parametrize("text", KEPT)
def test_clinical_content_stays(text):
    assert ENGLISH.redact(text).text == text


@pytest.mark.parametrize("white", ["\n", "\r\n", "\t", "  ", "\n   ", "\u00a0"])
@pytest.mark.parametrize("text", FOUND)
def test_white_space_within_an_identifier_does_not_let_it_leave(text, white):
    expected = FOUND[text].replace(" ", white)
    assert ENGLISH.redact(text.replace(" ", white)).text == expected


@pytest.mark.parametrize("text", KEPT)
def test_broken_lines_leave_clinical_content(text):
    wrapped = text.replace(" ", "\n")
    assert ENGLISH.redact(wrapped).text == wrapped


@pytest.mark.parametrize("between", ["\n\n", "\nFindings: ", "\n- ", "\n2. "])
def test_a_new_paragraph_label_or_item_ends_a_name(between):
    text = f"Seen by Dr. Alice Carter{between}Heart Size is normal"
    assert ENGLISH.redact(text).text == f"Seen by [NAME]{between}Heart Size is normal"


def test_every_kind_has_a_case():
    shown = {kind for kind in IdentifierKind if any(f"[{kind.upper()}]" in each for each in FOUND.values())}
    assert shown == set(IdentifierKind)


def test_only_the_kinds_asked_for_are_replaced():
    text = "Emily Smith, 555-123-4567"
    assert TextFilter(kinds=frozenset({IdentifierKind.PHONE})).redact(text).text == "Emily Smith, [PHONE]"


def test_a_span_says_where_and_what_never_the_value():
    text = "Seen by Dr. Alice Carter today"
    (span,) = find_identifiers(text)
    assert (text[span.start : span.end], span.kind, span.source) == ("Dr. Alice Carter", IdentifierKind.NAME, "pattern")
    assert "Carter" not in repr(span)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("number 4111 1111 1111 1112", "ACCOUNT"),  # no Luhn checksum
        ("chassis 1M8GDM9AXKP042789", "VEHICLE"),  # no VIN checksum
        ("AB1234564 is on it", "LICENCE"),  # no DEA checksum
        ("from 192.168.10.777 at", "IP_ADDRESS"),
    ],
)
def test_a_number_whose_checksum_fails_is_not_of_that_kind(text, kept):
    assert f"[{kept}]" not in ENGLISH.redact(text).text
