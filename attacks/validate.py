"""The one entry of a validation: a bundle, data and an output folder in, a report out."""

from __future__ import annotations

import functools
import hashlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medward.attacks.audit import CanaryConfidence
from medward.attacks.estimate import plan_validation
from medward.attacks.report.comparison import load_report
from medward.attacks.suite import chosen_attacks, known_attacks
from medward.attacks.target import Decide
from medward.attacks.validation.deployment import ROBUSTNESS, Deployment, ModelBefore
from medward.attacks.validation.plan import RunAhead, ValidationPlan
from medward.attacks.validation.record import Report
from medward.attacks.validation.run import run_validation
from medward.attacks.validation.traffic import DeclaredTraffic
from medward.attacks.validation.waiving import check_waivers, today_utc
from medward.attacks.whitebox.ball import FeatureRules, feature_rules
from medward.attacks.whitebox.onnx.to_torch import white_box
from medward.attacks.whitebox.report_network import READ_ROWS, white_box_writer
from medward.guard.bundle.certified import model_file_digest
from medward.guard.bundle.folder import Bundle
from medward.guard.bundle.site import bundle_reading
from medward.guard.certificate import ORIGINAL, AnyCertificate, PrivacyCertificate
from medward.guard.columns import encoded_names
from medward.guard.data.canaries import CanarySet
from medward.guard.data.coin_flip import MembershipManifest, read_manifest
from medward.guard.data.objects import as_splits
from medward.guard.data.reading import Reading
from medward.guard.data.split import Split, conform_inputs, numbered_split, tell_writing
from medward.guard.errors import MedwardError
from medward.guard.models import describe_model, wrap
from medward.guard.models.base import first_line
from medward.guard.models.sources import Source, open_source
from medward.guard.spec import ModelSpec
from medward.guard.statistics.privacy_accounting import check_claim
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array, Ints

_SAMPLE = 64  # rows on which the torch form of the model must equal the deployed one


def validate(
    bundle: Bundle,
    data: object,
    out: Path | str,
    *,
    target: str | None = None,
    patient: str | None = None,
    labels: Path | None = None,
    integer: Sequence[str | int] = (),
    immutable: Sequence[str | int] = (),
    names: Sequence[str] | None = None,
    rules: FeatureRules | None = None,
    before: object = None,
    canaries: CanarySet | Path | str | None = None,
    manifest: MembershipManifest | Path | str | None = None,
    output_key: str | None = None,
    decide: Decide | None = None,
    traffic: int | None = None,
    accounts: int | None = None,
    seed: int = 0,
    resume: bool = True,
    progress: bool = True,
    quick: bool = False,
    against: Path | str | Report | None = None,
    plan: ValidationPlan | None = None,
    data_path: Path | str | None = None,
    options: str = "",
    ahead: RunAhead | None = None,
) -> Report:
    """Run the default suite, or the attacks called `names`, against a bundle; white-box where its file allows.

    `data` are splits by name, a path, or objects that `guard.data.objects` reads; what the bundle knows of a table
    (`target`, `patient`) need not be said again. `rules`, or the names or places in `integer` and `immutable`, say
    which features of a table take whole numbers and which nobody can change, besides those that the bundle's columns
    are. `before` is the model as it was before hardening, or a path or name of it (and `output_key` the output of
    several to take): attacks that the bundle's certificate claims a defense against must succeed on that one (evasion,
    where the bundle has none), and every attack is run on both bare models to show what training changed. `canaries`
    and `manifest` say by what coins rows were trained on or held out, as training wrote them; where the certificate
    names others they are refused. `decide` reads the outputs ``(n, ...)`` of an opaque model as one whole number a row,
    from 0 on; without it nothing that such a model decides can be attacked, and the report says so. `traffic` is how
    many answers an account gets on its busiest ordinary day, and `accounts` how many an organisation has: with both
    the report proposes a budget, and says how many days a thief of ordinary cases needs. A `quick` look
    takes a minute or two: fewer rows, and the attacks that fit, at full strength (`attacks.validation.plan`).
    `against` is an older report, whose changes are then told. A `plan` of one's own takes the place of `quick`.
    `data_path` is where `data` was read from, by which the report's commands name it; `data` itself if that is a path.
    `options` are words of the command line that these need besides. `ahead` runs attacks elsewhere, before they are
    judged here, as `medward validate --ray` does.
    """
    if not isinstance(bundle, Bundle):
        raise MedwardError(f"bundle: expected a bundle, got {bundle!r:.80}; give medward.load(FOLDER)")
    spec = bundle.model.spec
    if decide is not None and not isinstance(spec.task, Opaque):
        raise MedwardError(f"decide: is for opaque models, and this one {spec.rule}; leave it out")
    declared = DeclaredTraffic.said(traffic, accounts)
    reads = None if decide is None else checked_decide(decide)
    reading = bundle_reading(bundle, Reading(target=target, patient=patient, labels=labels))
    splits = _numbered(as_splits(data, reading), spec)
    threat = bundle.policy.threat
    rules = rules or feature_rules(spec, integer, immutable, _spreads(bundle))
    older = against if against is None or isinstance(against, Report) else load_report(against, "against")
    check_waivers(bundle.policy.accept, known_attacks(spec, reads), today_utc())
    chosen_attacks(spec, names, rules, reads)  # refuses what is unknown before work begins
    if reads is not None:
        _try_decide(reads, bundle, splits)
    certificate = bundle.card.certificate
    privacy = certificate if isinstance(certificate, PrivacyCertificate) else None
    if privacy is not None:
        check_claim(privacy)
    planted = None if canaries is None else planted_canaries(canaries, certificate)
    flipped = None if manifest is None else flipped_coins(manifest, certificate)
    network, reason = _network(bundle, splits)
    attacks = chosen_attacks(spec, names, rules, reads, gradients=network is not None, threat=threat)
    if names is None and planted is not None and not isinstance(spec.task, Opaque | WrittenReport):
        attacks = (*attacks, CanaryConfidence())
    deployment = Deployment(
        bundle=bundle,
        network=network,
        no_network=reason,
        before=None if before is None else model_before(before, bundle, splits, output_key),
        decide=reads,
        privacy=privacy,
        canaries=planted,
        manifest=flipped,
        traffic=declared,
    )
    return run_validation(
        deployment,
        splits,
        Path(out),
        attacks=attacks,
        seed=seed,
        resume=resume,
        progress=progress,
        against=older,
        ahead=ahead,
        plan=plan or plan_validation(deployment, splits, attacks, quick=quick),
        places={"bundle": str(bundle.path), "out": str(out)}
        | ({"options": options} if options else {})
        | _paths(
            {
                "data": data if data_path is None else data_path,
                "before": before,
                "canaries": canaries,
                "manifest": manifest,
            }
        ),
        settings=_rules_said(rules) | ({} if output_key is None else {"output_key": output_key}),
    )


def _paths(given: Mapping[str, object]) -> dict[str, str]:
    """Those of what was `given` that are paths or names, as they were given."""
    return {name: str(each) for name, each in given.items() if isinstance(each, str | Path)}


def _rules_said(rules: FeatureRules | None) -> dict[str, str]:
    """The places of features that rules are for, as a report keeps them."""
    said = {} if rules is None else {"integer": rules.integer, "immutable": rules.immutable}
    return {name: ",".join(map(str, sorted(places))) for name, places in said.items() if places}


def _spreads(bundle: Bundle) -> dict[str, float] | None:
    """What counts for the deviation of a table's columns: those that certificates count in, errors of measurement."""
    spec, held = bundle.model.spec, bundle.card.certified
    if spec.modality != "tabular":
        return None
    known: dict[str, float] = {}
    if bundle.policy.certify.enabled and held is not None:
        names = encoded_names(spec.columns) or map(str, range(len(held.deviations)))
        known = dict(zip(names, held.deviations, strict=True))
    return known | bundle.policy.threat.spreads()


def planted_canaries(given: CanarySet | Path | str, certificate: AnyCertificate | None) -> CanarySet:
    """The canaries at `given`. Raises `MedwardError` for others than the `certificate` names."""
    if not isinstance(given, CanarySet | Path | str):
        raise MedwardError(
            "canaries: expected the file that training wrote, or a CanarySet, got "
            f"{type(given).__name__}; give its path"
        )
    found = given if isinstance(given, CanarySet) else CanarySet.load(Path(given))
    record = certificate.canaries if isinstance(certificate, PrivacyCertificate) else None
    if isinstance(certificate, PrivacyCertificate) and (record is None or record.digest != found.digest):
        raise MedwardError("canaries: are not those of the bundle's certificate; give the file of its training")
    return found


def flipped_coins(given: MembershipManifest | Path | str, certificate: AnyCertificate | None) -> MembershipManifest:
    """The membership manifest at `given`. Raises `MedwardError` for another than the `certificate` names."""
    if not isinstance(given, MembershipManifest | Path | str):
        raise MedwardError(
            "manifest: expected the file that training wrote, or a MembershipManifest, got "
            f"{type(given).__name__}; give its path"
        )
    if isinstance(given, MembershipManifest):
        found = given
    else:
        try:
            found = read_manifest(Path(given).read_text(encoding="utf-8"))
        except OSError as error:
            raise MedwardError(f"{given}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise MedwardError(f"{given}: is no text; give the manifest that training wrote beside its model") from None
    if isinstance(certificate, PrivacyCertificate) and certificate.manifest != found.digest:
        raise MedwardError("manifest: is not that of the bundle's certificate; give the file of its training")
    return found


def _numbered(splits: Mapping[str, Split], spec: ModelSpec) -> dict[str, Split]:
    """`splits` with the tables among them as the numbers that the model of `spec` takes."""
    found = {}
    for name, split in splits.items():
        try:
            found[name] = numbered_split(split, spec)
        except MedwardError as error:
            raise MedwardError(f"split {name}: {error}") from None
    return found


def checked_decide(decide: Decide) -> Decide:
    """`decide`, refused on use unless it gives one whole number from 0 on for each row."""

    @functools.wraps(decide)
    def ask(outputs: Array) -> Ints:
        try:
            found = np.asarray(decide(outputs))
        except Exception as error:
            raise MedwardError(
                f"decide: {ask.__module__}:{ask.__qualname__} fails on outputs of shape {outputs.shape}, a NumPy "
                f"array: {first_line(error)}"
            ) from error
        if found.shape != (len(outputs),) or found.dtype.kind not in "iub" or (found < 0).any():
            raise MedwardError(
                f"decide: must give a whole number from 0 on for each of {len(outputs)} rows, got {found.dtype} of "
                f"shape {found.shape}; return np.asarray(..., int) with one entry a row"
            )
        return found.astype(np.int64)

    return ask


def _try_decide(decide: Decide, bundle: Bundle, splits: Mapping[str, Split]) -> None:
    """Refuse, before work begins, a `decide` that fails or says the same of every row of a sample."""
    said = decide(bundle.model.predict(_sample(bundle, splits)).scores)
    if len(said) > 1 and (said == said[0]).all():
        raise MedwardError(
            f"decide: says {int(said[0])} of each of {len(said)} rows, so nothing shows that it can change; give one "
            "that tells these rows apart"
        )


def model_before(
    model: object, bundle: Bundle, splits: Mapping[str, Split], output_key: str | None = None
) -> ModelBefore:
    """The model before hardening, under the specification of `bundle`, a file that normalises itself as it is.

    What a processor beside it says of its normalisation holds for it. What training claims is what the bundle's
    certificate says, robustness where it has none.
    Raises `MedwardError` when it takes other inputs, scores other classes or cannot be read.
    """
    spec, certificate = bundle.model.spec, bundle.card.certificate
    named = None if certificate is None else certificate.files.get(ORIGINAL)
    facts: Any = {
        "claim": ROBUSTNESS if certificate is None else certificate.claim,
        "certified": named is not None and named == model_file_digest(model),
    }
    sample = _sample(bundle, splits)
    try:
        source = open_source(model)
        model, known = source.model, describe_model(source.model, output_key)
    except MedwardError as error:
        raise MedwardError(f"before: {error}") from None
    if unlike := _unlike(known, spec):
        raise MedwardError(f"before: {unlike}; give the model that was hardened, as it was before")
    if known.get("normalised"):
        spec = replace(spec, prepare=replace(spec.prepare, mean=(), std=()))
    else:
        spec = _normalised_as(source, bundle)
    try:
        wrapped = wrap(
            model, spec=spec, sample=sample, task=spec.task.kind, output_key=output_key
        )  # as the bundle's own model is
    except MedwardError as error:
        raise MedwardError(
            f"before: does not work as the bundle's model, which takes inputs of shape {spec.row_shape} and scores "
            f"{len(spec.classes)} classes as {spec.output}: {error}"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        exported = wrapped.export(Path(folder))
        file = Path(folder) / exported.file
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        deployed = bundle.path / exported.file
        if deployed.exists() and hashlib.sha256(deployed.read_bytes()).hexdigest() == digest:
            raise MedwardError("before: is the bundle's own model; give the model as it was before hardening")
        if isinstance(spec.task, WrittenReport):
            written, reason = white_box_writer(wrapped, sample)
            return ModelBefore(model=wrapped, digest=digest, network=written, no_network=reason, **facts)
        if file.name != "model.onnx":
            return ModelBefore(model=wrapped, digest=digest, no_network="it is no ONNX file", **facts)
        network, reason = white_box(file, wrapped.predict, sample, exported.options, spec=spec)
        return ModelBefore(model=wrapped, digest=digest, network=network, no_network=reason, **facts)


def _normalised_as(source: Source, bundle: Bundle) -> ModelSpec:
    """The specification of `bundle` with the normalisation of `source`; refuses where nothing says what that is."""
    spec, own, file = bundle.model.spec, source.prepare, bundle.path / "model.onnx"
    if own.mean:
        if (source.low, source.high) != (spec.low, spec.high):
            raise MedwardError(
                f"before: its processor scales pixels to {source.low} to {source.high}, the bundle's model takes "
                f"{spec.low} to {spec.high}; give the model that was hardened, as it was before"
            )
        return replace(spec, prepare=replace(spec.prepare, mean=own.mean, std=own.std))
    if not spec.prepare.mean and file.exists() and describe_model(str(file)).get("normalised"):
        raise MedwardError(
            "before: the bundle's file normalises its rows itself, and nothing says how this model's are; give "
            "original.onnx, which medward harden wrote beside the hardened model"
        )
    return spec


def _unlike(known: Mapping[str, Any], spec: ModelSpec) -> str:
    """How a model that is `known` so far differs from `spec`, if it does; None in a shape stands for any size."""
    shape, classes = known.get("shape"), known.get("classes")
    wanted = spec.row_shape if shape is not None and len(shape) == len(spec.row_shape) else spec.shape
    wanted = (math.prod(spec.shape),) if shape is not None and len(shape) == 1 else wanted
    if shape is not None and (
        len(shape) != len(wanted) or any(a not in (None, b) for a, b in zip(shape, wanted, strict=True))
    ):
        said = tuple("any" if size is None else size for size in shape)
        return f"takes inputs of shape {said}, the bundle's model takes {wanted}"
    if classes is not None and len(classes) != len(spec.classes):
        return f"scores {len(classes)} classes, the bundle's model scores {len(spec.classes)}"
    return ""


def _network(bundle: Bundle, splits: Mapping[str, Split]) -> tuple[torch.nn.Module | None, str]:
    """The deployed file as a torch network, or the reason why there is none."""
    if isinstance(bundle.model.spec.task, WrittenReport):
        shown = splits.get("train", next(iter(splits.values()))).inputs[:READ_ROWS]
        tell_writing(
            bundle.model.spec.task, "written about %d rows, to see whether gradients can be followed", len(shown)
        )
        return white_box_writer(bundle.model, conform_inputs(shown, bundle.model.spec))
    file = bundle.path / "model.onnx"
    if not file.exists():
        return None, "the bundle holds no ONNX file"
    model = bundle.model
    return white_box(file, model.predict, _sample(bundle, splits), bundle.card.options, spec=model.spec)


def _sample(bundle: Bundle, splits: Mapping[str, Split]) -> Array:
    return conform_inputs(next(iter(splits.values())).inputs[:_SAMPLE], bundle.model.spec)
