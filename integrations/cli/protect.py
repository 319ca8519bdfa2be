"""``medward protect``, ``calibrate`` and ``seal``: making a bundle, a site's own calibration, sealing it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medward.guard.errors import MedwardError
from medward.integrations.cli.lines import printed_log
from medward.integrations.cli.options import (
    AllowCode,
    Bits,
    BundlePath,
    Expect,
    Pixels,
    comma_parts,
    console,
    see_working_directory,
)

SplitName = Annotated[str | None, typer.Option(help="which split of the npz; default: calibration, val or data")]


def protect_command(
    model: Annotated[str, typer.Argument(help="model.onnx, or package.module:attribute of a model or function")],
    data: Annotated[Path, typer.Option(help="npz of benign inputs the model was not trained on")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the bundle")],
    on_error: Annotated[
        Literal["withhold", "flag"] | None,
        typer.Option(help="when a defense fails (no default; or use --policy)"),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="policy.toml; default: our defaults with --on-error")] = None,
    split: SplitName = None,
    name: Annotated[str, typer.Option(help="the model's name, also in its URL")] = "model",
    modality: Annotated[Literal["image", "tabular"] | None, typer.Option(help="default: by the inputs' shape")] = None,
    classes: Annotated[str | None, typer.Option(help="class names in score order, comma-separated")] = None,
    output: Annotated[Literal["logits", "probabilities"] | None, typer.Option(help="what the scores are")] = None,
    task: Annotated[
        str | None, typer.Option(help='what the scores answer, where it cannot be seen: "classification"')
    ] = None,
    low: Annotated[
        float | None, typer.Option(help="smallest value the model takes; of whole-number images what 0 is")
    ] = None,
    high: Annotated[
        float | None, typer.Option(help="largest value the model takes; of whole-number images what white is")
    ] = None,
    layout: Pixels = None,
    bits: Bits = None,
    features: Annotated[str | None, typer.Option(help="torch layer or ONNX output that monitors watch")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="two classes: the second is decided from this probability on")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an existing bundle")] = False,
) -> None:
    """Wrap a trained model and calibrate its guard on benign data: MODEL + data -> bundle."""
    from medward.guard.bundle.make import protect as build
    from medward.guard.data.split import load_npz
    from medward.guard.policy import Policy

    if policy is not None and on_error is not None:
        raise MedwardError("give --policy or --on-error, not both")
    if policy is not None:
        chosen = Policy.load(policy)
    elif on_error is not None:
        chosen = Policy(on_error=on_error)
    else:
        raise MedwardError("on_error must be chosen: --on-error withhold, or --on-error flag, or a --policy file")
    see_working_directory()
    with printed_log(console, "medward.data"):
        splits = load_npz(data)
        bundle = build(
            model,
            _pick(splits, split, data),
            chosen,
            out,
            name=name,
            modality=modality,
            classes=comma_parts(classes),
            output=output,
            task=task,
            low=low,
            high=high,
            layout=layout,
            bits=bits,
            features=features,
            threshold=threshold,
            seed=seed,
            overwrite=overwrite,
        )
    _describe(bundle, out)
    _note_trained_rows(splits, _pick(splits, split, data), bundle.card.spec)


def calibrate_command(
    bundle: BundlePath,
    data: Annotated[Path, typer.Argument(help="npz of benign inputs of that site, which the model was not trained on")],
    site: Annotated[str, typer.Option(help="the organisation: the first level of its keys' principals")],
    split: SplitName = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    allow_code: AllowCode = False,
    expect: Expect = None,
) -> None:
    """Judge one organisation's inputs and accounts against its own benign data, and no longer the bundle's."""
    from medward.guard.bundle.site import calibrate_site as learn
    from medward.guard.data.split import load_npz

    if allow_code:
        see_working_directory()
    with printed_log(console, "medward.data"):
        benign = _pick(load_npz(data), split, data)
        made = learn(bundle, benign, site, seed=seed, allow_code=allow_code, expect=expect)
    own, shared = made.sites[site].thresholds, made.profile.thresholds
    rows = made.card.sites[site].sizes["benign"]
    console.print(f"{site}: calibrated on {rows} benign rows, {own.n} of them as reference", markup=False)
    console.print(
        f"smallest tail it bounds: {own.levels[0]:g} of benign inputs; the bundle's own: {shared.levels[0]:g}"
    )
    if own.levels[0] > shared.levels[0]:
        console.print(
            "note: fewer rows bound only a larger tail: no more false alarms, but a thief is noticed later; "
            "add rows for a smaller one"
        )
    _note(made)
    console.print("alarms that stand are kept: `medward accounts reset` clears them, account by account")
    console.print(f"bundle: {bundle}  digest {made.digest}; restart servers of it", markup=False)


def seal_command(bundle: BundlePath) -> None:
    """After editing policy.toml: check it and put its new digest on the card."""
    from medward.guard.bundle.folder import seal_bundle as reseal

    digest = reseal(bundle)
    console.print(f"{bundle}: sealed with the edited policy, digest {digest}; restart servers of it", markup=False)


def _note_trained_rows(splits: dict[str, Any], benign: Any, spec: Any) -> None:
    """Say which calibration rows are also in train, where the file has one; the bounds need unseen ones."""
    from medward.guard.data.overlap import measure_overlap
    from medward.guard.data.split import conformed_split

    if "train" not in splits or splits["train"] is benign:
        return
    shared = measure_overlap(conformed_split(splits["train"], spec), conformed_split(benign, spec))
    if said := shared.sentence("train", "the calibration data"):
        console.print(f"note: {said}; the bounds need rows that the model was not trained on", markup=False)


def _pick(splits: dict[str, Any], wanted: str | None, source: Path) -> Any:
    if wanted is not None and wanted not in splits:
        raise MedwardError(f"{source}: there is no split {wanted!r}; it has {', '.join(splits)}")
    for name in (wanted, "calibration", "val", "data"):
        if name in splits:
            return splits[name]
    raise MedwardError(f"{source}: name the benign split with --split; it has {', '.join(splits)}")


def _describe(bundle: Any, out: Path) -> None:
    """Say what was written and what it guarantees, and what the calibration set was too small for."""
    thresholds, policy = bundle.profile.thresholds, bundle.policy
    console.print(f"bundle: {out}  digest {bundle.digest}", markup=False)
    if bundle.model.spec.threshold is not None:
        console.print(f"{bundle.model.spec.name}: {bundle.model.spec.rule}", markup=False)
    console.print(f"{thresholds.n} benign rows as reference; p-value levels {', '.join(map(str, thresholds.levels))}")
    for rung in policy.monitor.ladder:
        console.print(
            f"P(ever {rung.action} a benign account) <= {rung.false_alarm:g} + {policy.monitor.calibration_risk:g}"
        )
    _note(bundle)


def _note(bundle: Any) -> None:
    for note in bundle.guard().notes:
        console.print(f"note: {note}", markup=False)
