"""Search by questions against the near-duplicate index on PneumoniaMNIST, with and without a response to the account.

Every image of the test split that the CNN gets right is attacked at 8/255 with at most 1,000 questions, answered with
logits. The index has seen a thousand benign images and the attacked one. What stands behind the index: nothing; a
refusal of each changed near-duplicate, which shows (as Blacklight does); or the account's count, by which it gets
labels only and then nothing, for good, at the limits of the default policy or at half of them. The attacker has k fresh
accounts for every image, and leaves each as soon as it shows less than the attack needs. The index alone is measured:
screens and other monitors take no part, but what the screens would stop is told.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from claim import Claim
from eprocess import clopper_pearson
from subjects import pneumonia, pneumonia_victim
from torch import Tensor

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.evasion.asking import BlackBoxSearch, without_gradients
from medward.attacks.evasion.hopskipjump import hopskipjump
from medward.attacks.evasion.oars import oars
from medward.attacks.evasion.square import square
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import ANY_CLASS
from medward.attacks.whitebox.search import Search
from medward.guard.monitors.content_hash import RADIUS, ContentHash
from medward.guard.monitors.near_duplicates import ClusterMatch, DuplicateCount, ImageSeen, NearDuplicateIndex
from medward.guard.policy import Policy
from medward.guard.profile import Profile, forward_batches
from medward.guard.types import Action

CLAIMS = ("oars_refused_queries", "oars_accounts_acted_upon", "oars_benign_accounts_alarmed")
IMAGES, QUERIES, EPSILON = 30, 1000, 8 / 255
BENIGN = 1000  # images the index has seen
POLICY = Policy(on_error="withhold")
LADDER = ((30.0, Action.FLAG), (60.0, Action.COARSEN), (120.0, Action.WITHHOLD))
"""Of a site that lets the count act; by default its first rung tells a person, and that is all."""
LADDERS = {"account": LADDER, "account at half the limits": tuple((limit / 2, action) for limit, action in LADDER)}
ACCOUNTS = (1, 10, 100)
CARES = (1.2, 2.0)  # how much farther apart than near-duplicates the attacker keeps what it asks, on its own map
AFTER = (10, 30, 100, 300, 1000)  # questions
TRAFFIC, SERIES = 40, 20  # benign accounts; those that send series without their study
LENGTH = 4  # mean of those series
ASKED = 200  # first questions that the screens are asked about
RATE = 0.01  # of benign images that the screens act on
FORESEES = "oars that foresees"
Ask = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(slots=True)
class Site:
    """A deployment: the index, its accounts, and what it does. `count` numbers the inputs, which stands for time."""

    contents: ContentHash
    index: NearDuplicateIndex
    monitor: DuplicateCount
    lists: dict[str, Any] = field(default_factory=dict)
    accounts: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def see(
        self, image: np.ndarray, label: int, account: str, *, organisation: str = "", study: str = ""
    ) -> tuple[ClusterMatch, Action]:
        """One image of one account, which is an organisation of its own unless one is named."""
        self.count += 1
        (content,), (code,) = self.contents.see(image[None])
        keys = self.index.keys([code])
        digest = hashlib.blake2b(image.tobytes()).hexdigest()
        arrival = ImageSeen(content, code, digest, label, organisation or account, study)
        after, (found,) = self.index.step({key: self.lists.get(key) for key in keys}, [arrival], self.count)
        self.lists.update(after)
        self.accounts[account], verdict = self.monitor.step(self.accounts.get(account, self.monitor.start()), found)
        return found, verdict.action


@dataclass(frozen=True, slots=True)
class Arm:
    """An attacker against a response: "none", "refuse", or one of `LADDERS`."""

    attacker: str
    response: str
    accounts: int = 1
    study: bool = False
    care: float = 0.0
    apart: bool = False

    @property
    def name(self) -> str:
        study = (", all one study" if self.study else "") + (", each an organisation" if self.apart else "")
        accounts = f", {self.accounts} accounts an image" if self.response in LADDERS else ""
        care = f" with care {self.care:g}" if self.care else ""
        return f"{self.attacker}{care} / {self.response}{accounts}{study}"


ARMS = (
    *(Arm(attacker, response) for response in ("none", "refuse") for attacker in ("square", "oars", "hopskipjump")),
    *(Arm(attacker, "account", accounts) for accounts in ACCOUNTS for attacker in ("square", "oars", "hopskipjump")),
    *(Arm("oars", "account at half the limits", accounts) for accounts in ACCOUNTS),
    *(Arm(FORESEES, "account", care=care) for care in CARES),
    Arm("square", "account", study=True),
    Arm("oars", "account", 10, apart=True),
)


def measure() -> Iterator[Claim]:
    """Success of every attacker against every response, and benign accounts alarmed."""
    victim, task = pneumonia_victim()
    site = opened(victim, task)
    model, _ = pneumonia()
    profile = Profile.fit(
        model, task.splits["calibration"].inputs, risk=POLICY.monitor.calibration_risk, seed=0, secret=0
    )
    table = {arm.name: attacked(arm, site, victim, task, profile) for arm in ARMS}
    for name, response in (("oars_refused_queries", "refuse"), ("oars_accounts_acted_upon", "account")):
        yield compared(name, response, table)
    yield benign(site, victim, task)


def opened(victim: torch.nn.Module, task: BenchmarkTask) -> Site:
    """A site that has seen benign images, one account each."""
    contents = ContentHash.fit(task.splits["calibration"].inputs, seed=0)
    index = NearDuplicateIndex(salt=b"the site's", calibration=contents.fingerprint, slices=POLICY.duplicates.slices)
    site = Site(contents, index, DuplicateCount(ladder=LADDER))
    seen = task.splits["holdout"].inputs[:BENIGN]
    for i, (image, label) in enumerate(zip(seen, labels(victim, seen), strict=True)):
        site.see(image, label, f"client-{i}")
    return site


def attacked(arm: Arm, site: Site, victim: torch.nn.Module, task: BenchmarkTask, profile: Profile) -> dict[str, Any]:
    """One arm, image by image."""
    site, split = copy.deepcopy(site), task.splits["test"]
    site.monitor = DuplicateCount(ladder=LADDERS.get(arm.response, LADDER))
    own = labels(victim, split.inputs)
    rows = np.flatnonzero(own == split.labels)[:IMAGES]
    ball = Ball(torch.full((1, 1, 1), EPSILON), 0.0, 1.0)
    theirs = ContentHash.fit(task.splits["train"].inputs, seed=99)
    won, asked, alarms, strange = [], [], [], []
    for row in rows:
        image = split.inputs[row]
        site.see(image, int(own[row]), "the hospital")
        alone = without_gradients(Search(victim, ANY_CLASS, ball))
        asker = Asker(arm, site, alone.ask, f"thief-{row}")
        x, y = torch.as_tensor(image[None]), torch.as_tensor(own[row : row + 1])
        search = BlackBoxSearch(asker, ANY_CLASS, ball, torch.Generator().manual_seed(int(row)))
        if arm.attacker == "square":
            found = square(search, x, y, queries=QUERIES)
        elif arm.attacker == "hopskipjump":
            found = hopskipjump(search, x, y, queries=QUERIES)
        else:
            foresee = Copy(theirs, asker, image, arm.care) if arm.attacker == FORESEES else None
            found = oars(search, x, y, queries=QUERIES, foresee=foresee)
        fooled = int(network_decisions(victim, found.adversarial)[0]) != int(own[row])
        won.append(fooled)
        asked.append(len(asker.points))
        alarms.append(asker.first_alarm)
        if asker.points:
            questions = np.stack(asker.points[:ASKED])
            scores = profile.strangeness(questions, forward_batches(pneumonia()[0], questions))
            strange.append(float((scores > profile.screen_cut(RATE)).mean()))
    noticed = [each for each in alarms if each]
    return {
        "success": float(np.mean(won)),
        "interval": clopper_pearson(sum(won), len(won)),
        "images": len(won),
        "success_within": {
            str(n): float(np.mean([w and a <= n for w, a in zip(won, asked, strict=True)])) for n in AFTER
        },
        "questions_median": float(np.median(asked)),
        "questions_of_the_successful_median": float(
            np.median([n for n, w in zip(asked, won, strict=True) if w] or [0])
        ),
        "attacks_that_alarm_an_account": len(noticed) / len(won),
        "questions_to_the_first_alarm_median": float(np.median(noticed)) if noticed else None,
        "accounts_alarmed": sum(action > Action.ALLOW for action in standing(site)) if arm.response in LADDERS else 0,
        "first_questions_the_screens_would_stop": float(np.mean(strange)),
    }


def standing(site: Site) -> list[Action]:
    """What each of the attacker's accounts has come to."""
    return [site.monitor.verdict(state).action for name, state in site.accounts.items() if name.startswith("thief")]


class Asker:
    """What the attacker asks through: its accounts, one after the other, each until it shows too little."""

    def __init__(self, arm: Arm, site: Site, ask: Ask, name: str) -> None:
        self._arm, self._site, self._ask, self._name = arm, site, ask, name
        self._account = 0
        self.points: list[np.ndarray] = []
        self.first_alarm = 0

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        scores, found = self._ask(points)
        for i in range(len(points)):
            level = self._level(points[i].numpy(), int(found[i]))
            if level >= Action.COARSEN:
                scores[i] = torch.nan
            if level is Action.WITHHOLD:
                found[i] = -1
        return scores, found

    def _level(self, image: np.ndarray, label: int) -> Action:
        if self._account >= self._arm.accounts:
            return Action.WITHHOLD
        self.points.append(image)
        study = self._name if self._arm.study else ""
        account = f"{self._name}-{self._account}"
        organisation = "" if self._arm.apart else "thieves"
        found, action = self._site.see(image, label, account, organisation=organisation, study=study)
        if action > Action.ALLOW and not self.first_alarm:
            self.first_alarm = len(self.points)
        if self._arm.response == "refuse":
            return Action.WITHHOLD if found.kind == "changed" else Action.ALLOW
        if self._arm.response == "none":
            return Action.ALLOW
        needed = Action.WITHHOLD if self._arm.attacker == "hopskipjump" else Action.COARSEN
        self._account += action >= needed
        return action


class Copy:
    """The attacker's own map, fitted on other rows with other planes, and what it has asked."""

    def __init__(self, contents: ContentHash, asker: Asker, image: np.ndarray, care: float) -> None:
        self._contents, self._asker, self._care = contents, asker, care
        self._seen = [contents.see(image[None])[0][0].astype(np.float64)]

    def __call__(self, point: Tensor) -> bool:
        for image in self._asker.points[len(self._seen) - 1 :]:
            self._seen.append(self._contents.see(image[None])[0][0].astype(np.float64))
        content = self._contents.see(point.numpy())[0][0]
        apart = np.sqrt(np.square(np.stack(self._seen) - content).mean(axis=1))
        return bool(apart.min() <= self._care * RADIUS)


def compared(name: str, response: str, table: dict[str, dict[str, Any]]) -> Claim:
    """The adaptive attacker who sees what is refused, against one response, with one account an image."""
    refused, acted = table[Arm("oars", "refuse").name], table[Arm("oars", "account").name]
    mine = acted if response == "account" else refused
    return Claim(
        claim=name,
        value=mine["success"],
        interval=mine["interval"],
        target="success clearly below that where near-duplicates are refused"
        if response == "account"
        else "reported: success of OARS where near-duplicates are refused",
        met=response != "account" or acted["interval"][1] < refused["interval"][0],
        n=mine["images"],
        seed=0,
        details={
            "epsilon": EPSILON,
            "questions": QUERIES,
            "ladder": [[limit, action.label] for limit, action in LADDER],
            "arms": {key: row for key, row in table.items() if ("/ account" in key) == (response == "account")},
        },
    )


def benign(site: Site, victim: torch.nn.Module, task: BenchmarkTask) -> Claim:
    """Accounts of unseen and test rows, with resent bytes, re-encoded copies, and series with and without a study."""
    site, rng = copy.deepcopy(site), np.random.default_rng(0)
    pool = np.concatenate([task.splits[name].inputs for name in ("holdout", "selection", "test")])[BENIGN:]
    own = labels(victim, pool)
    weights: dict[str, list[float]] = {"plain": [], "resent": [], "copied": [], "study": [], "loose series": []}
    for number, rows in enumerate(np.array_split(rng.permutation(len(pool)), TRAFFIC)):
        for row in rows:
            image, label, account = pool[row], int(own[row]), f"benign-{number}"
            weights["plain"].append(site.see(image, label, account)[0].weight)
            kind = rng.uniform()
            if kind < 0.2:
                weights["resent"] += [site.see(image, label, account)[0].weight for _ in range(20)]
            elif kind < 0.23:
                weights["copied"].append(site.see(copied(image, rng), label, account)[0].weight)
            elif kind < 0.33:
                series = [copied(np.roll(image, i, axis=1), rng) for i in range(8)]
                weights["study"] += [site.see(each, label, account, study=f"{row}")[0].weight for each in series]
            elif kind < 0.34:
                series = [copied(image, rng) for _ in range(3)]
                weights["loose series"] += [site.see(each, label, account)[0].weight for each in series]
    verdicts = [
        site.monitor.verdict(state) for name, state in site.accounts.items() if name.startswith(("benign", "client"))
    ]
    alarmed = sum(verdict.action > Action.ALLOW for verdict in verdicts[-TRAFFIC:])
    loose = [in_series(site, f"series-{number}", pool, own, rng) for number in range(SERIES)]
    return Claim(
        claim="oars_benign_accounts_alarmed",
        value=alarmed / TRAFFIC,
        interval=clopper_pearson(alarmed, TRAFFIC),
        target="reported: a count with a limit, without a bound on false alarms",
        met=True,
        n=TRAFFIC,
        seed=0,
        details={
            "queries": {kind: len(each) for kind, each in weights.items()},
            "counted": {kind: int((np.array(each) > 0).sum()) for kind, each in weights.items()},
            "largest_count": max(verdict.evidence["peak"] for verdict in verdicts[-TRAFFIC:]),
            "limit": LADDER[0][0],
            "accounts_that_send_series_without_a_study": {
                "of": SERIES,
                "queries_each": QUERIES,
                **{action.label: sum(each >= action for each in loose) for _, action in LADDER},
            },
        },
    )


def in_series(site: Site, account: str, pool: np.ndarray, own: np.ndarray, rng: np.random.Generator) -> Action:
    """What an account comes to that sends a few images of each patient and never says so."""
    action, sent = Action.ALLOW, 0
    for row in rng.permutation(len(pool)):
        for _ in range(rng.geometric(1 / LENGTH)):
            _, action = site.see(copied(pool[row], rng), int(own[row]), account)
            sent += 1
        if sent >= QUERIES:
            break
    return action


def copied(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image as another export has it: another window, grain, 8 bits."""
    other = image * rng.uniform(0.9, 1.1) + rng.normal(size=image.shape) * 0.005
    return (np.rint(np.clip(other, 0, 1) * 255) / 255).astype(np.float32)


def labels(victim: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """What the model answers."""
    return network_decisions(victim, torch.as_tensor(images)).numpy()
