"""What commissioning says of batches of 20 rows that were sent wrongly, and of ordinary ones.

A mistake is made in all rows of a batch unless its name says in how many. "right" is the word of the mistake itself,
said first; "among" a word beside which that of the mistake is named; "wrong" another word; "differs" says what differs
and no cause; "nothing" nothing. Settings were chosen on PneumoniaMNIST and WDBC; the other sets were printed once,
afterwards. What fetal CTG showed then was mended (`commissioning_before.json` has it), so it is not unseen any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import stealing
from claim import Claim
from eprocess import clopper_pearson
from sklearn.ensemble import HistGradientBoostingClassifier
from stealing import blood
from stealing.asked import finished, named, sources_of
from stealing.watched import calibrated

from medward.attacks.benchmarks.base import data_root
from medward.attacks.benchmarks.datasets.wdbc import load_wdbc
from medward.attacks.benchmarks.victims import classifier_spec, train_victim
from medward.guard import monitors, screens
from medward.guard.commissioning.commissioner import BATCH_ROWS
from medward.guard.commissioning.explain_batch import explain_batch
from medward.guard.commissioning.notes import FEWEST_COMPARED, STRANGE_BATCH
from medward.guard.models import wrap
from medward.guard.models.base import Model
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Ints, Outputs

CLAIMS = ("commissioning_words",)
RISK = Policy(on_error="withhold").monitor.calibration_risk
TUNED, MENDED, UNSEEN = ("pneumoniamnist", "wdbc"), ("fetal-ctg",), ("nih-cxr", "blood")
BEFORE = Path(__file__).with_name("commissioning_before.json")
"""What the first printing found."""
TABLE_SETS = ("wdbc", "fetal-ctg")
DRAWS, BATCHES, ORDINARY = 2, 50, 500  # calibrations of each set; batches of each mistake, ordinary ones, of each draw
BLOOD_ROWS = 1000  # of calibration
MOST_SAID, MOST_WRONG = 0.005, 0.05
HERE = Path(explain_batch.__code__.co_filename).parent
SHARED_FILES = ("exceedance", "mistake", "notes", "ordinary", "explain_batch")
CODE = {
    kind: (
        Path(__file__).read_bytes(),
        *((HERE / f"{name}.py").read_bytes() for name in (*SHARED_FILES, *own)),
        *(sources_of(package) for package in (monitors, screens, stealing)),
    )
    for kind, own in {
        "images": ("explain_images", "image_mistakes"),
        "tables": ("explain_columns", "column_mistakes"),
    }.items()
}

Mistaken = tuple[Array, frozenset[str]]
Mistake = Callable[[Array, np.random.Generator], Mistaken]
"""Makes a mistake in the rows of a batch; also the words that are right."""


class Bright:
    """A model of images from 0 to 255 in the place of one from 0 to 1."""

    def __init__(self, model: Model) -> None:
        self.model, self.spec = model, replace(model.spec, low=0.0, high=255.0)

    def predict(self, inputs: Array) -> Outputs:
        """What the model says of the images at its own range."""
        return self.model.predict(np.asarray(inputs / 255, np.float32))


def measure() -> Iterator[Claim]:
    """The words on mistakes, and the rate of any word on ordinary batches."""
    sets = {name: _set(name) for name in (*TUNED, *MENDED, *UNSEEN)}
    ordinary = {name: each["ordinary"] for name, each in sets.items()}
    worst = max(ordinary.values(), key=lambda each: each["said"] / each["n"])
    shares = {name: _shares(each["mistakes"]) for name, each in sets.items()}
    yield Claim(
        claim=CLAIMS[0],
        value=worst["said"] / worst["n"],
        interval=clopper_pearson(worst["said"], worst["n"]),
        target=f"anything said of <= {MOST_SAID:g} of the ordinary batches of each set, a wrong word of <= "
        f"{MOST_WRONG:g} of its batches with a mistake",
        met=all(each["said"] <= MOST_SAID * each["n"] for each in ordinary.values())
        and all(each["wrong"] <= MOST_WRONG for each in shares.values()),
        n=sum(each["n"] for each in ordinary.values()),
        seed=0,
        details={
            "sets": sets,
            "shares": shares,
            "rows_of_a_batch": BATCH_ROWS,
            "rows_of_a_first_batch": FEWEST_COMPARED,
            "level_of_a_batch": STRANGE_BATCH,
            "calibration_draws": DRAWS,
            "tuned_on": TUNED,
            "mended_on": MENDED,
            "before": json.loads(BEFORE.read_text()),
            "interval_assumes": "independent batches; those of a draw share calibration rows and pool of traffic",
        },
    )


def _shares(mistakes: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Each outcome as a share of all batches of a set."""
    total = sum(each["n"] for each in mistakes.values())
    outcomes = ("right", "among", "wrong", "differs", "nothing")
    return {outcome: sum(each[outcome] for each in mistakes.values()) / total for outcome in outcomes}


def _set(name: str) -> dict[str, Any]:
    """All draws of a set."""
    kind = "tables" if name in TABLE_SETS else "images"
    settings = named(repr((DRAWS, BATCHES, ORDINARY, BLOOD_ROWS)), *CODE[kind])
    draws = [finished(f"commissioning-{name}-{draw}", settings, partial(_draw, name, draw)) for draw in range(DRAWS)]
    first = draws[0]
    return {
        "reference": [each["reference"] for each in draws],
        "ordinary": _added([each["ordinary"] for each in draws]),
        "first_rows": _added([each["first_rows"] for each in draws]),
        "one_class": _added([each["one_class"] for each in draws]),
        "mistakes": {word: _added([each["mistakes"][word] for each in draws]) for word in first["mistakes"]},
    }


def _added(counts: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of all draws, and the wrong words in any of them."""
    sums: dict[str, Any] = {key: sum(each[key] for each in counts) for key in counts[0] if key != "words"}
    words: dict[str, int] = {}
    for each in counts:
        for word, count in each["words"].items():
            words[word] = words.get(word, 0) + count
    return {**sums, "words": dict(sorted(words.items(), key=lambda each: -each[1])[:5])}


def _draw(name: str, draw: int) -> dict[str, Any]:
    """One calibration: what is said of ordinary batches, of those of one class, and of each mistake."""
    model, profile, traffic, labels = _subject(name, draw)
    rng = np.random.default_rng(draw)
    found: dict[str, Any] = {"reference": len(profile.reference), "mistakes": {}}
    for key, rows in (("ordinary", BATCH_ROWS), ("first_rows", FEWEST_COMPARED)):
        found[key] = _said(model, profile, traffic, rows, ORDINARY, rng)
    alone = [traffic[labels == each] for each in np.unique(labels)]
    found["one_class"] = _added(
        [_said(model, profile, each, BATCH_ROWS, BATCHES, rng) for each in alone if len(each) >= 60]
    )
    mistakes = image_mistakes(traffic.shape[1]) if traffic.ndim == 4 else column_mistakes(traffic)
    for word, mistake in mistakes.items():
        found["mistakes"][word] = _judged(model, profile, traffic, mistake, rng)
    if traffic.ndim == 4:
        bright = Bright(model)
        again = Profile.fit(bright, 255 * _calibration(name, draw), risk=RISK, seed=draw, secret=draw)
        found["mistakes"]["0 to 1 for 0 to 255"] = _judged(
            bright, again, 255 * traffic, lambda x, _: (x / 255, frozenset({"range 0 to 1"})), rng
        )
    return found


def _said(
    model: Model, profile: Profile, traffic: Array, rows: int, batches: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Of how many unchanged batches anything is said."""
    said, words = 0, dict[str, int]()
    for _ in range(batches):
        notes = explain_batch(model, profile, traffic[rng.choice(len(traffic), rows, replace=False)])
        said += bool(notes)
        for note in notes:
            words[note.word] = words.get(note.word, 0) + 1
    return {"said": said, "n": batches, "words": words}


def _judged(
    model: Model, profile: Profile, traffic: Array, mistake: Mistake, rng: np.random.Generator
) -> dict[str, Any]:
    """Of how many mistaken batches the right word is said, and others."""
    counts: dict[str, Any] = dict.fromkeys(("right", "among", "wrong", "differs", "nothing"), 0)
    words: dict[str, int] = {}
    for _ in range(BATCHES):
        rows, right = mistake(traffic[rng.choice(len(traffic), BATCH_ROWS, replace=False)], rng)
        notes = explain_batch(model, profile, np.ascontiguousarray(rows, np.float32))
        said = {note.word for note in notes if note.explained}
        others = {word for note in notes for word in note.others}
        if said and said <= right:
            outcome = "right"
        elif said and len(said) == 1 and right & others:
            outcome = "among"
        elif said:
            outcome = "wrong"
            words[", ".join(sorted(said))] = words.get(", ".join(sorted(said)), 0) + 1
        else:
            outcome = "differs" if notes else "nothing"
        counts[outcome] += 1
    return {**counts, "n": BATCHES, "words": words}


def image_mistakes(channels: int) -> dict[str, Mistake]:
    """Mistakes of images from 0 to 1."""

    def always(change: Callable[[Array], Array], *words: str) -> Mistake:
        return lambda x, _: (change(x), frozenset(words))

    def partly(share: float, change: Callable[[Array], Array], *words: str) -> Mistake:
        def made(x: Array, rng: np.random.Generator) -> Mistaken:
            mine = rng.permutation(len(x))[: int(share * len(x))]
            changed = x.copy()
            changed[mine] = change(x[mine])
            return changed, frozenset(words)

        return made

    found = {
        "inverted": always(lambda x: 1 - x, "inverted"),
        "half of them inverted": partly(0.5, lambda x: 1 - x, "inverted"),
        "12 bits not scaled by 16": always(lambda x: x / 16, "16 times too small"),
        "divided by 255 once more": always(lambda x: x / 255, "255 times too small"),
        "14 bits not scaled by 4": always(lambda x: x / 4, "4 times too small"),
        "offset +0.2": always(lambda x: np.clip(x + 0.2, 0, 1), "offset", "gain and offset"),
        "half the contrast": always(lambda x: 0.25 + x / 2, "gain and offset"),
        "gamma 2.2": always(lambda x: x**2.2, "gamma 2.2"),
        "upside down": always(lambda x: x[..., ::-1, :], "upside down"),
        "mirrored": always(lambda x: x[..., ::-1], "mirrored"),
        "rotated by 180": always(lambda x: x[..., ::-1, ::-1], "rotated by 180"),
        "rotated clockwise": always(lambda x: np.rot90(x, -1, (2, 3)), "rotated clockwise"),
        "rotated anticlockwise": always(lambda x: np.rot90(x, 1, (2, 3)), "rotated anticlockwise"),
        "transposed": always(lambda x: x.swapaxes(2, 3), "transposed"),
        "a quarter blank": partly(0.25, lambda x: 0 * x, "blank"),
    }
    if channels == 3:
        found["BGR for RGB"] = always(lambda x: x[:, ::-1], "channels BGR")
    return found


def column_mistakes(traffic: Array) -> dict[str, Mistake]:
    """Mistakes in one column of a table, drawn anew for each batch, and of all columns."""
    columns, means, deviations = traffic.shape[1], traffic.mean(axis=0), traffic.std(axis=0)
    coded = [
        j for j in range(columns) if (np.mod(traffic[:, j], 1) == 0).all() and 2 <= len(np.unique(traffic[:, j])) <= 9
    ]

    def scaled(factor: float, word: str) -> Mistake:
        def made(x: Array, rng: np.random.Generator) -> Mistaken:
            changed = x.copy()
            changed[:, rng.integers(columns)] *= factor
            return changed, frozenset({word})

        return made

    def missing(value: float | None) -> Mistake:
        def made(x: Array, rng: np.random.Generator) -> Mistaken:
            changed, column = x.copy(), int(rng.integers(columns))
            mine = rng.permutation(len(x))[: len(x) // 2]
            changed[mine, column] = means[column] if value is None else value
            words = ["missing as one value"] if value is None else [f"missing as {value:g}"]
            return changed, frozenset(words)

        return made

    def exchanged(x: Array, rng: np.random.Generator) -> Mistaken:
        changed, pair = x.copy(), rng.choice(columns, 2, replace=False)
        changed[:, pair] = x[:, pair[::-1]]
        return changed, frozenset({"columns exchanged"})

    def recoded(x: Array, rng: np.random.Generator) -> Mistaken:
        changed = x.copy()
        changed[:, rng.choice(coded)] += 1
        return changed, frozenset({"1 too large"})

    found: dict[str, Mistake] = {
        "10 times too large": scaled(10, "10 times too large"),
        "10 times too small": scaled(0.1, "10 times too small"),
        "1000 times too large": scaled(1000, "1000 times too large"),
        "mg/dL for mmol/L (x 18.016)": scaled(18.016, "18.016 times too large"),
        "umol/L for mg/dL (x 88.42)": scaled(88.42, "88.42 times too large"),
        "centimetres for inches (x 2.54)": scaled(2.54, "2.54 times too large"),
        "kilograms for pounds (/ 2.2046)": scaled(1 / 2.2046, "2.2046 times too small"),
        "half of a column missing as 0": missing(0.0),
        "half of a column missing as -1": missing(-1.0),
        "half of a column missing as 999": missing(999.0),
        "half of a column missing as its mean": missing(None),
        "two columns exchanged": exchanged,
        "standardised": lambda x, _: ((x - means) / np.maximum(deviations, 1e-9), frozenset({"standardised"})),
    }
    if coded:
        found["codes from 1 on for from 0 on"] = recoded
    return found


def _subject(name: str, draw: int) -> tuple[Model, Profile, Array, Ints]:
    """A model, its profile after calibration `draw`, and rows that neither saw, with their labels."""
    if name == "blood":
        model, profile, rows = blood.calibrated(BLOOD_ROWS, draw, RISK)
        return model, profile, rows.inputs, np.asarray(rows.labels)
    if name in TABLE_SETS:
        model, x, y, known = _table(name, draw)
        profile = Profile.fit(model, x[known], risk=RISK, seed=draw, secret=draw)
        return model, profile, x[~known], y[~known]
    model, profile, rows = calibrated(name, draw, RISK)
    return model, profile, rows.inputs, np.asarray(rows.labels)


def _calibration(name: str, draw: int) -> Array:
    """The calibration rows of images of `_subject`."""
    if name == "blood":
        unseen, rng = blood.victim()[1].splits["unseen"], np.random.default_rng(draw)
        assert unseen.patients is not None
        slides = rng.permutation(np.unique(unseen.patients))
        enough = int(np.searchsorted(np.cumsum([(unseen.patients == each).sum() for each in slides]), BLOOD_ROWS)) + 1
        mine = np.flatnonzero(np.isin(unseen.patients, slides[:enough]))
        return unseen.take(rng.permutation(mine)[:BLOOD_ROWS]).inputs
    from stealing.watched import divided

    return divided(name, draw)[0].inputs


def _table(name: str, draw: int) -> tuple[Model, Array, Ints, np.ndarray]:
    """A table's model, the rows that it did not learn from, and which of them are calibration after `draw`."""
    model, x, y = _table_model(name)
    known = np.zeros(len(x), bool)
    known[np.random.default_rng(draw).permutation(len(x))[: int(0.45 * len(x))]] = True
    return model, x, y, known


@cache
def _table_model(name: str) -> tuple[Model, Array, Ints]:
    if name == "wdbc":
        task = load_wdbc(0)
        rest = [task.splits[each] for each in ("calibration", "holdout", "test")]
        x, y = (np.concatenate([getattr(each, part) for each in rest]) for part in ("inputs", "labels"))
        trained = train_victim(task, seed=0)
        return wrap(trained, spec=classifier_spec(task, "probabilities"), sample=x[:64]), x, y
    rows = np.unique(np.loadtxt(data_root() / "fetal_ctg" / "fetal_health.csv", delimiter=",", skiprows=1), axis=0)
    rows = np.random.default_rng(0).permutation(rows)
    x, y = rows[:, :-1].astype(np.float32), rows[:, -1].astype(np.int64) - 1
    third = len(x) // 3
    fitted = HistGradientBoostingClassifier(random_state=0).fit(x[:third], y[:third])
    classes = ("normal", "suspect", "pathological")
    task_of = Classification(classes=classes, output="probabilities")
    spec = ModelSpec(name="fetal-ctg", modality="tabular", shape=(x.shape[1],), task=task_of)
    return wrap(fitted, spec=spec, sample=x[:64]), x[third:], y[third:]
