"""Candidates of membership: images with reports cut by chance into who is trained on, who is held out, and others.

Chance alone says on which side a patient is, so the two sides differ in nothing but the training. Images of the third
part are neither: a network that learned them is a reference that cannot have seen a candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from medward.attacks.benchmarks.reports.phrases import PhraseBank
from medward.attacks.benchmarks.reports.report_data import ReportData, ReportSplit, with_reports
from medward.guard.errors import MedwardError
from medward.guard.types import Ints

MEMBERS, OTHERS, REFERENCE = "train", "holdout", "reference"


def divide_reports(
    data: ReportData, parts: Sequence[str], shares: Mapping[str, float], *, bank: PhraseBank, seed: int
) -> ReportData:
    """The images of the splits `parts` of `data`, whole patients dealt anew by `shares`, with reports written anew.

    `shares` name `MEMBERS`, which a victim is trained on, `OTHERS`, drawn alike and never seen, and further splits, all
    in words of the same authors. The split "test" has members, then others, once more in words of authors that no
    training had: what an attacker knows who has the facts of a patient and not the report.
    Raises `MedwardError` where a share is so small that nobody is in it.
    """
    whole = _joined(data, parts)
    owners = np.arange(len(whole)) if whole.patients is None else whole.patients
    return _written(data, whole, _dealt(owners, shares, seed), bank, seed)


def keep_division(data: ReportData, others: Sequence[str], *, bank: PhraseBank, seed: int) -> ReportData:
    """The same of a victim that was trained on "train" of `data`: the splits `others` are those held out."""
    whole, count = _joined(data, [MEMBERS, *others]), len(data.splits[MEMBERS])
    index = {MEMBERS: np.arange(count), OTHERS: np.arange(count, len(whole))}
    return _written(data, whole, index, bank, seed)


def _joined(data: ReportData, parts: Sequence[str]) -> ReportSplit:
    """Splits one after the other."""
    rows = [data.splits[part] for part in parts]
    patients = [each.patients for each in rows if each.patients is not None]
    return ReportSplit(
        images=np.concatenate([each.images for each in rows]),
        facts=tuple(chain.from_iterable(each.facts for each in rows)),
        reports=tuple(chain.from_iterable(each.reports for each in rows)),
        patients=np.concatenate(patients) if len(patients) == len(rows) else None,
    )


def _written(data: ReportData, whole: ReportSplit, index: dict[str, Ints], bank: PhraseBank, seed: int) -> ReportData:
    """Report data of the rows of `index`, and of the candidates as "test"."""
    index["test"] = np.concatenate([index[MEMBERS], index[OTHERS]])
    return with_reports(
        data.name, data.findings, whole.images, whole.facts, index, bank=bank, seed=seed, patients=whole.patients
    )


def _dealt(owners: Ints, shares: Mapping[str, float], seed: int) -> dict[str, Ints]:
    """The rows of each part: owners ``(n,)`` in an order drawn by chance, cut by `shares`."""
    order = np.random.default_rng([seed, 4]).permutation(np.unique(owners))
    ends = np.round(np.cumsum(list(shares.values())) / sum(shares.values()) * len(order)).astype(np.int64)
    found = {
        name: np.flatnonzero(np.isin(owners, some))
        for name, some in zip(shares, np.split(order, ends[:-1]), strict=True)
    }
    if empty := [name for name, some in found.items() if not len(some)]:
        raise MedwardError(f"shares: nobody of {len(order)} is left for {empty[0]!r}; give it a larger share")
    return found
