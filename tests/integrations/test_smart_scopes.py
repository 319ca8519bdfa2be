"""Which scopes of SMART on FHIR cover which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.integrations.serving.identity.smart_scopes import check_scope, scope_covers, smart_scope

letters = st.sets(st.sampled_from("cruds"), min_size=1).map(lambda found: "".join(x for x in "cruds" if x in found))
scopes = st.tuples(
    st.sampled_from(("patient", "user", "system")), st.sampled_from(("*", "Observation", "DiagnosticReport")), letters
)


def written(scope):
    return "{}/{}.{}".format(*scope)


@given(scopes, scopes)
def test_a_scope_covers_what_its_parts_cover_and_nothing_else(granted, needed):
    covers = granted[0] == needed[0] and granted[1] in ("*", needed[1]) and set(granted[2]) >= set(needed[2])
    assert scope_covers(written(granted), written(needed)) is covers
    assert scope_covers(written(granted), written(granted))
    assert not scope_covers(f"{written(granted)}?status=final", written(needed))


@pytest.mark.parametrize(
    ("granted", "needed", "covers"),
    [
        ("system/Observation.read", "system/Observation.rs", True),
        ("system/Observation.read", "system/Observation.c", False),
        ("system/Observation.write", "system/Observation.cud", True),
        ("system/Observation.*", "system/Observation.cruds", True),
        ("system/*.*", "system/Observation.c", True),
        ("system/Observation.", "system/Observation.c", False),
        ("system/Observation.uc", "system/Observation.c", False),
        ("system/observation.c", "system/observation.c", True),
        ("SYSTEM/Observation.c", "system/Observation.c", False),
        ("system/Observation.c", "medward/predict", False),
        ("medward/predict", "medward/predict", True),
        ("*", "medward/predict", False),
    ],
)
def test_forms_of_both_versions_and_of_neither(granted, needed, covers):
    assert scope_covers(granted, needed) is covers


@pytest.mark.parametrize(
    "scope", ["system/Observation.x", "system/Observation.", "system/obs.c", 'a"b', "a b", "\u00e9", ""]
)
def test_a_scope_that_could_never_be_granted_is_refused(scope):
    with pytest.raises(MedwardError, match="is no scope"):
        check_scope(scope)
    assert smart_scope(scope) is None
