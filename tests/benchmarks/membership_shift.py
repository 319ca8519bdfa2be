"""The blind gate on published membership benchmarks: WikiMIA and most of MIMIR are shifted, one set is clean.

Needs a folder, named by MEDWARD_EXTERNAL, with ``wikimia/{32,64,128,256}.jsonl`` (rows of input and label; from
nlp-titech/samia, folder wikimia) and ``mimir/{members,non-members}/NAME.jsonl`` (one JSON string a line; from
bravedog01/mia, folder PETAL-USENIX-Artifacts/data/MIMIR-ngram_7). Nothing of them is kept here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from claim import Claim

from medward.attacks.candidates.blind import shift_flags
from medward.attacks.intervals import Interval, auc_interval
from medward.attacks.membership.language.blind_text import blind_text_scores

CLAIMS = ("blind_gate_wikimia", "blind_gate_mimir")
SEED, MOST = 0, 500
CLEAN = "hackernews"
SLIGHT = ("pile_cc", "wikipedia")  # .544 and .578 by words alone; spelling shows more, so the gate may flag them
SHIFTED = ("arxiv", "github", "dm", "pubmed")
BY_WORDS = {"32": 0.986, "64": 0.989, "128": 0.957, "256": 0.819}
"""The AUC of a bag of words, as it was measured when the issue was written."""


def measure() -> Iterator[Claim]:
    """WikiMIA by length, then MIMIR by source."""
    root = Path(os.environ.get("MEDWARD_EXTERNAL", ""))
    if not (root / "wikimia").is_dir() or not (root / "mimir").is_dir():
        print("membership_shift: skipped, MEDWARD_EXTERNAL names no folder with wikimia/ and mimir/", flush=True)
        return
    wikimia = {length: blind_auc(*read_wikimia(root / "wikimia" / f"{length}.jsonl")) for length in BY_WORDS}
    least = min(wikimia.values(), key=lambda each: each.value)
    yield Claim(
        claim=CLAIMS[0],
        value=least.value,
        target="every length is flagged as shifted: the whole interval of the blind AUC above 0.5",
        met=all(shift_flags(each) for each in wikimia.values()),
        n=sum(each.n for each in wikimia.values()),
        seed=SEED,
        interval=(least.low, least.high),
        details={length: {"blind": str(each), "words": BY_WORDS[length]} for length, each in wikimia.items()},
    )
    mimir = {name: blind_auc(*read_mimir(root / "mimir", name)) for name in (CLEAN, *SLIGHT, *SHIFTED)}
    yield Claim(
        claim=CLAIMS[1],
        value=mimir[CLEAN].value,
        target=f"{CLEAN} is not flagged, {', '.join(SHIFTED)} are; {' and '.join(SLIGHT)} lie between, below 0.65",
        met=not shift_flags(mimir[CLEAN])
        and all(shift_flags(mimir[name]) for name in SHIFTED)
        and all(mimir[name].value < 0.65 for name in SLIGHT),
        n=sum(each.n for each in mimir.values()),
        seed=SEED,
        interval=(mimir[CLEAN].low, mimir[CLEAN].high),
        details={name: {"blind": str(each), "flags": list(shift_flags(each))} for name, each in mimir.items()},
    )


def blind_auc(members: list[str], others: list[str]) -> Interval:
    """The AUC of telling `members` from `others` without a model."""
    truth = np.arange(len(members) + len(others)) < len(members)
    return auc_interval(blind_text_scores([*members, *others], truth, seed=SEED), truth, seed=SEED)


def read_wikimia(path: Path) -> tuple[list[str], list[str]]:
    """Members and non-members."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return tuple([row["input"] for row in rows if row["label"] == side] for side in (1, 0))  # type: ignore[return-value]


def read_mimir(root: Path, name: str) -> tuple[list[str], list[str]]:
    """Members and non-members, at most `MOST` of each."""
    sides = (root / side / f"{name}.jsonl" for side in ("members", "non-members"))
    inside, outside = ([json.loads(line) for line in path.open(encoding="utf-8")][:MOST] for path in sides)
    return inside, outside
