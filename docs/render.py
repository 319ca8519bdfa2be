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
RESULTS = ROOT / "docs" / "results"
DOCUMENTS = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
CERTIFIED = "render_certified"
DISCLOSURE, FEDERATED, PRIVACY = "render_disclosure", "render_federated", "render_privacy"
REFERENCE, TEXT = "render_reference", "render_text"
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


def detection(*counts: str) -> str:
    """Queries until each thief is flagged, by the share of its queries that is theft, for these numbers of accounts."""
    details = json.loads((RESULTS / "stealing_detection_table.json").read_text())["details"]
    shares = list(next(iter(details["thieves"].values())))
    lines = [
        "| thief | accounts | " + " | ".join(f"{float(share):.0%} theft" for share in shares) + " |",
        "|---|---|" + "---|" * len(shares),
    ]
    for thief, cells in details["thieves"].items():
        for accounts in counts:
            found = [cells[share].get(accounts) for share in shares]
            texts = ["" if each is None else f"{_count(each['median'])} ({_count(each['p90'])})" for each in found]
            lines.append(f"| {thief} | {accounts} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def _count(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}"


def stolen() -> str:
    """What a clone gained over a thief without a victim: bare, in full; what was left at the flag; in the end."""
    lines = [
        "| thief | gain from the bare model | flagged at query | left, guarded | left, monitors alone "
        "| 100 accounts in the end, guarded | the same, monitors alone | the same, parents withhold |",
        "|---|---|---|---|---|---|---|---|",
    ]
    paths = sorted(RESULTS.glob("stealing_gain_at_flag_*.json"))
    if not paths:
        sys.exit("docs/results/stealing_gain_at_flag_*.json are missing: run `make bench` first")
    for path in paths:
        details = json.loads(path.read_text())["details"]
        flagged = {"never" if each is None else str(each) for each in details["queries_to_flag"]["monitors alone"]}
        left = [details["share_at_flag"][arm]["mean"] for arm in ("guarded", "monitors alone")]
        many = ("guarded, accounts", "monitors alone, accounts", "monitors alone, accounts, parents act")
        left += [details["share_at_full_budget"][arm]["mean"] for arm in many]
        cells = ["no theft" if each is None else "nothing" if each <= 0 else f"{each:.0%}" for each in left]
        name = path.stem.removeprefix("stealing_gain_at_flag_").replace("_", " ")
        gain = f"{details['undefended_gain'][0]:+.3f}"
        lines.append(f"| {name} | {gain} | {', '.join(sorted(flagged))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def budget() -> str:
    """What a leakage budget in all leaves of each thief's gain, by how many labels it is worth."""
    details = json.loads((RESULTS / "stealing_budget_effect.json").read_text())["details"]
    limits = list(dict.fromkeys(row["labels"] for row in details["users"]))
    lines = [
        "| thief | bare model | no victim | answers | " + " | ".join(f"left at {limit}" for limit in limits) + " |",
        "|---|---|---|---|" + "---|" * len(limits),
    ]
    for thief, arms in details["thieves"].items():
        ends = [sum(arms["undefended"][each]) / len(arms["undefended"][each]) for each in ("agreement", "no_victim")]
        for release in dict.fromkeys(row["release"] for row in details["users"]):
            left = [arms[f"{release}, {limit} in all"]["mean"] for limit in limits]
            cells = ["no theft" if each is None else f"{each:.0%}" for each in left]
            lines.append(f"| {thief} | {ends[0]:.3f} | {ends[1]:.3f} | {release} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def clinic() -> str:
    """How many legitimate users a leakage budget ever refuses within a year, by what they ask a day."""
    users = json.loads((RESULTS / "stealing_budget_effect.json").read_text())["details"]["users"]
    means = list(users[0]["users"])
    lines = [
        "| limit, in labels | answers | fine ones | all | " + " | ".join(f"{mean} a day" for mean in means) + " |",
        "|---|---|---|---|" + "---|" * len(means),
    ]
    for row in users:
        cells = " | ".join(f"{row['users'][mean]['refused']:.1%}" for mean in means)
        limit = f"{row['labels']} {'a day' if row['per'] == 'day' else 'in all'}"
        lines.append(f"| {limit} | {row['release']} | {row['fine']} | {row['answers']} | {cells} |")
    return "\n".join(lines) + "\n"


def baselines() -> str:
    """Detectors that were published before: benign accounts that ever alarm, and queries until thieves are flagged."""
    detectors = json.loads((RESULTS / "stealing_baselines.json").read_text())["details"]["detectors"]
    shown = [(thief, share) for thief in ("knockoff", "activethief", "dfme", "jbda") for share in ("1", "0.1")]
    lines = [
        "| detector | benign ever alarmed | "
        + " | ".join(f"{thief} {float(share):.0%}" for thief, share in shown)
        + " |",
        "|---|---|" + "---|" * len(shown),
    ]
    for name, row in detectors.items():
        of = "" if row.get("n") is None else f" of {row['n']}"
        cells = [_count(row["thieves"][thief][share]["median"]) if "thieves" in row else "" for thief, share in shown]
        lines.append(f"| {name} | {row['benign_ever_alarmed']:.1%}{of} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def session() -> str:
    """What `medward demo` printed when it was measured, without the intervals and reasons."""
    printed = json.loads((RESULTS / "demo_seconds.json").read_text())["details"]["printed"].splitlines()
    table = [line.rstrip() for line in printed if "%" in line or "undefended" in line or "INCONCLUSIVE" in line]
    rows = [line for line in table if line.startswith(" ") and not re.match(r"\s+[\d.]+[–-]", line)]
    ends = [line for line in printed if line.startswith(("model:", "BROKEN:", "HELD:", "INCONCLUSIVE:", "report:"))]
    return "\n".join(["```console", "$ medward demo", *ends[:1], *rows, *ends[1:], "```"]) + "\n"


def front() -> str:
    """What each defense is for, what it guarantees, and where it stands, with figures from the results."""
    thieves = _details("stealing_detection_table")["thieves"]["knockoff"]
    pure, tenth = (thieves[share]["1"]["median"] for share in ("1", "0.1"))
    hardened = list(_details("uat_pneumoniamnist")["seeds"].values())
    fooled = {name: sum(seed[name]["fooled"] for seed in hardened) / len(hardened) for name in ("undefended", "uat")}
    clean = {name: sum(seed[name]["clean"] for seed in hardened) / len(hardened) for name in ("undefended", "uat")}
    found = {row["attack"]: row for row in _details("pneumonia_validate_seconds")["findings"]}
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
            "screens, `harden --method trades`",
            "none",
            f"not stopped, unless hardened: {found['pgd']['adaptive']['value']:.0%} of images fooled through the guard",
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
            "`[privacy]`: filters of text (no reports are served yet); `medward deidentify`",
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
    "commands": lambda: beside(REFERENCE).commands(),
    "memory": lambda: beside(DISCLOSURE).memory(),
    "memory_in_turns": lambda: beside(DISCLOSURE).memory_in_turns(),
    "disclosure": lambda: beside(DISCLOSURE).disclosure(),
    "linkage": lambda: beside(DISCLOSURE).linkage(),
    "burned_in": lambda: beside(DISCLOSURE).burned_in(),
    "writers": lambda: beside(DISCLOSURE).writers(),
    "private": lambda: beside(PRIVACY).private_training(),
    "private_language": lambda: beside(PRIVACY).private_language(),
    "peers": lambda: beside(PRIVACY).peers(),
    "language": lambda: beside(PRIVACY).language(),
    "changed": lambda: beside(PRIVACY).changed(),
    "text_english": lambda: beside(TEXT).english(),
    "text_otherwise": lambda: beside(TEXT).otherwise(),
    "session": session,
    "claims": claims,
    "hardening": hardening,
    "certified_training": lambda: beside(CERTIFIED).certified_training(),
    "tradeoff": tradeoff,
    "detection": lambda: detection("1", "100"),
    "stolen": stolen,
    "baselines": baselines,
    "budget": budget,
    "clinic": clinic,
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
