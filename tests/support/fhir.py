"""What a test asks of FHIR: that a resource is one, by the models of fhir.resources, and what stands in it."""

from __future__ import annotations

from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle


def checked_bundle(content):
    """`content`, which must be a Bundle of R4 whose references all lead somewhere."""
    Bundle.model_validate(content)  # refuses fields that it does not know
    urls = [entry["fullUrl"] for entry in content["entry"]]
    assert len(set(urls)) == len(urls)
    assert set(references(content)) <= set(urls)
    return content


def checked_event(content):
    """`content`, which must be an AuditEvent of R4."""
    AuditEvent.model_validate(content)
    return content


def references(value):
    """Every literal reference in `value`."""
    if isinstance(value, dict):
        if "reference" in value:
            yield value["reference"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def resources(bundle, kind):
    """The resources of a kind in a Bundle, in order."""
    return [each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == kind]


def component(observation, text):
    """The component that is called `text`."""
    (found,) = [each for each in observation["component"] if each["code"]["text"] == text]
    return found


def reason(element):
    """Why a value is absent."""
    return element["dataAbsentReason"]["coding"][0]["code"]
