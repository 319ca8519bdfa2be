"""Would what a report says give its thief away sooner than the image does? Two signals of texts, judged offline.

*findings*: which findings an account's reports name, bet on as the guard bets on regions of images; a thief whose
photographs all yield one report collapses there. *doubt*: how unlikely the model finds its own report, which is high
where image and answer do not fit; bet on by calibration-conditional p-values. Each has all of alpha and delta for
itself, and every row that is calibrated on for its reference, so beside others it would be slower than here. The guard
has neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from report_scenes import ReportScene
from report_streams import (
    ACCOUNTS,
    CALIBRATION,
    DRAWS,
    SHARES,
    account_order,
    asked_rows,
    drawn_rows,
    unknown_rows,
)
from report_theft import Plan
from stealing.scene import ALPHA, POLICY

from medward.attacks.whitebox.written_texts import token_losses, write_texts
from medward.guard.data.split import Split
from medward.guard.models.huggingface_report import HuggingFaceReportModel
from medward.guard.monitors.base import BetSettings
from medward.guard.monitors.coverage import Coverage, tally_cells
from medward.guard.monitors.score_reference import ScoreReference
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array

SIGNALS = ("findings", "doubt")
_TOGETHER = 64  # images


def signals(plan: Plan, name: str, scenes: Mapping[int, ReportScene]) -> dict[str, list[float]]:
    """Queries to the flag by each signal alone, for every account that `report_streams.watched` has, and its order."""
    scene, rows = scenes[plan.seeds[0]], unknown_rows(scenes[plan.seeds[0]])
    asked = {seed: asked_rows(plan, scenes[seed], seed) for seed in plan.seeds}
    benign = written_signals(scene, rows.inputs)
    told = {seed: {thief: written_signals(scene, each) for thief, each in some.items()} for seed, some in asked.items()}
    lines: dict[str, list[float]] = {}
    for number in range(DRAWS):
        mine = drawn_rows(rows, CALIBRATION[name][0], number)
        theirs = told[plan.seeds[number % len(plan.seeds)]]
        for line, count in _counts(rows, mine, benign, theirs, number, step=plan.step):
            lines.setdefault(line, []).append(count)
    return lines


def written_signals(scene: ReportScene, images: Array) -> tuple[NDArray[np.int64], Array]:
    """The decision ``(n,)`` of the report about each image, and the mean loss ``(n,)`` of its tokens."""
    task, model = scene.spec.task, scene.model
    assert isinstance(task, WrittenReport)
    assert isinstance(model, HuggingFaceReportModel)
    doubts, decided = [], []
    for pixels in torch.split(torch.from_numpy(np.array(images, np.float32)), _TOGETHER):
        texts = write_texts(model.writer, pixels, task.prompt, task.length)
        with torch.no_grad():
            losses, counts = token_losses(model.writer, pixels, task.prompt, texts)
        doubts.append((losses.sum(dim=1) / counts).double().numpy())
        decided.append(scene.spec.decide(task.read(texts, scene.name)))
    return np.concatenate(decided), np.concatenate(doubts)


def _counts(
    rows: Split,
    mine: NDArray[np.bool_],
    benign: tuple[Array, Array],
    told: Mapping[str, Any],
    number: int,
    *,
    step: int,
) -> Iterator[tuple[str, float]]:
    decided, doubts = benign
    risk = POLICY.monitor.calibration_risk
    sets = np.unique(decided[mine])

    def cells(of: Array) -> Array:
        """The place of a set among those that were calibrated on, all others in one."""
        at = np.minimum(np.searchsorted(sets, of), len(sets) - 1)
        return np.where(sets[at] == of, at, len(sets))

    settings = BetSettings.under(POLICY.monitor, 1.0, strata=1, longest=1)
    reference = ScoreReference.fit(doubts[mine], np.zeros(int(mine.sum()), np.int64)).at_risk(risk, 1)
    counts = tally_cells(cells(decided[mine]).tolist(), len(sets) + 1)
    parts = {
        "findings": Coverage(counts=counts, risk=risk, ratio=settings.ratio),
        "doubt": reference.bet("doubt", settings).part,
    }
    for place, (thief, (theirs, their_doubts)) in enumerate(told.items()):
        columns = {
            "findings": cells(np.concatenate([decided[~mine], theirs])),
            "doubt": reference.p_values(np.concatenate([doubts[~mine], their_doubts])),
        }
        for share in SHARES:
            for turn in range(ACCOUNTS):
                where = {"number": number, "place": place, "turn": turn, "step": step}
                order = account_order(thief, int((~mine).sum()), len(theirs), share, **where)
                for signal, part in parts.items():
                    yield f"{signal}, {thief} {share:g}", queries_to(part, columns[signal][order])


def queries_to(part: Any, values: Array) -> float:
    """The number of the query, from 1, at which an e-process reaches alpha; infinite for never."""
    state = part.start()
    for n, value in enumerate(values.tolist(), 1):
        state = part.step(state, n, value)
        if part.log_e(state) >= -log(ALPHA):
            return n
    return float(np.inf)
