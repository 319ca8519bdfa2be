"""Records of the audit log as FHIR R4 AuditEvents, in the shape of IHE's Basic Audit Log Patterns (BALP).

One record is one event, by `audit_event` alone. Who asked, when, what left and where it stands in the chain are in it;
no input, identifier of a patient, decision or score is; a study is named by its keyed digest, as in the log.
References: HL7 FHIR R4, AuditEvent; IHE BALP 1.1.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from medward.guard.audit.record import REJECTED, RESET
from medward.integrations.clinical.fhir_terms import URI_SYSTEM, Resource

_HL7 = "http://terminology.hl7.org/CodeSystem"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
BALP_TYPES = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
SUCCESS, MINOR, SERIOUS = "0", "4", "8"
"""Outcomes: it was answered, in part or whole it was withheld or refused, it failed."""
_FAILED = ("model failed",)


def audit_events(records: Iterable[Mapping[str, Any]], *, observer: str) -> Iterator[str]:
    """An AuditEvent for each of `records` as a line of JSON (NDJSON); `observer` is the site's name of the server."""
    for record in records:
        yield json.dumps(audit_event(record, observer=observer), ensure_ascii=False, sort_keys=True)


def audit_event(record: Mapping[str, Any], *, observer: str) -> Resource:
    """The AuditEvent of one `record` as the log holds it, chain and all."""
    event, levels = str(record.get("event", "")), [str(each) for each in record.get("levels", ())]
    withheld = levels.count("withheld")
    outcome = SERIOUS if event in _FAILED else MINOR if withheld or event == REJECTED else SUCCESS
    said = event if event in _FAILED else f"{withheld} of {len(levels)} rows withheld" if withheld else ""
    if event == REJECTED:
        said = " ".join(str(each) for each in (event, record.get("status"), record.get("reason")) if each)
    return {
        "resourceType": "AuditEvent",
        **_kind(event),
        "action": "U" if event == RESET else "E",
        "recorded": record["time"],
        "outcome": outcome,
        **({"outcomeDesc": said} if said else {}),
        "agent": [_client(record, event), _server(observer)],
        "source": {"observer": {"display": observer}, "type": [_coding(f"{_HL7}/security-source-type", "4")]},
        "entity": _entities(record, levels),
    }


def _kind(event: str) -> Resource:
    """What happened: a query is an operation of REST; resetting an account changes its security attributes."""
    if event == RESET:
        return {
            "type": _coding(DCM, "110113", "Security Alert"),
            "subtype": [_coding(DCM, "110137", "User Security Attributes Changed")],
        }
    named = [{"display": event}] if event else []
    return {
        "type": _coding(f"{_HL7}/audit-event-type", "rest", "RESTful Operation"),
        "subtype": [_coding("http://hl7.org/fhir/restful-interaction", "operation", "operation"), *named],
    }


def _client(record: Mapping[str, Any], event: str) -> Resource:
    """Who asked, or on whose behalf an operator acted, whom the log may name."""
    asked = record.get("principal") or record.get("credential", "")
    name = record.get("operator") or ("operator" if event == RESET else asked)
    who = {"identifier": {"value": str(name)}} if name else {"display": "medward"}
    agent: Resource = {
        "type": {"coding": [_coding(DCM, "110153", "Source Role ID")]},
        "who": who,
        "requestor": True,
    }
    if record.get("client"):
        agent["network"] = {"address": str(record["client"]), "type": "2"}
    return agent


def _server(observer: str) -> Resource:
    return {
        "type": {"coding": [_coding(DCM, "110152", "Destination Role ID")]},
        "who": {"display": observer},
        "requestor": False,
    }


def _entities(record: Mapping[str, Any], levels: list[str]) -> list[Resource]:
    """The query with what left of it, its study, and the request's own id, as far as the log has them."""
    details = {
        "sequence number": record.get("seq"),
        "record hash": record.get("hash"),
        "policy": record.get("policy"),
        "bundle": record.get("bundle"),
        "levels": " ".join(levels) or None,
        "acted": " ".join(each["source"] for each in record.get("verdicts", ()) if each["action"] != "allow") or None,
        "account": record.get("principal") if record.get("operator") or record.get("event") == RESET else None,
        "model": record.get("model"),
        "credential": record.get("credential"),
        "answered": " ".join(each or "-" for each in record.get("answered", ())) or None,
        "left out": json.dumps(record["left_out"]) if record.get("left_out") else None,
    }
    query = str(record.get("query", ""))
    found: list[Resource] = [
        {
            **({"what": {"identifier": _query_identifier(query)}} if query else {}),
            "type": _coding(f"{_HL7}/audit-entity-type", "2", "System Object"),
            "role": _coding(f"{_HL7}/object-role", "24", "Query"),
            "detail": [{"type": name, "valueString": str(value)} for name, value in details.items() if value],
        }
    ]
    if record.get("study"):
        found.append(
            {
                "what": {"type": "ImagingStudy", "identifier": {"value": str(record["study"])}},
                "description": "keyed digest of the StudyInstanceUID",
                "type": _coding(f"{_HL7}/audit-entity-type", "2", "System Object"),
                "role": _coding(f"{_HL7}/object-role", "4", "Domain Resource"),
            }
        )
    if record.get("request"):
        found.append(
            {"what": {"identifier": {"value": str(record["request"])}}, "type": _coding(BALP_TYPES, "XrequestId")}
        )
    return found


def _query_identifier(query: str) -> Resource:
    try:
        return {"system": URI_SYSTEM, "value": f"urn:uuid:{uuid.UUID(query)}"}
    except ValueError:  # an id that a caller in Python chose
        return {"value": query}


def _coding(system: str, code: str, display: str = "") -> Resource:
    return {"system": system, "code": code, **({"display": display} if display else {})}
