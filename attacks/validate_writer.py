"""The one entry of a validation of a model that answers in text: a model, its filters and an output folder in.

Models that write are no bundles yet: what is validated is a callable and the filters before whoever asks it. Runs,
gate and report are those of every other validation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from medward.attacks.base import Attack, AttackData
from medward.attacks.disclosure.benign_text import made_findings, measure_text_cost
from medward.attacks.disclosure.identities import known_identifiers
from medward.attacks.disclosure.plants import Plant, plant_identities, plants_digest
from medward.attacks.disclosure.victim import ExtractionTurn, Shown, Victim
from medward.attacks.disclosure.writer import AnswerRelease, WriterDeployment
from medward.attacks.families import find_family
from medward.attacks.report.files import save_report
from medward.attacks.suite import writer_attacks
from medward.attacks.validation.family import NotTested
from medward.attacks.validation.finding import ARMS
from medward.attacks.validation.journal import Journal, code_version
from medward.attacks.validation.judging import blank_finding
from medward.attacks.validation.progress import Progress
from medward.attacks.validation.record import Provenance, Report
from medward.attacks.validation.run import library_versions
from medward.attacks.validation.runner import Runner
from medward.attacks.validation.splits import SharedRows
from medward.attacks.validation.waiving import check_waivers, lay_waivers, today_utc
from medward.guard.bundle.folder import Bundle
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.release.memory.memory_filter import MemoryFilter
from medward.guard.release.privacy_filters import PrivacyFilters
from medward.guard.spec import ModelSpec
from medward.guard.tasks.opaque import Opaque

PEOPLE = 20
"""Made-up people whose values are planted where none are given; of each five."""
BENIGN_TEXTS = 100
"""Made-up sentences that filters should leave alone, where none are given."""
_RULE = "answers in text"


def validate_writer(
    writer: Victim,
    out: Path | str,
    *,
    policy: Policy,
    release: AnswerRelease | None = None,
    memory: MemoryFilter | None = None,
    name: str = "writer",
    plants: Sequence[Plant] | None = None,
    benign: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    version: str = "",
    seed: int = 0,
    resume: bool = True,
    progress: bool = True,
) -> Report:
    """Ask a model that answers in text for what it was shown; judge the filters before it and write a report to `out`.

    `writer` is a `PromptedVictim` around any function of a prompt and an image, or a scripted one. `release` gives a
    filter for each conversation; without it they are those of the policy's section ``[privacy]``, which know what the
    header says, with the `memory` filter that it asks for. `plants` are the values that must not be read, by default
    those of `PEOPLE` made-up people, each shown as a header; `benign` are texts of which filters should take nothing.
    `names` chooses attacks. `version` says which model and filters these are: a validation that was killed goes on only
    where it is given and is the same. The report holds no planted value. Raises `MedwardError` for a name that is not
    there, and for a writer or a filter that gives no text. With `progress` it is said every few seconds how far an
    attack is.
    """
    release, notes = _chosen_release(release, policy, memory)
    if not hasattr(writer, "answer") or not callable(release):
        raise MedwardError(
            "writer: expected a victim that answers and a function that gives a filter for what is shown, got "
            f"{type(writer).__name__} and {type(release).__name__}; give PromptedVictim(function)"
        )
    writer = _TextOnly(writer)
    planted = plant_identities(PEOPLE, seed=seed) if plants is None else tuple(plants)
    texts = made_findings(BENIGN_TEXTS, seed=seed) if benign is None else list(benign)
    if not planted or not texts:
        raise MedwardError(f"writer: needs planted values and benign texts, got {len(planted)} and {len(texts)}")
    attacks = _chosen(names)
    check_waivers(policy.accept, [attack.name for attack in writer_attacks()], today_utc())
    _check_release(release, planted[0].shown, texts[0])
    bundle = _UnbundledWriter(name=name, policy=policy, digest=hashlib.sha256(version.encode()).hexdigest())
    bar = Progress(total=1 + len(ARMS) * len(attacks), shown=progress)
    deployment = WriterDeployment(
        bundle=cast(Bundle, bundle),  # what writes is no bundle yet, and attacks only ask it
        no_network="it is asked in words",
        writer=writer,
        release=release,
        plants=planted,
        say=bar.say,
    )
    common: dict[str, Any] = {
        "bundle": bundle.digest,
        "policy": policy.fingerprint,
        "data": plants_digest(planted),
        "code": code_version(),
        "versions": library_versions(),
        "seed": seed,
    }
    folder = Path(out)
    rows = _no_rows(seed)
    runner = Runner(deployment, Journal(folder / "cells", resume and bool(version)), common, rows.data)
    folder.mkdir(parents=True, exist_ok=True)
    findings = []
    with _no_text_is_an_error(), bar:
        clean = measure_text_cost(release, planted, texts)
        bar.done("clean cost", f"{clean.site.false_refusal} of benign texts lost something")
        for attack in attacks:
            family = find_family(attack.family)
            held = family.holdings(deployment, rows)
            if isinstance(held, NotTested):
                findings.append(blank_finding(family, attack, policy, seed, (held.reason,), held.status))
                bar.done(attack.name, held.reason, steps=len(ARMS))
                continue
            findings.append(runner.finding(family, attack, held, clean, bar))
    report = Report(
        findings=lay_waivers(findings, policy.accept, today_utc()),
        clean=clean,
        accounts={},
        alarms={},
        gate=policy.gate,
        notes=notes,
        provenance=Provenance(
            model=name,
            modality="text",
            classes=(),
            shape=(),
            low=None,
            high=None,
            task="text",
            rule=_RULE,
            rows={"planted values": len(planted), "benign texts": len(texts)},
            white_box=False,
            **common,
        ),
    )
    save_report(report, folder)
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _UnbundledWriter:
    """What a deployment needs of a bundle, around a model that writes."""

    name: str
    policy: Policy
    digest: str

    @property
    def model(self) -> _WriterModel:
        return _WriterModel(self.name)


@dataclass(frozen=True, slots=True)
class _WriterModel:
    """A model that is known by its specification alone."""

    name: str

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(name=self.name, modality="tabular", shape=(), task=Opaque(what="text"))


class _NoTextError(Exception):
    """A writer gave no text: unlike other errors of a run, it is no finding and is not kept."""


@dataclass(frozen=True, slots=True)
class _TextOnly:
    """A writer of which every answer is a text: what is none, is not taken for silence."""

    writer: Victim

    def answer(self, shown: Shown, ask: ExtractionTurn) -> str:
        answer = self.writer.answer(shown, ask)
        if not isinstance(answer, str):
            raise _NoTextError(f"writer: answered {type(answer).__name__}, expected a text; return a str, '' for none")
        return answer


@contextmanager
def _no_text_is_an_error() -> Iterator[None]:
    try:
        yield
    except _NoTextError as error:
        raise MedwardError(str(error)) from None


def _chosen_release(
    release: AnswerRelease | None, policy: Policy, memory: MemoryFilter | None
) -> tuple[AnswerRelease, tuple[str, ...]]:
    """The `release` that was given, else that of the policy; and what is to be said of it."""
    if release is not None:
        if memory is not None:
            raise MedwardError("release: has filters of its own, and memory is for those of the policy; give one")
        return release, ("the model's filters were judged as they were given, not as a server applies them",)
    filters = PrivacyFilters(policy.privacy, memory=memory)
    of_policy = "the filters are those of the policy's section [privacy], and know what a header says"
    return lambda shown: filters.conversation(known_identifiers(shown.header)), (of_policy, *filters.notes)


def _check_release(release: AnswerRelease, shown: Shown, text: str) -> None:
    """Refuse a release whose filter gives no text, before anything is asked."""
    given = release(shown)
    left = given.redact(text) if callable(getattr(given, "redact", None)) else None
    if not isinstance(left, str):
        raise MedwardError(
            f"release: must give a filter whose redact(answer) is a text, got {type(given).__name__} and "
            f"{type(left).__name__}; give a Conversation"
        )


def _chosen(names: Sequence[str] | None) -> tuple[Attack, ...]:
    known = {attack.name: attack for attack in writer_attacks()}
    if names is None:
        return writer_attacks()[:1]
    if isinstance(names, str):
        raise MedwardError(f"attacks: names must be a list, got the text {names!r}; give [{names!r}]")
    if unknown := [name for name in names if name not in known]:
        raise MedwardError(f"attacks: there is no {unknown[0]!r} of text; there are {', '.join(known)}")
    return tuple(known[name] for name in names)


def _no_rows(seed: int) -> SharedRows:
    none = Split(np.zeros((0, 0), np.float32))
    return SharedRows(splits={}, data=AttackData(craft=none, test=none), seed=seed)
