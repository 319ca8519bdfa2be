"""What thieves of report models ask, through the monitors of a guard: queries until each account is flagged.

What they asked of the bare victim is mixed into radiographs of patients that the guard does not know, and goes through
the product's own step. A thief whose recording ends has finished: it is flagged before that, or never. Calibration is
drawn anew several times, from all rows that the victim was not trained on and no clone is judged on, those too where
there are few.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report_scenes import ReportScene
from report_theft import ALIGNED, HEADLINE, SECOND, Plan, asked_path, kept
from stealing.scene import POLICY as FLAGGING
from stealing_detection import cycled, either, flagged, stream

from medward.attacks.extraction.reports.clone import source_images
from medward.guard.accounts.monitors import observe_batch
from medward.guard.data.split import Split
from medward.guard.models.base import Prefill, is_report_model, written_outputs
from medward.guard.profile import Profile, judged_batches
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Outputs

DRAWS, ACCOUNTS = 7, 3  # calibration draws, and accounts of each kind in a draw
PATIENCE = 1000  # queries, after which an account was never flagged
CALIBRATION: Mapping[str, tuple[float, ...]] = {HEADLINE: (0.9, 0.45), SECOND: (0.77,)}
"""Of the rows, or patients, that the victim never saw; all but the first say what fewer would do."""
SHARES = (1.0, 0.1)
STOLEN = "ada-steal"
MOVED = "ada-steal, moved images alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenModel:
    """A model that has seen most rows already: it shows the features of known rows, asks `model` and writes nothing."""

    spec: ModelSpec
    features: Mapping[bytes, Array]
    model: Any

    def prefill(self, inputs: Array) -> Prefill:
        """The features of rows that are known, and of others, marked ones say, what the model makes of them."""
        known = [self.features.get(row.tobytes()) for row in inputs]
        fresh = [i for i, each in enumerate(known) if each is None]
        if fresh:
            found = judged_batches(self.model, inputs[fresh])[0].features
            assert found is not None
            for i, each in zip(fresh, found, strict=True):
                known[i] = each
        return Prefill(np.stack(known), ("",) * len(inputs))

    def predict(self, inputs: Array) -> Outputs:
        """The same features, with empty texts."""
        return written_outputs(self.spec, self.prefill(inputs))


def watched(plan: Plan, name: str, scenes: Mapping[int, ReportScene]) -> list[dict[str, Any]]:
    """Of the victim of one data set, by how much it is calibrated on: queries to the flag of every account of every
    thief, and of clients who steal nothing.
    """
    scene = scenes[plan.seeds[0]]
    asked = {seed: asked_rows(plan, scenes[seed], seed) for seed in plan.seeds}
    rows = unknown_rows(scene)
    theirs = [each for some in asked.values() for each in some.values()]
    seen = remembered(scene, np.concatenate([rows.inputs, *theirs]))
    return [_drawn(plan, seen, rows, asked, share) for share in CALIBRATION[name]]


def _drawn(
    plan: Plan, seen: SeenModel, rows: Split, asked: Mapping[int, Mapping[str, Array]], share: float
) -> dict[str, Any]:
    """What came of every account of every draw of a `share` of `rows`."""
    lines: dict[str, list[float]] = {}
    sizes = Counter[str]()
    for number in range(DRAWS):
        profile, traffic = calibrated(seen, rows, share, number)
        sizes.update(calibration=profile.rows, reference=len(profile.reference), traffic=len(traffic))
        theirs = asked[plan.seeds[number % len(plan.seeds)]]
        for name, count in accounts_of(seen, profile, traffic, theirs, number, step=plan.step):
            lines.setdefault(name, []).append(count)
    return {"queries": lines, "rows": {name: count / DRAWS for name, count in sizes.items()}}


def accounts_of(
    seen: SeenModel, profile: Profile, traffic: Array, asked: Mapping[str, Array], number: int, *, step: int
) -> Iterator[tuple[str, float]]:
    """What came of every account of one draw."""
    benign = sight(seen, profile, traffic)
    for place, (thief, theirs) in enumerate(asked.items()):
        both = joined(benign, sight(seen, profile, theirs))
        names = [""] * len(traffic) + [hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in theirs]
        for share in SHARES:
            for turn in range(ACCOUNTS):
                where = {"number": number, "place": place, "turn": turn, "step": step}
                order = account_order(thief, len(traffic), len(theirs), share, **where)
                yield f"{thief} {share:g}", either(flagged(profile, both, names, order, 1))
    for turn in range(ACCOUNTS):
        order = cycled(len(traffic), len(traffic), np.random.default_rng((number, turn)))
        yield "client", either(flagged(profile, benign, [""] * len(traffic), order, 1))


def asked_rows(plan: Plan, scene: ReportScene, seed: int) -> dict[str, Array]:
    """What each thief asks of the bare victim, in order; noise and photographs in the order of their pool."""
    thief = plan.thieves()[ALIGNED]
    kept(plan, scene, thief, seed)
    aligned = np.load(asked_path(plan, scene, thief, seed))
    noise = source_images("noise", scene.data, scene.spec, seed)
    assert scene.data.pool is not None
    assert noise is not None
    return {
        STOLEN: aligned,
        MOVED: aligned[plan.step :],
        "knockoff": scene.data.pool[: plan.queries],
        "noise": noise[: plan.queries],
    }


def unknown_rows(scene: ReportScene) -> Split:
    """What a guard and its clients share."""
    parts = (scene.others, scene.data.craft)
    patients = [each.patients for each in parts if each.patients is not None]
    inputs = np.concatenate([each.inputs for each in parts])
    return Split(inputs, patients=np.concatenate(patients) if len(patients) == len(parts) else None)


def remembered(scene: ReportScene, rows: Array) -> SeenModel:
    """The victim after one look at `rows`."""
    features = judged_batches(scene.model, rows)[0].features
    assert features is not None
    seen = {row.tobytes(): each for row, each in zip(rows, features, strict=True)}
    model = SeenModel(spec=scene.spec, features=seen, model=scene.model)
    assert is_report_model(model)
    return model


def calibrated(model: Any, rows: Split, share: float, number: int) -> tuple[Profile, Array]:
    """A profile of one draw of a `share` of `rows`, and the rows of all others."""
    mine = drawn_rows(rows, share, number)
    known = None if rows.patients is None else rows.patients[mine]
    risk = FLAGGING.monitor.calibration_risk
    profile = Profile.fit(model, rows.inputs[mine], risk=risk, patients=known, seed=number, secret=number)
    return profile, rows.inputs[~mine]


def drawn_rows(rows: Split, share: float, number: int) -> NDArray[np.bool_]:
    """Which ``(n,)`` of `rows` draw `number` calibrates on, by patient where these are known."""
    who = np.arange(len(rows)) if rows.patients is None else rows.patients
    everyone = np.random.default_rng(number).permutation(np.unique(who))
    return np.isin(who, everyone[: int(share * len(everyone))])


def account_order(
    thief: str, benign: int, asked: int, share: float, *, number: int, place: int, turn: int, step: int
) -> Array:
    """Which of `benign` and then `asked` rows one account asks about, in an order of its own.

    ADA-STEAL's rounds of `step` rows stay one after the other, as it needs the answers of one for the next.
    """
    rng = np.random.default_rng((number, place, round(100 * share), turn))
    rows = stream(thief, benign, asked, share, rng, PATIENCE)
    rounds = np.split(np.arange(asked), range(step, asked, step)) if thief == STOLEN else [np.arange(asked)]
    own = np.concatenate([np.arange(benign), *(benign + rng.permutation(each) for each in rounds)])
    return own[rows]


def sight(model: Any, profile: Profile, rows: Array) -> dict[str, Array]:
    """What the monitors see of `rows`."""
    found, failed = observe_batch(FLAGGING, profile, rows, judged_batches(model, rows)[0])
    for error in failed.values():
        raise error
    return {part: np.asarray(column) for part, column in found.items()}


def joined(first: Mapping[str, Array], second: Mapping[str, Array]) -> dict[str, Array]:
    """Columns of some rows and then of others."""
    return {part: np.concatenate([column, second[part]]) for part, column in first.items()}
