"""Near-duplicates by content, across accounts: who asks about slightly changed copies of one image, again and again.

Query-based evasion, hill climbing and Jacobian augmentation ask about many small variations of an image; radiologists
do not. Images that look alike (`Contents`) form a cluster, whoever sends them. A cluster counts its changed members.
A resend of one of its latest members never counts, nor do images of the study that the cluster saw last, up to `slices`
in all: a study is what a client says it is, so a thief may call everything one. Bits of the code, chosen by a secret
salt, are the keys of `TABLES` small lists of clusters, so a look-up costs the same however many images were seen, and
the index is bounded: at most `TABLES` x 2^`TAKEN` lists of `CLUSTER_ROOM` clusters. A full list forgets the cluster
with the fewest changed members, the oldest of several; a cluster not seen for `ttl` seconds of the store's time is
forgotten everywhere.

What a changed member weighs is how many of its cluster its organisation has sent by then, twice that once their labels
or their direction speak of a search, and up to `OTHERS` for what other organisations sent; at most `most` in all. The
cluster carries the count, so fresh accounts of one organisation that take turns on one image start where the others
stopped, and nobody can make a picture that all look at cost another organisation more than `OTHERS` a query.
`DuplicateCount` adds the weights up for an account and takes `allowance` off with every query:

    count <- max(0, count - allowance) + weight,   an alarm, for good, where count >= limit.

Guarantee. This is a count with a limit, as a rate limit is, not a calibrated test, and no rate of false alarms follows
from it. What does: an account that sends no changed near-duplicate never alarms; none reaches a limit by fewer than
limit / `most` of them; and one that sends no more than second copies alarms only if over some stretch of n
queries there were limit + `allowance` (n - 1) of them. A series of slices sent without a study looks like a search.
Who fills a list with searches of their own, on record, can shorten its memory.
Not seen here, but strange to the screens: questions kept farther apart than near-duplicates are, on a map of one's own.

The response is to the account, never to the query: refusing single queries would show an attacker which steps are seen.

Reference: Li et al., "Blacklight: scalable defense for neural networks against query-based black-box attacks", USENIX
Security 2022 (content fingerprints without accounts); Park et al., "Mind the gap: detecting black-box adversarial
attacks in the making through query update analysis", CVPR 2025 (directions of changes); Feng et al., "Stateful defenses
for machine learning models are not yet secure against black-box attacks", CCS 2023 (why no query is refused).
"""

from __future__ import annotations

import hashlib
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypedDict

import numpy as np

from medward.guard.monitors.content_hash import BITS_PER_TABLE, CONTENT_WIDTH, RADIUS
from medward.guard.types import Action, Array, Ints, Verdict

TABLES = 4  # lists an image is looked up in
TAKEN = 12  # bits of the code that name a list
CLUSTER_ROOM = 4  # clusters in a list
KNOWN = 8  # digests of latest members that a cluster remembers
SHORT = 6  # hex digits of each
_STEPS = 4  # changed members from which on their direction speaks
ALIGNED = 0.8  # resultant length of their steps
OTHERS = 3  # that the changed members of other organisations may weigh
SENDERS = 4  # organisations that a cluster tells apart


class Cluster(TypedDict):
    """Images that look alike. Contents tell of the images to whoever also has the bundle: keep this as private.

    `first` and `last` are contents, and `way` the sum of the steps from the first, in base64, the latter two empty
    while there is one member only; `known` are digests, oldest first; `senders` are organisations by salted hash, with
    their changed members; `seen` is the store's time.
    """

    id: str
    first: str
    last: str
    way: str
    known: str
    members: int
    flips: int
    label: int
    study: str
    slices: int
    senders: dict[str, int]
    seen: int


Clusters = list[Cluster]


@dataclass(frozen=True, slots=True)
class ImageSeen:
    """One input: content ``(WIDTH,)`` and code (`Contents.see`), digest, the model's label, who sent it, of what study.

    A study is its organisation's own: only its clients vouch for one another. "" when it is not declared.
    """

    content: Array
    code: str
    digest: str
    label: int
    organisation: str = ""
    study: str = ""


@dataclass(frozen=True, slots=True)
class ClusterMatch:
    """What the index knows of one input: `kind` is "new", "exact", "study" or "changed".

    `members` and `flips` are of its cluster, this one included; `aligned` is the resultant length, in 0 to 1, of the
    steps of its changed members; `weight` is what it adds to an account, 0 unless it is changed.
    """

    kind: str
    members: int = 0
    flips: int = 0
    aligned: float = 0.0
    weight: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicateIndex:
    """The index; pure: the lists in, the lists out. `calibration` is the fingerprint of the contents, `most` what one
    query may weigh.
    """

    salt: bytes
    calibration: str
    most: float = 30.0
    slices: int = 64
    ttl: float = 30 * 86400.0

    def keys(self, codes: Sequence[str]) -> list[str]:
        """Where in a store the lists are that these codes touch: distinct, `TABLES` for each code at most."""
        return list(dict.fromkeys(key for code in codes for key in self._keys(code)))

    def step(
        self, lists: Mapping[str, Clusters | None], arrivals: Sequence[ImageSeen], now: float
    ) -> tuple[dict[str, Clusters], list[ClusterMatch]]:
        """The lists after `arrivals`, in order, and what was found; `lists` holds all `keys` of their codes.

        A cluster dated later than `now` counts as seen now: no wrong date keeps it for ever.
        """
        today, ttl = int(now), self.ttl
        after = {
            key: [
                each if each["seen"] <= today else Cluster({**each, "seen": today})
                for each in clusters or []
                if each["seen"] + ttl > now
            ]
            for key, clusters in lists.items()
        }
        found = []
        for arrival in arrivals:
            mine = self._keys(arrival.code)
            copies = sorted([each for key in mine for each in after[key]], key=_age)
            joined = nearest_cluster(list({each["id"]: each for each in copies}.values()), arrival.content)
            cluster, what = self._joined(joined, arrival, today)
            found.append(what)
            for key in mine:
                after[key] = kept_clusters([each for each in after[key] if each["id"] != cluster["id"]], cluster)
        return after, found

    def _joined(self, cluster: Cluster | None, arrival: ImageSeen, now: int) -> tuple[Cluster, ClusterMatch]:
        """The cluster once `arrival` is its latest member, and what that means."""
        digest, sender = self._hash(arrival.digest), self._hash(arrival.organisation)
        study = self._hash(f"{arrival.organisation}/{arrival.study}") if arrival.study else ""
        content = packed_content(arrival.content)
        if cluster is None:
            alone = Cluster(
                id=digest,
                first=content,
                last="",
                way="",
                known=digest[:SHORT],
                members=0,
                flips=0,
                label=arrival.label,
                study=study,
                slices=0,
                senders={},
                seen=now,
            )
            return alone, ClusterMatch("new")
        after = Cluster({**cluster, "seen": now})
        known = cluster["known"]
        if digest == cluster["id"] or digest[:SHORT] in (known[i : i + SHORT] for i in range(0, len(known), SHORT)):
            return after, ClusterMatch("exact", cluster["members"], cluster["flips"])
        after["known"] = (known + digest[:SHORT])[-KNOWN * SHORT :]
        after["last"], after["label"] = content, arrival.label
        if study and study == cluster["study"] and cluster["slices"] < self.slices:
            after["slices"] += 1
            return after, ClusterMatch("study", cluster["members"], cluster["flips"])
        way = unit_step(arrival.content - _array(cluster["first"], "<i2").astype(np.float32))
        if cluster["way"]:
            way += _array(cluster["way"], "<f2")
        after["way"], after["study"] = _text(way.astype("<f2")), study
        after["members"] += 1
        after["flips"] += arrival.label != cluster["label"]
        aligned = min(1.0, _length(way) / after["members"])
        searching = after["flips"] > 1 or (after["members"] >= _STEPS and aligned > ALIGNED)
        own = cluster["senders"].get(sender, 0) + 1
        senders = sorted({**cluster["senders"], sender: own}.items(), key=lambda each: each[1])
        after["senders"] = dict(senders[-SENDERS:])
        weight = min(self.most, float(own * (1 + searching) + min(after["members"] - own, OTHERS)))
        return after, ClusterMatch("changed", after["members"], after["flips"], aligned, weight)

    def _keys(self, code: str) -> tuple[str, ...]:
        return _list_keys(self.salt, self.calibration, code)

    def _hash(self, text: str) -> str:
        return _salted(self.salt, text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateCount:
    """The count of one account; `ladder` holds (limit, action), mild to strict."""

    ladder: tuple[tuple[float, Action], ...]
    allowance: float = 0.05
    name: str = "duplicates"

    def start(self) -> list[float]:
        """The count, and the largest it ever was."""
        return [0.0, 0.0]

    def step(self, state: list[float], found: ClusterMatch) -> tuple[list[float], Verdict]:
        """Count one more query. The alarm is sticky: it reads the largest count ever reached."""
        count = round(max(0.0, state[0] - self.allowance) + found.weight, 6)
        after = [count, max(state[1], count)]
        seen = {"members": float(found.members), "flips": float(found.flips), "aligned": found.aligned}
        verdict = self.verdict(after)
        return after, Verdict(part=self.name, action=verdict.action, evidence={**verdict.evidence, **seen})

    def verdict(self, state: list[float]) -> Verdict:
        """What the ladder asks for at this count."""
        reached = [action for limit, action in self.ladder if state[1] >= limit]
        evidence = {"count": state[0], "peak": state[1]}
        return Verdict(part=self.name, action=max(reached, default=Action.ALLOW), evidence=evidence)


def nearest_cluster(clusters: Clusters, content: Array) -> Cluster | None:
    """The cluster whose first or last member is nearest to `content (WIDTH,)`, if near enough."""
    if not clusters:
        return None
    ends = [(each, each[end]) for each in clusters for end in ("first", "last") if each[end]]
    contents = _array("".join(content for _, content in ends), "<i2").reshape(-1, CONTENT_WIDTH)
    steps = contents - content.astype(np.float64)
    apart = (steps * steps).sum(axis=1) / CONTENT_WIDTH
    best = int(apart.argmin())
    return ends[best][0] if apart[best] <= RADIUS**2 else None


def kept_clusters(clusters: Clusters, latest: Cluster) -> Clusters:
    """`clusters`, oldest first, and then `latest`; at most `CLUSTER_ROOM`."""
    if len(clusters) >= CLUSTER_ROOM:
        drop = min(range(len(clusters)), key=lambda i: (clusters[i]["members"], i))
        clusters = clusters[:drop] + clusters[drop + 1 :]
    return [*clusters, latest]


def _age(cluster: Cluster) -> tuple[int, int, int]:
    """The larger of two records of a cluster is the newer; the lists that no later member is in keep an older one."""
    return cluster["seen"], cluster["members"], cluster["slices"]


def unit_step(step: Array) -> Array:
    """`step` at length 1; zero stays."""
    return np.asarray(step / max(_length(step), 1e-9), np.float32)


def _length(step: Array) -> float:
    return float(np.sqrt(step.dot(step)))


def packed_content(content: Array) -> str:
    """A content as it is kept."""
    return _text(np.asarray(content, "<i2"))


@lru_cache(256)  # a query's keys are asked for when its lists are read and when they are stepped
def _list_keys(salt: bytes, calibration: str, code: str) -> tuple[str, ...]:
    """Where the lists are, one for each table, of an image with this code."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(code), np.uint8))[_tables(salt)].tobytes()
    name = f"{calibration}:".encode()
    return tuple(
        f"//near/{table}/{_salted(salt, name + bits[TAKEN * table : TAKEN * (table + 1)])}" for table in range(TABLES)
    )


def _salted(salt: bytes, data: bytes) -> str:
    return hashlib.blake2b(data, key=salt[:64], digest_size=6).hexdigest()


@lru_cache(64)
def _tables(salt: bytes) -> Ints:
    """The bits that name an image's list in each table, as indices ``(TABLES TAKEN,)``."""
    rng = np.random.default_rng(list(hashlib.blake2b(b"tables", key=salt[:64], digest_size=16).digest()))
    return np.concatenate([rng.permutation(BITS_PER_TABLE)[:TAKEN] for _ in range(TABLES)])


def _text(array: Array) -> str:
    return b2a_base64(array.tobytes(), newline=False).decode()


def _array(text: str, kind: str) -> Any:
    return np.frombuffer(a2b_base64(text), kind)
