"""A bundle and its policy: whether it is whole and can be served here, and what it does not notice or switches off."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from medward.guard.bundle.card import FORMAT
from medward.guard.bundle.folder import Bundle, load_bundle
from medward.guard.bundle.power_words import power_cautions, power_words
from medward.guard.errors import MedwardError
from medward.guard.intake.decode import model_intake
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.report import WrittenReport
from medward.guard.waiver_policy import ended_waivers
from medward.integrations.doctor.remark import Remark


def bundle_remarks(path: Path, *, allow_code: bool, expect: str | None, found: list[Bundle]) -> Iterator[Remark]:
    """Load the bundle at `path` as it is served, put it into `found`, and say what it is."""
    loaded = load_bundle(path, allow_code=allow_code, expect=expect)
    found.append(loaded)
    card = loaded.card
    said = f"bundle {loaded.digest[:12]} of {card.spec.name!r} ({card.spec.rule}), format {card.format}"
    yield Remark(part="bundle", said=f"{said}: every digest holds, and its model loads")
    if expect is None:
        said = "whoever can rewrite the bundle can rewrite its digests; only --expect, kept elsewhere, finds that"
        yield Remark(part="bundle", said=said, state="note", remedy=f"start with --expect {loaded.digest}")
    if card.format != FORMAT:
        said = f"the bundle's card is of format {card.format}, and this medward writes {FORMAT}; it is read as it was"
        yield Remark(part="bundle", said=said, state="note")
    for site, power in loaded.power_by_site.items():
        of_site = f"site {site!r}: " if site else ""
        for words in () if power is None else power_words(power):
            yield Remark(part="power", said=f"{of_site}{words}")


def guard_remarks(loaded: Bundle) -> Iterator[Remark]:
    """Whether a guard can be made of the bundle here, and what it says of itself when it is served."""
    with loaded.guard(ephemeral=True) as guard:
        yield Remark(part="guard", said="the guard can be made here as the policy asks for it")
        for note in guard.notes:
            if note.endswith(power_cautions(None)):
                said, _, remedy = note.partition("; ")
                yield Remark(part="power", said=said, state="mend", remedy=remedy)
            else:
                yield Remark(part="guard", said=note, state="note")


def policy_remarks(policy: Policy, spec: ModelSpec, today: date | None = None) -> Iterator[Remark]:
    """What the policy decides when a defense fails, what it switches off, and which waivers have ended."""
    kept = "answers are withheld" if policy.on_error == "withhold" else "answers leave flagged, and not judged by it"
    said = (
        f'policy {policy.fingerprint} is read and holds; on_error = "{policy.on_error}": where a part is away, {kept}'
    )
    yield Remark(part="policy", said=said)
    yield from (Remark(part="policy", said=said, state="note") for said in switched_off(policy, spec))
    for said in ended_waivers(policy.accept, today or datetime.now(UTC).date()):
        said, _, remedy = said.partition("; ")
        yield Remark(part="policy", said=said, state="mend", remedy=remedy)


def switched_off(policy: Policy, spec: ModelSpec) -> tuple[str, ...]:
    """What of the defenses that `spec` could have `policy` switches off, a sentence each."""
    image, written = spec.modality == "image", isinstance(spec.task, WrittenReport)
    said = (
        (policy.screen.action == "allow", 'screen.action = "allow": strange inputs are answered as others are'),
        (
            all(rung.action in ("allow", "flag") for rung in policy.monitor.ladder),
            "monitor.ladder: an alarm only tells a person, and no account is ever answered less",
        ),
        (not policy.monitor.shared, "monitor.shared = false: one perturbation in many inputs goes unseen"),
        (image and not policy.duplicates.watch, "duplicates.watch = false: searches around one image go unseen"),
        (
            not policy.budget.limited,
            "[budget] sets no limit: nothing bounds a copy that is made from ordinary cases over months",
        ),
        (not policy.certify.enabled, "certify.enabled = false: no answer is certified"),
        (
            image and policy.privacy.burned_in_text == "allow",
            'privacy.burned_in_text = "allow": images are not looked through for names',
        ),
        (written and not policy.privacy.identifiers, "privacy.identifiers = false: they leave in reports"),
        (written and not policy.privacy.memory, "privacy.memory = false: training text may leave in reports"),
    )
    return tuple(sentence for off, sentence in said if off)


def needed_extras(policy: Policy, spec: ModelSpec) -> dict[str, str]:
    """The extras that serving needs for this bundle, each with what for."""
    needed = {"serve": "needed to serve the bundle"}
    if policy.privacy.burned_in_text != "allow":
        needed["deidentify"] = f'needed for privacy.burned_in_text = "{policy.privacy.burned_in_text}" (reads text)'
    if isinstance(spec.task, WrittenReport) and policy.privacy.identifiers:
        needed["text"] = "needed for privacy.identifiers = true"
    if takes_files(spec):
        needed["dicom"] = "needed for DICOM files and structured reports, which clients may send and ask for"
    return needed


def takes_files(spec: ModelSpec) -> bool:
    """Whether clients can send image files to the model."""
    try:
        model_intake(spec)
    except MedwardError:
        return False
    return True
