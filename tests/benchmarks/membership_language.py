"""Membership scores of a small transformer that was fine-tuned on chest X-ray reports drawn by a coin flip."""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from claim import Claim
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from medward.attacks.candidates.evaluation import MembershipEvaluation
from medward.attacks.membership.language.attack import audit_language_model, score_texts
from medward.attacks.membership.language.dataset_inference import infer_dataset
from medward.attacks.membership.language.readings import LanguageHoldings, ShadowLanguage
from medward.attacks.membership.language.spv import train_self_reference
from medward.attacks.membership.language.training import fine_tuned_copy
from medward.guard.data.coin_flip import flip_coins
from medward.guard.data.quality import auc
from medward.guard.data.split import Split
from medward.guard.data.text_canaries import TextCanarySet, plant_texts

CLAIMS = (
    "language_membership_scores",
    "language_membership_blind",
    "language_membership_unrelated",
    "language_membership_canaries",
    "language_membership_dataset_inference",
)
SEED = 0
CANDIDATES, KNOWN, KNOWN_MEMBERS = 600, 200, 20
CANARIES, COPIES = 60, 6
CONTEXT, WIDTH, LAYERS, VOCABULARY = 192, 128, 2, 1200
BASE_EPOCHS, EPOCHS, RATE = 5, 6, 1e-3
SLOW = ("samia", "samia-zlib", "mope")  # not asked of the unrelated target
SETS = ("loss", "zlib", "min-k", "min-k++", "recall", "reference", "wbc")

Train = Callable[[Any, Any, list[str]], Any]
"""Fine-tunes a base model with its tokenizer on texts, and returns the target: plainly, or with privacy."""


@dataclass(frozen=True, kw_only=True)
class Reports:
    """Reports by what they are for; each patient has one and is on one side only."""

    members: list[str]
    others: list[str]
    training: list[str]
    canaries: TextCanarySet
    known: list[str]
    known_members: list[str]
    tokenizer: Any
    base: Any


def measure() -> Iterator[Claim]:
    """The fine-tuned target, then one that was fine-tuned on other reports in the same way."""
    if not (Path(os.environ.get("MEDWARD_DATA", "")) / "iu_xray_reports").is_dir():
        print("membership_language: skipped, MEDWARD_DATA holds no iu_xray_reports", flush=True)
        return
    started = time.process_time()
    reports = prepare_reports(SEED)
    target = fine_tune_plainly(reports.base, reports.tokenizer, reports.training)
    held = attacker_holdings(reports, target)
    rows = audit_target(reports, target, held)
    n, seconds = len(reports.members) + len(reports.others), time.process_time() - started
    table = {name: summary(row) for name, row in rows.items()}
    order = sorted(rows, key=lambda name: -rows[name].auc.value)
    calibrated = max(rows[name].auc.value for name in ("reference", "wbc"))
    yield Claim(
        claim=CLAIMS[0],
        value=calibrated,
        target="AUC of the better of reference and wbc above that of loss, its lower end above 0.5",
        met=calibrated > rows["loss"].auc.value and max(rows[name].auc.low for name in ("reference", "wbc")) > 0.5,
        n=n,
        seed=SEED,
        details={"scores": table, "order": order, "cpu_seconds": seconds, "epochs": EPOCHS},
    )
    blind, alone = rows["loss"].blind, rows["loss"].without_target
    assert blind is not None
    assert alone is not None
    yield Claim(
        claim=CLAIMS[1],
        value=blind.value,
        target="the interval of the blind AUC covers 0.5: members and others were drawn alike",
        met=blind.low <= 0.5 <= blind.high,
        n=n,
        seed=SEED,
        interval=(blind.low, blind.high),
        details={"reference_alone": str(alone)},
    )
    shadow = held.shadow
    assert shadow is not None
    # The self-prompted reference learned what the target wrote, its members among that: it is no control's reference.
    quick = [name for name in rows if name not in (*SLOW, "spv-swaps")]
    unrelated = audit_target(reports, shadow.model, held, quick)
    furthest = max(unrelated, key=lambda name: abs(unrelated[name].auc.value - 0.5))
    yield Claim(
        claim=CLAIMS[2],
        value=unrelated[furthest].auc.value,
        target="0.45 to 0.55: the AUC furthest from 0.5 of all scores, on a target fine-tuned on other reports",
        met=abs(unrelated[furthest].auc.value - 0.5) <= 0.05,
        n=n,
        seed=SEED,
        interval=(unrelated[furthest].auc.low, unrelated[furthest].auc.high),
        details={"furthest": furthest, "scores": {name: str(row.auc) for name, row in unrelated.items()}},
    )
    yield canary_claim(reports, target, held)
    yield inference_claim(reports, target, shadow.model, held)


def fine_tune_plainly(base: Any, tokenizer: Any, texts: list[str]) -> Any:
    """The `Train` without privacy."""
    return fine_tuned_copy(base, tokenizer, texts, epochs=EPOCHS, seed=SEED + 1, rate=RATE)


def audit_target(
    reports: Reports, target: Any, held: LanguageHoldings, names: Sequence[str] | None = None
) -> dict[str, MembershipEvaluation]:
    """Every score that the attacker can have, or those of `names`, on the candidates; each patient has one text."""
    return audit_language_model(
        target, reports.tokenizer, reports.members, reports.others, holdings=held, names=names, seed=SEED
    )


def prepare_reports(seed: int, *, base_epochs: int = BASE_EPOCHS) -> Reports:
    """Reports of distinct patients and texts; a base model pre-trained on some; a coin flip over others."""
    texts = read_reports()
    order = np.random.default_rng(seed).permutation(len(texts))
    texts = [texts[index] for index in order]
    candidates, rest = texts[:CANDIDATES], texts[CANDIDATES:]
    known, known_members, public = rest[:KNOWN], rest[KNOWN : KNOWN + KNOWN_MEMBERS], rest[KNOWN + KNOWN_MEMBERS :]
    digests = [list(hashlib.sha256(text.encode()).digest()) for text in candidates]
    included = flip_coins(Split(np.array(digests, np.float32)), seed=seed).included
    members = [text for text, inside in zip(candidates, included, strict=True) if inside]
    others = [text for text, inside in zip(candidates, included, strict=True) if not inside]
    training, canaries = plant_texts([*members, *known_members], CANARIES, seed=seed, copies=COPIES)
    tokenizer = train_tokenizer(public)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer),
                n_positions=CONTEXT,
                n_embd=WIDTH,
                n_layer=LAYERS,
                n_head=4,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
    base = fine_tuned_copy(
        fresh, tokenizer, public, epochs=base_epochs, seed=seed, rate=2e-3, batch=32, length=CONTEXT // 2
    )
    return Reports(
        members=members,
        others=others,
        training=list(training),
        canaries=canaries,
        known=known,
        known_members=known_members,
        tokenizer=tokenizer,
        base=base,
    )


def attacker_holdings(reports: Reports, target: Any) -> LanguageHoldings:
    """The base model as reference, known texts, a shadow trained as the target is, and a self-prompted reference."""
    half = len(reports.known) // 2
    inside, outside = reports.known[:half], reports.known[half:]
    shadow = fine_tune_plainly(reports.base, reports.tokenizer, inside)
    prompts = [" ".join(text.split()[:6]) for text in reports.known]
    mirror = train_self_reference(
        target, reports.base, reports.tokenizer, prompts, new_tokens=64, epochs=EPOCHS // 2, seed=SEED
    )
    return LanguageHoldings(
        reference=reports.base,
        self_reference=mirror,
        nonmembers=reports.known,
        members=reports.known_members,
        shadow=ShadowLanguage(model=shadow, members=inside, others=outside),
    )


def canary_claim(reports: Reports, target: Any, held: LanguageHoldings) -> Claim:
    """Canaries that were repeated must be told, or the attacks could not have seen a leak.

    All are of one make, so that a target which knows some gains on every window of the others too: votes of windows,
    which do not see by how much, are told for comparison only.
    """
    names = ["loss", "reference", "wbc"]
    scores = score_texts(target, reports.tokenizer, reports.canaries.texts, holdings=held, names=names, seed=SEED)
    found = {name: auc(values, reports.canaries.included) for name, values in scores.items()}
    least = min(found["loss"], found["reference"])
    return Claim(
        claim=CLAIMS[3],
        value=least,
        target=f">= 0.95: the lesser AUC of loss and reference on made-up notes, each {COPIES} times in training",
        met=least >= 0.95,
        n=len(reports.canaries),
        seed=SEED,
        details=found,
    )


def inference_claim(reports: Reports, target: Any, unrelated: Any, held: LanguageHoldings) -> Claim:
    """The members as a set, beside the others, under the target and under one that saw neither."""
    found = {}
    for name, model in (("target", target), ("unrelated", unrelated)):
        sides = [
            np.column_stack(
                list(score_texts(model, reports.tokenizer, side, holdings=held, names=SETS, seed=SEED).values())
            )
            for side in (reports.members, reports.others)
        ]
        found[name] = infer_dataset(*sides, seed=SEED).p_value
    return Claim(
        claim=CLAIMS[4],
        value=found["target"],
        target="p < 0.001 under the target, and above 0.05 under a model fine-tuned on other reports",
        met=found["target"] < 0.001 and found["unrelated"] > 0.05,
        n=len(reports.members) + len(reports.others),
        seed=SEED,
        details=found,
    )


def summary(row: MembershipEvaluation) -> dict[str, Any]:
    """One line of the table of scores."""
    return {
        "auc": str(row.auc),
        "true_positive_rate_at_1_percent": str(row.true_positive_rates[0.01] or "not resolvable"),
        "precision_at_1_percent_prior": row.precision,
        "gain_over_reference_alone": str(row.gain),
        "flags": list(row.flags),
    }


def read_reports(*, distinct: bool = True) -> list[str]:
    """Findings and impressions, one text a patient, of 12 words at least; `distinct` takes each wording once."""
    archive = Path(os.environ["MEDWARD_DATA"]) / "iu_xray_reports" / "NLMCXR_reports.tgz"
    found: list[str] = []
    with tarfile.open(archive) as files:
        for member in sorted(files.getmembers(), key=lambda each: each.name):
            if member.name.endswith(".xml"):
                content = files.extractfile(member)
                assert content is not None
                parts = {each.get("Label"): each.text for each in ElementTree.parse(content).iter("AbstractText")}
                text = " ".join(filter(None, (parts.get("FINDINGS"), parts.get("IMPRESSION"))))
                if len(text.split()) >= 12:
                    found.append(text)
    return list(dict.fromkeys(found)) if distinct else found


def train_tokenizer(texts: list[str]) -> Any:
    """A byte-level BPE trained on reports that are no candidates."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", model_max_length=CONTEXT)
