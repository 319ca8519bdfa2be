"""The tables of thieves and what stops them, from the claims of ``tests/benchmarks/stealing_*.py``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


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


def answers_needed() -> str:
    """How many answers about ordinary cases a copy needs, and how many labels of one's own buy the same."""
    sets = json.loads((RESULTS / "stealing_answers_needed.json").read_text())["details"]["sets"]
    lines = [
        "| data | learns from | gain of all answers | surely too few answers | surely enough "
        "| own labels that buy the same |",
        "|---|---|---|---|---|---|",
    ]
    for name, thieves in sets.items():
        for labels, runs in thieves.items():
            gain = sum(run["gain"] for run in runs) / len(runs)
            spans = [_span([run[key] for run in runs]) for key in ("within", "reached", "own_labels")]
            taught = {"soft": "scores", "hard": "labels"}[labels]
            lines.append(f"| {name} | {taught} | {gain:+.2f} | {' | '.join(spans)} |")
    return "\n".join(lines) + "\n"


def _span(counts: list[int | None]) -> str:
    """The least and the most of what seeds gave; one that never was seen comes last."""
    ends = sorted({float("inf") if each is None else each for each in counts})
    return " to ".join(
        "not seen" if end == float("inf") else f"{end:.0f}" for end in dict.fromkeys((ends[0], ends[-1]))
    )


def roots_thieves() -> str:
    """How many stolen rows an organisation of thieves has answered under each action of its own alarm."""
    thieves = json.loads((RESULTS / "stealing_roots.json").read_text())["details"]["thieves"]
    lines = [
        "| theft | screen | accounts | `flag`: scores, in all | `coarsen` | `withhold` |",
        "|---|---|---|---|---|---|",
    ]
    for share, found in thieves.items():
        for screen, name in (("withholds", "answered"), ("only flags", "answered, monitors alone")):
            for accounts, actions in found[name].items():
                cells = [f"{each['fine']:,.0f}, {each['answered']:,.0f}" for each in actions.values()]
                lines.append(f"| {float(share):.0%} | {screen} | {int(accounts):,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def roots_clinics() -> str:
    """What one stolen key costs the innocent accounts of its organisation, were its alarm to withhold."""
    clinics = json.loads((RESULTS / "stealing_roots.json").read_text())["details"]["clinics"]
    lines = [
        "| the key's theft | accounts | alarm after queries, of draws never | "
        "coarsened, withheld: 1 day | 3 days | 7 days | if it stops when withheld: 7 days |",
        "|---|---|---|---|---|---|---|",
    ]
    for share, sizes in clinics.items():
        for accounts, ends in sizes.items():
            reached = ends["goes on"]["reached"]["withheld"]
            when = "never" if reached["median"] is None else f"{reached['median']:.0f}"
            costs = [*ends["goes on"]["innocent queries"].values(), ends["stops"]["innocent queries"]["7"]]
            cells = [f"{each['coarsened']:.0%}, {each['withheld']:.0%}" for each in costs]
            told = f"{when}, {reached['never']} of {reached['n']}"
            lines.append(f"| {float(share):.0%} | {accounts} | {told} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def theft_of_tables() -> str:
    """Queries until thieves of each table are flagged, alone and as a tenth, and the limit for a tenth."""
    details = json.loads((RESULTS / "stealing_tables.json").read_text())["details"]
    lines = [
        "| table | columns | reference rows | seen while tuning | the thief's rows | alone (of ten the ninth) "
        "| as a tenth (of ten the ninth) | limit for a tenth |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in details["tables"].items():
        kinds = dict.fromkeys(each.split(",")[0] for each in found["thieves"])
        for kind in kinds:
            alone, tenth = found["thieves"][f"{kind}, 1"], found["thieves"][f"{kind}, 0.1"]
            said = [found["columns"], found["reference"], "yes" if found["opened while tuning"] else "no", kind]
            lines.append(f"| {name} | {' | '.join(map(str, said))} | {_beside_limit(alone, tenth, tenth['limit'])} |")
    return "\n".join(lines) + f"\n\n{_drawn(details)}\n"


def theft_by_patients() -> str:
    """Queries until the pool thief of an image model is flagged, by reference rows, and the limit for a tenth."""
    details = json.loads((RESULTS / "stealing_patients_diluted.json").read_text())["details"]
    lines = [
        "| data, one reference row of each of the | reference rows | alone (of ten the ninth) "
        "| as a tenth (of ten the ninth) | limit for a tenth | the same within strata | benign accounts alarmed |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in details["subjects"].items():
        cells = _beside_limit(found["pure"], found["tenth"], found["limit"])
        strata, (alarmed, of) = found["limit within strata"], found["benign"]
        cells += " | none" if strata is None else f" | {strata:.0f}"
        lines.append(f"| {name} | {found['reference']} | {cells} | {alarmed} of {of} |")
    return "\n".join(lines) + f"\n\n{_drawn(details)}\n"


def _beside_limit(alone: dict[str, Any], tenth: dict[str, Any], limit: float | None) -> str:
    """Median and ninth of ten, alone and as a tenth, then the limit."""
    counts = [f"{_count(each['median'])} ({_count(each['p90'])})" for each in (alone, tenth)]
    return " | ".join([*counts, "none" if limit is None else f"{limit:.0f}"])


def _drawn(details: dict[str, Any]) -> str:
    draws, accounts = details["draws"], details["accounts"]
    return (
        f"{draws} calibration draws of {accounts} accounts each; never is not within {details['patience']:,} queries."
    )


def rows_said() -> str:
    """How many rows the power statement asks for, and after how many queries a diluted thief then shows."""
    details = json.loads((RESULTS / "stealing_tables_rows_said.json").read_text())["details"]
    lines = [
        "| table | rows asked for, by draw and thief | of these there were so many | median queries then |",
        "|---|---|---|---|",
    ]
    for name, found in details["tables"].items():
        asked = ", ".join("no number" if each is None else f"{each:,}" for each in found["asked for"])
        then = _count(found["median"]) if "median" in found else ""
        lines.append(f"| {name} | {asked or 'none'} | {found['of them there were so many']} | {then} |")
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
