"""The report's plots: matplotlib figures as inline SVG whose colours follow the page's light or dark theme.

Figures are drawn in sentinel colours, each replaced by a CSS variable afterwards. Every series differs in
marker and dash as well as in colour.
"""

from __future__ import annotations

import base64
import io
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib import image as pictures
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from medward.attacks.base import ACCURACY, LABEL_F1, PER_CLASS, TABULATED
from medward.attacks.families import find_family
from medward.attacks.intervals import Interval
from medward.attacks.validation.family import CurvePlot
from medward.attacks.validation.finding import ARMS, Arm, Finding, Utility
from medward.attacks.validation.record import Report

INK, MUTED, GRID, BASELINE, BOUND = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05"
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    BASELINE: "var(--baseline)",
    BOUND: "var(--bound)",
    "#0a0b11": "var(--undefended)",
    "#0a0b12": "var(--guarded)",
    "#0a0b13": "var(--adaptive)",
}
_STYLES: dict[str, dict[str, Any]] = {
    "undefended": {"color": "#0a0b11", "marker": "o", "linestyle": "-"},
    "guarded": {"color": "#0a0b12", "marker": "s", "linestyle": "--"},
    "adaptive": {"color": "#0a0b13", "marker": "^", "linestyle": "-."},
    "baseline": {"color": BASELINE, "marker": "x", "linestyle": ":"},
}
RC = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # class names are not formulas, nor are ticks then
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 5,
    "hatch.linewidth": 0.6,
}
E_VALUE_SHOWN = 12.0
"""Decades above and below one between which e-values are drawn."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture for the page: inline SVG or a row of PNGs as data addresses, each with its label."""

    title: str
    caption: str
    svg: str = ""
    pictures: tuple[tuple[str, str], ...] = ()


def report_plots(report: Report) -> list[Plot]:
    """Every plot the findings support, in the order a reader wants them."""
    with matplotlib.rc_context(RC):
        drawn = [glance_plot(report.findings)]
        drawn += [
            curve_plot(f, find_family(f.family).show(f, report.provenance)) for f in report.findings if _drawable(f)
        ]
        drawn += [
            perturbation_plot(f)
            for f in report.findings
            if "perturbation" in f.images and len(report.provenance.shape) == 3
        ]
        drawn += [accounts_plot(report)] if report.accounts else []
        drawn += [utility_plot(part) for part in (report.clean.site, report.clean.drift) if part and part.accuracy]
    return [plot for plot in drawn if plot is not None]


def glance_plot(findings: Sequence[Finding]) -> Plot | None:
    """Every attack's three arms and baseline with their intervals, one line per attack."""
    shown = [finding for finding in findings if finding.undefended is not None]
    if not shown:
        return None
    figure, axes = _axes(height=0.9 + 0.62 * len(shown), width=9.2)
    for row, finding in enumerate(shown):
        for step, name in enumerate((*ARMS, "baseline")):
            interval: Interval | None = getattr(finding, name)
            if interval is None:
                continue
            style = _STYLES[name]
            axes.errorbar(
                interval.value,
                row + 0.17 * (step - 1.5),
                xerr=[[interval.value - interval.low], [interval.high - interval.value]],
                fmt=style["marker"],
                color=style["color"],
                capsize=3,
                label=name if row == 0 else None,
            )
        if finding.measure == finding.judged_as:
            axes.plot([finding.bound] * 2, [row - 0.38, row + 0.38], color=BOUND, linestyle=(0, (1, 1)))
    axes.set_yticks(range(len(shown)), [finding.attack for finding in shown])
    measures = dict.fromkeys(finding.measure for finding in shown)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.4, -0.6), xlabel=", or ".join(measures))
    axes.grid(axis="y", visible=False)
    _legend(figure, axes, columns=5)
    caption = "Each attack with its 95% interval. Dotted upright: the gate's bound, where it is on the same scale."
    return Plot("At a glance", caption, _svg(figure, "At a glance"))


def curve_plot(finding: Finding, plot: CurvePlot) -> Plot:
    """The finding's curves as its family wants them read."""
    figure, axes = _axes()
    _draw(axes, finding, scale=plot.scale, floor=plot.least)
    if plot.guessing:
        line = np.geomspace(plot.least, 1, 50) if plot.least else np.linspace(0, 1, 50)
        axes.plot(line, line, color=BASELINE, linestyle=":", label="guessing")
    if plot.bound is not None:
        axes.axhline(plot.bound, color=BOUND, linestyle=(0, (1, 1)), label="bound")
    if plot.largest is not None:
        axes.axvline(plot.largest * plot.scale, color=MUTED, linewidth=0.8, label="largest allowed")
    axes.set(ylim=(-0.02, 1.02), xlabel=plot.x, ylabel=plot.y)
    if plot.least:
        limits = (plot.least, 1.05)
        axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
        _plain_ticks(axes.yaxis)
    elif plot.log_x:
        axes.set(xscale="log")
        axes.set_xticks(sorted({x for curves in finding.curves.values() for xs, _ in curves.values() for x in xs})[-8:])
    if plot.least or plot.log_x:
        _plain_ticks(axes.xaxis)
    _legend(figure, axes)
    return Plot(plot.title, plot.caption, _svg(figure, plot.title))


def perturbation_plot(finding: Finding) -> Plot:
    """The perturbation as an image, and an example with and without it."""
    shown = []
    labels = {
        "perturbation": "the perturbation, amplified",
        "clean": "an image",
        "perturbed": "the image, perturbed",
    }
    for name, label in labels.items():
        if name in finding.images:
            shown.append((label, _png(np.asarray(finding.images[name]), signed=name == "perturbation")))
    caption = "Red adds, blue takes away; the colours span the largest change. One perturbation serves all images."
    return Plot(f"{finding.attack}: the perturbation", caption, pictures=tuple(shown))


def accounts_plot(report: Report) -> Plot:
    """The monitor's evidence against benign accounts and a thief, and where it alarms."""
    figure, axes = _axes()
    styles = {"thief": "undefended", "holdout": "guarded", "test": "adaptive"}
    names = {"holdout": "benign account, same site", "test": "benign account, test split", "thief": "thief"}
    for name, (queries, log_e) in report.accounts.items():
        style = {**_STYLES[styles.get(name, "baseline")], "marker": ""}
        decades = np.clip(np.asarray(log_e) / math.log(10), -E_VALUE_SHOWN, E_VALUE_SHOWN)
        axes.plot(queries, decades, label=names.get(name, name), **style)
    for action, rate in report.alarms.items():
        axes.axhline(-math.log10(rate), color=BOUND, linestyle=(0, (1, 1)))
        axes.annotate(f"alarm: {action}", (1, -math.log10(rate)), va="bottom", fontsize=8.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"1e{value:+.0f}" if value else "1"))
    axes.set(xscale="log", xlabel="queries", ylabel="e-value (evidence of misuse)")
    _plain_ticks(axes.xaxis)
    _legend(figure, axes)
    caption = (
        "Evidence grows by betting against the account; a benign one crosses an alarm line no oftener than "
        f"the line's false-alarm rate. Drawn between 1e-{E_VALUE_SHOWN:.0f} and 1e+{E_VALUE_SHOWN:.0f}."
    )
    return Plot("Evidence against an account over its queries", caption, _svg(figure, "Evidence over queries"))


def utility_plot(part: Utility) -> Plot:
    """Accuracy and per-class sensitivity and specificity with and without the guard."""
    pairs = {"accuracy": part.accuracy}
    pairs |= {f"sensitivity\n{_short(name)}": pair for name, pair in list(part.sensitivity.items())[:6]}
    pairs |= {f"specificity\n{_short(name)}": pair for name, pair in list(part.specificity.items())[:6]}
    figure, axes = _axes(width=max(5.6, 1.1 * len(pairs)))
    for offset, arm, hatch in ((-0.2, "undefended", ""), (0.2, "guarded", "////")):
        values = [getattr(pair, arm) for pair in pairs.values()]
        axes.bar(
            np.arange(len(values)) + offset,
            [each.value for each in values],
            width=0.36,
            yerr=[[each.value - each.low for each in values], [each.high - each.value for each in values]],
            facecolor="none" if hatch else _STYLES[arm]["color"],
            edgecolor=_STYLES[arm]["color"],
            hatch=hatch,
            ecolor=INK,
            capsize=3,
            label=arm,
        )
    axes.set_xticks(range(len(pairs)), list(pairs), fontsize=8.5)
    axes.set(ylim=(0, 1.05))
    axes.grid(axis="x", visible=False)
    _legend(figure, axes)
    title = f"Clean cost on {part.split}"
    return Plot(
        title,
        f"What benign users get, {part.n} rows. A refused answer counts as missed.",
        _svg(figure, title),
    )


def _drawable(finding: Finding) -> bool:
    return any(finding.curves.get(arm) for arm in ARMS)


def _draw(axes: Any, finding: Finding, *, scale: float = 1.0, floor: float = 0.0) -> None:
    """One line per arm, and from the first arm its baseline."""
    for arm in ARMS:
        for name, (xs, ys) in finding.curves.get(arm, {}).items():
            own = not _is_baseline(name)
            if PER_CLASS in name or LABEL_F1 in name or name.endswith((ACCURACY, TABULATED)):
                continue
            if not own and arm != "undefended":
                continue
            style = dict(_STYLES[arm if own else "baseline"])
            if len(xs) > 20:
                style["marker"] = ""
            axes.plot(
                np.maximum(np.asarray(xs) * scale, floor),
                np.maximum(ys, floor),
                label=_label(finding, arm) if own else name,
                **style,
            )


def _is_baseline(name: str) -> bool:
    return any(word in name for word in ("noise", "no victim", "random", "baseline"))


def _label(finding: Finding, arm: Arm) -> str:
    return f"adaptive ({finding.adaptive_name})" if arm == "adaptive" and finding.adaptive_name else arm


def _short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"


def _axes(*, width: float = 5.6, height: float = 3.8) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    return figure, axes


def _legend(figure: Figure, axes: Any, *, columns: int = 3) -> None:
    """Names below the plot, where they hide nothing."""
    lines, names = axes.get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=columns, fontsize=8.5)


def _plain_ticks(axis: Any) -> None:
    """Numbers as they are said on a logarithmic axis: 0.01, 1, 1000."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _svg(figure: Figure, title: str) -> str:
    """The figure as an SVG element for a page: no prolog, no metadata, theme colours, ids of its own."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(stream, format="svg", transparent=True)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    prefix = f"p{zlib.crc32(title.encode()):x}-"  # keeps the ids of several figures on one page apart
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", svg)
    for sentinel, variable in VARIABLES.items():
        svg = svg.replace(sentinel, variable)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)


def _png(image: np.ndarray[Any, np.dtype[Any]], *, signed: bool) -> str:
    """``(C, H, W)`` as a PNG data address; one channel in grey, a signed one in red and blue around white."""
    stream, nameless = io.BytesIO(), {"Software": "medward"}
    flat = image.mean(axis=0)
    if signed:
        reach = max(float(np.abs(flat).max()), 1e-12)
        pictures.imsave(stream, flat, cmap="RdBu_r", vmin=-reach, vmax=reach, format="png", metadata=nameless)
    elif len(image) == 3:
        span = max(float(np.ptp(image)), 1e-12)
        pictures.imsave(stream, np.moveaxis((image - image.min()) / span, 0, -1), format="png", metadata=nameless)
    else:
        pictures.imsave(stream, flat, cmap="gray", format="png", metadata=nameless)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
