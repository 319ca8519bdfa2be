"""Render the documents' tables from ``docs/results/*.json`` and from the code.

``render.py`` writes them, ``render.py --check`` compares.

A table stands between ``<!-- table:NAME -->`` and ``<!-- /table -->``.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.append(str(Path(__file__).parent))  # where what the renderers share is, however this file was loaded
RESULTS = ROOT / "docs" / "results"
DOCUMENTS = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
COMMISSIONING = "render_commissioning"
CERTIFIED, PROVEN = "render_certified", "certified_training_pneumoniamnist"
DISCLOSURE, FEDERATED, PRIVACY = "render_disclosure", "render_federated", "render_privacy"
REFERENCE, STEALING, TEXT = "render_reference", "render_stealing", "render_text"
BLIND_SPOTS, ORDINARY, REPORTS = "render_blind_spots", "render_ordinary", "render_reports"
OWNERSHIP = "render_ownership"
BLOCK = re.compile(r"(<!-- table:(\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def beside(name: str) -> ModuleType:
    """The module of that name in this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rendered(text: str) -> str:
    """`text` with every table block filled from the committed results."""
    return BLOCK.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], text)


def claims() -> str:
    """One row per claim: value, interval, target, n, met."""
    lines = ["| claim | value | 95 % interval | target | n | met |", "|---|---|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*.json")):
        claim = json.loads(path.read_text())
        interval = "" if claim["interval"] is None else " to ".join(number(each) for each in claim["interval"])
        lines.append(
            f"| {claim['claim'].replace('_', ' ')} | {number(claim['value'])} | {interval} | {claim['target']} "
            f"| {claim['n']} | {met(claim)} |"
        )
    return "\n".join(lines) + "\n"


def met(claim: dict[str, Any]) -> str:
    """Whether a claim met its target; a figure that is only reported has none."""
    return "-" if claim["target"].startswith("reported") else "yes" if claim["met"] else "**no**"


def findings(name: str) -> str:
    """The findings of a validation, as the bench kept them in its claim's details."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        sys.exit(f"docs/results/{name}.json is missing: run `make bench` first")
    rows = json.loads(path.read_text())["details"]["findings"]
    lines = [
        "| attack | measured as | undefended | without the attack | guarded | adaptive | status |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [interval(row[key]) for key in ("undefended", "baseline", "guarded", "adaptive")]
        lines.append(f"| {row['attack']} | {row['measure']} | {' | '.join(cells)} | {row['status']} |")
    return "\n".join(lines) + "\n"


def hardening() -> str:
    """Both data sets, all methods: clean, and under the worst universal perturbation; mean over the seeds."""
    lines = [
        "| data | model | balanced accuracy | worst UAP fools | reaches a new class | balanced under it |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("uat_pneumoniamnist", "uat_nih_cxr"):
        seeds = list(json.loads((RESULTS / f"{name}.json").read_text())["details"]["seeds"].values())
        for method in seeds[0]:
            runs = [seed[method] for seed in seeds]
            reached = [max(run["targeted"].values()) for run in runs]
            columns = [[run["clean"] for run in runs], [run["fooled"] for run in runs], reached]
            columns.append([run["balanced_accuracy_under_the_worst"] for run in runs])
            cells = " | ".join(f"{sum(column) / len(column):.2f}" for column in columns)
            lines.append(f"| {name.removeprefix('uat_').replace('_', '-')} | {method} | {cells} |")
    return "\n".join(lines) + "\n"


def transforms() -> str:
    """Each input transformation: clean accuracy, and what a blind and a knowing attacker win through it."""
    details = json.loads((RESULTS / "transforms_bpda.json").read_text())["details"]
    lines = [
        "| in front of it | balanced accuracy | random signs | PGD, blind | PGD, BPDA | UAP, blind | UAP, BPDA |",
        "|---|---|---|---|---|---|---|",
    ]
    for front, row in details["rows"].items():
        cells = [f"{row['clean_balanced_accuracy']['value']:.2f}", interval(row["random_signs"])]
        cells += [interval(row[attack][attacker]) for attack in ("pgd", "uap") for attacker in ("blind", "bpda")]
        lines.append(f"| {front} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tradeoff() -> str:
    """Clean accuracy against fooling, by margin; mean over the seeds."""
    margins = json.loads((RESULTS / "uat_tradeoff_nih_cxr.json").read_text())["details"]["margins"]
    lines = [
        "| margin | balanced accuracy | lost | worst UAP fools | balanced under it |",
        "|---|---|---|---|---|",
    ]
    for margin, mean in margins.items():
        keys = ("clean", "lost", "fooled", "balanced_accuracy_under_the_worst")
        lines.append(f"| {margin} | {' | '.join(f'{mean[key]:.3f}' for key in keys)} |")
    return "\n".join(lines) + "\n"


def session() -> str:
    """What `medward demo` printed when it was measured, without the intervals, the reasons and the remedies."""
    printed = json.loads((RESULTS / "demo_seconds.json").read_text())["details"]["printed"].splitlines()
    told = ("model:", "clinic:", "thief:", "hardened by", "accepted until", "report:", *(f"{n}. " for n in range(1, 6)))
    verdicts = tuple(f"{status}: " for status in ("BROKEN", "HELD", "INCONCLUSIVE", "TOO FEW ROWS", "ACCEPTED"))
    row = re.compile(r" (attack|[a-z]+(-[a-z]+)*) .*(status|[A-Z]{4,})\s*$")
    return "\n".join(
        [
            "```console",
            "$ medward demo",
            *(line.rstrip() for line in printed if line.startswith(told + verdicts) or row.match(line)),
            "```\n",
        ]
    )


def front() -> str:
    """What each defense is for, what it guarantees, and where it stands, with figures from the results."""
    pure, tenth = (_value(f"stealing_detection_{share}") for share in ("pure", "10"))
    hardened = list(_details("uat_pneumoniamnist")["seeds"].values())
    fooled = {name: sum(seed[name]["fooled"] for seed in hardened) / len(hardened) for name in ("undefended", "uat")}
    clean = {name: sum(seed[name]["clean"] for seed in hardened) / len(hardened) for name in ("undefended", "uat")}
    accuracy = {name: sum(seeds) / len(seeds) for name, seeds in _details(PROVEN)["clean_balanced_accuracy"].items()}
    rows = [
        (
            "a thief copies the model with foreign images",
            "monitors of every account",
            "P(a benign account is ever alarmed) <= alpha + delta",
            f"flagged after {pure:.0f} queries; hidden among nine times as many patients' images, after {tenth:.0f}",
        ),
        (
            "a thief copies it with patients' images",
            "a budget of bits per account",
            "no more bits leave than the budget",
            "not stopped: a budget that hurts such a thief hurts clinics first",
        ),
        (
            "one perturbation for all images",
            "`harden --method uat`",
            "none, empirical",
            f"fools {fooled['undefended']:.0%} before, {fooled['uat']:.0%} after; balanced accuracy "
            f"{clean['undefended']:.2f} before, {clean['uat']:.2f} after",
        ),
        (
            "a change of each image, by who holds the model",
            "`harden --method certified`, `[certify]`",
            "no certified answer is changed, within a radius",
            f"{_value(PROVEN):.0%} certified within 4/255, the others marked; balanced accuracy "
            f"{accuracy['undefended']:.2f} before, {accuracy['certified']:.2f} after",
        ),
        (
            "an answer that says another diagnosis",
            "release rules per task",
            "every level decides as the model does",
            f"{_value('argmax_preserved'):.0f} changed in {_claim('argmax_preserved')['n']:,} sets of scores",
        ),
        (
            "a log or bundle that was edited",
            "hash chain, digests",
            "every edit is found against a kept head",
            f"{_claim('tamper')['n']} edits tried, {_value('tamper'):.0f} missed",
        ),
        (
            "who was in the training set",
            "`harden --method dp`",
            "(epsilon, delta) per patient or row; ceilings on every attack",
            beside(PRIVACY).front_row(),
        ),
        (
            "a broken or malicious hospital in a federation",
            "`[federated]`: norm-clipped mean; RobustFedDetect with a probe",
            "it moves the model no further than its share of an honest round",
            f"0.6 % of the rows sent ×1000 move the model {_value('federated_large_site'):.3f} of an honest round, "
            f"{_details('federated_large_site')['largest_move_in_honest_rounds']['weighted-mean']:.1f} under the "
            "weighted mean",
        ),
        (
            "identifiers in reports and images",
            "`[privacy]`: filters of text, in served reports too; `medward deidentify`",
            "what leaves is visibly marked, the rest is unchanged",
            f"{_value('text_asq_phi'):.1%} of identifiers found in clinical queries that were set aside, "
            f"{_details('text_asq_phi')['share_of_clean_texts_touched']:.1%} of texts without any touched",
        ),
    ]
    head = [
        "| threat | defense | guarantee | state in this release (PneumoniaMNIST, a small CNN) |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _claim(name: str) -> dict[str, Any]:
    claim: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return claim


def _details(name: str) -> dict[str, Any]:
    details: dict[str, Any] = _claim(name)["details"]
    return details


def _value(name: str) -> float:
    return float(_claim(name)["value"])


def models() -> str:
    """Each kind of model through every command; a cell that refuses shows its sentence."""
    rows = _details("models_and_data")["models"]
    commands = list(next(iter(rows.values())))
    lines = [f"| model | {' | '.join(commands)} |", "|---|" + "---|" * len(commands)]
    lines += [f"| {name} | {' | '.join(_cell(row[each]) for each in commands)} |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def data_forms() -> str:
    """Each form of data and what reads it."""
    rows = _details("models_and_data")["data"]
    lines = ["| data | read | reader |", "|---|---|---|"]
    lines += [f"| {name} | {_cell(row['read'])} | `{row['reader']}` |" for name, row in rows.items()]
    return "\n".join(lines) + "\n"


def _cell(said: str) -> str:
    return said.replace("|", "\\|").replace("<", "&lt;")


def interval(value: dict[str, Any] | None) -> str:
    """A point with its interval."""
    if value is None:
        return ""
    return f"{value['value']:.2f} ({value['low']:.2f} to {value['high']:.2f})"


def number(value: float | str) -> str:
    """Four significant digits, text as it is."""
    return value if isinstance(value, str) else f"{value:.4g}"


TABLES = {
    "front": front,
    "federated_attacks": lambda: beside(FEDERATED).attacks(),
    "federated_attack": lambda: beside(FEDERATED).attack(),
    "federated_published": lambda: beside(FEDERATED).published(),
    "federated_suppression": lambda: beside(FEDERATED).suppression(),
    "federated_further": lambda: beside(FEDERATED).further(),
    "federated_honest": lambda: beside(FEDERATED).honest(),
    "federated_backdoors": lambda: beside(FEDERATED).backdoors(),
    "federated_rules": lambda: beside(FEDERATED).rules(),
    "licences": lambda: beside(REFERENCE).licences(),
    "models": models,
    "data_forms": data_forms,
    "policy": lambda: beside(REFERENCE).policy(),
    "report_prices": lambda: beside(REFERENCE).report_prices(),
    "report_budgets": lambda: beside(REFERENCE).report_budgets(),
    "commands": lambda: beside(REFERENCE).commands(),
    "memory": lambda: beside(DISCLOSURE).memory(),
    "memory_in_turns": lambda: beside(DISCLOSURE).memory_in_turns(),
    "disclosure": lambda: beside(DISCLOSURE).disclosure(),
    "linkage": lambda: beside(DISCLOSURE).linkage(),
    "burned_in": lambda: beside(DISCLOSURE).burned_in(),
    "mm_privacy_disclosure": lambda: beside(DISCLOSURE).mm_privacy("disclosure"),
    "mm_privacy_disclosure_benign": lambda: beside(DISCLOSURE).mm_privacy_benign("disclosure"),
    "mm_privacy_retention_benign": lambda: beside(DISCLOSURE).mm_privacy_benign("retention"),
    "mm_privacy_retention": lambda: beside(DISCLOSURE).mm_privacy("retention"),
    "mm_privacy_kinds": lambda: beside(DISCLOSURE).mm_privacy_kinds(),
    "mm_privacy_validation": lambda: beside(DISCLOSURE).mm_privacy_validation(),
    "writers": lambda: beside(DISCLOSURE).writers(),
    "private": lambda: beside(PRIVACY).private_training(),
    "private_language": lambda: beside(PRIVACY).private_language(),
    "report_membership": lambda: beside(PRIVACY).report_membership(),
    "report_membership_chosen": lambda: beside(PRIVACY).report_membership_chosen(),
    "report_membership_private": lambda: beside(PRIVACY).report_membership_private(),
    "peers": lambda: beside(PRIVACY).peers(),
    "language": lambda: beside(PRIVACY).language(),
    "changed": lambda: beside(PRIVACY).changed(),
    "text_english": lambda: beside(TEXT).english(),
    "text_otherwise": lambda: beside(TEXT).otherwise(),
    "report_victims": lambda: beside(REPORTS).victims(),
    "report_labels": lambda: beside(REPORTS).labels(),
    "report_samples": lambda: beside(REPORTS).samples(),
    "report_reader": lambda: beside(REPORTS).reader(),
    "report_theft": lambda: beside(REPORTS).theft(),
    "report_theft_elsewhere": lambda: beside(REPORTS).theft_elsewhere(),
    "report_theft_transfer": lambda: beside(REPORTS).theft_transfer(),
    "report_theft_lessons": lambda: beside(REPORTS).theft_lessons(),
    "report_theft_flags": lambda: beside(REPORTS).theft_flags(),
    "report_theft_reference": lambda: beside(REPORTS).theft_reference(),
    "report_theft_guarded": lambda: beside(REPORTS).theft_guarded(),
    "report_evasion": lambda: beside(REPORTS).evasion(),
    "report_evasion_guarded": lambda: beside(REPORTS).evasion_guarded(),
    "commissioning_ordinary": lambda: beside(COMMISSIONING).ordinary(),
    "commissioning_shares": lambda: beside(COMMISSIONING).shares(),
    "commissioning_images": lambda: beside(COMMISSIONING).images(),
    "commissioning_tables": lambda: beside(COMMISSIONING).tables(),
    "blind_spot_streams": lambda: beside(BLIND_SPOTS).streams(),
    "near_repeat_thieves": lambda: beside(BLIND_SPOTS).thieves(),
    "one_patient": lambda: beside(BLIND_SPOTS).one_patient(),
    "ordinary_accounts": lambda: beside(ORDINARY).accounts(),
    "ordinary_thieves": lambda: beside(ORDINARY).thieves(),
    "ordinary_remedies": lambda: beside(ORDINARY).remedies(),
    "session": session,
    "claims": claims,
    "hardening": hardening,
    "certified_tables": lambda: beside(CERTIFIED).certified_tables(),
    "certified_training": lambda: beside(CERTIFIED).certified_training(),
    "hardening_methods": lambda: beside(CERTIFIED).hardening_methods(),
    "tradeoff": tradeoff,
    "fingerprints": lambda: beside(OWNERSHIP).fingerprints(),
    "detection": lambda: beside(STEALING).detection("1", "100"),
    "stolen": lambda: beside(STEALING).stolen(),
    "baselines": lambda: beside(STEALING).baselines(),
    "answers_needed": lambda: beside(STEALING).answers_needed(),
    "budget": lambda: beside(STEALING).budget(),
    "theft_of_tables": lambda: beside(STEALING).theft_of_tables(),
    "theft_by_patients": lambda: beside(STEALING).theft_by_patients(),
    "rows_said": lambda: beside(STEALING).rows_said(),
    "roots_clinics": lambda: beside(STEALING).roots_clinics(),
    "roots_thieves": lambda: beside(STEALING).roots_thieves(),
    "clinic": lambda: beside(STEALING).clinic(),
    "transforms": transforms,
    "findings": lambda: findings("pneumonia_validate_seconds"),
    "demo": lambda: findings("demo_seconds"),
}


def main(arguments: list[str]) -> int:
    """Exit 1 under ``--check`` when a document is stale."""
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text()
        if (fresh := rendered(text)) != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(fresh)
    if "--check" in arguments and stale:
        print(f"{', '.join(stale)}: stale, run `make readme`", file=sys.stderr)
    return int("--check" in arguments and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
