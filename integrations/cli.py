"""The command ``medward``. Every mistake of a user ends in one sentence on stderr and exit code 3.

``medward validate`` exits 0 when everything held, 1 when something broke, 2 when it is inconclusive.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from typer.exceptions import TyperException

from guard.errors import MedwardError, UnavailableError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
keys_app = typer.Typer(no_args_is_help=True, help="API keys of a serving host.")
audit_app = typer.Typer(no_args_is_help=True, help="The audit log of a serving host.")
accounts_app = typer.Typer(no_args_is_help=True, help="What the monitors know of an account.")
bench_app = typer.Typer(no_args_is_help=True, help="Experiments on known tasks.")
app.add_typer(keys_app, name="keys")
app.add_typer(audit_app, name="audit")
app.add_typer(accounts_app, name="accounts")
app.add_typer(bench_app, name="bench")

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 100)
State = Annotated[Path, typer.Option("--state", help="the serving host's state folder")]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="the folder that `medward protect` wrote")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="let a callable bundle import its code")]
Expect = Annotated[str | None, typer.Option("--expect", help="the bundle digest you kept elsewhere")]


@app.command()
def protect(
    model: Annotated[str, typer.Argument(help="model.onnx, or package.module:attribute of a model or function")],
    data: Annotated[Path, typer.Option(help="npz of benign inputs the model was not trained on")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the bundle")],
    on_error: Annotated[
        Literal["withhold", "flag"] | None,
        typer.Option(help="when a defense fails (no default; or use --policy)"),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="policy.toml; default: our defaults with --on-error")] = None,
    split: Annotated[str | None, typer.Option(help="which split of the npz; default: calibration, val or data")] = None,
    name: Annotated[str, typer.Option(help="the model's name, also in its URL")] = "model",
    modality: Annotated[Literal["image", "tabular"] | None, typer.Option(help="default: by the inputs' shape")] = None,
    classes: Annotated[str | None, typer.Option(help="class names in score order, comma-separated")] = None,
    output: Annotated[Literal["logits", "probabilities"] | None, typer.Option(help="what the scores are")] = None,
    low: Annotated[float | None, typer.Option(help="smallest valid input value")] = None,
    high: Annotated[float | None, typer.Option(help="largest valid input value")] = None,
    features: Annotated[str | None, typer.Option(help="torch layer or ONNX output that monitors watch")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an existing bundle")] = False,
) -> None:
    """Wrap a trained model and calibrate its guard on benign data: MODEL + data -> bundle."""
    from guard.data import load_npz
    from guard.policy import Policy
    from guard.protect import protect as build

    if policy is not None and on_error is not None:
        raise MedwardError("give --policy or --on-error, not both")
    if policy is not None:
        chosen = Policy.load(policy)
    elif on_error is not None:
        chosen = Policy(on_error=on_error)
    else:
        raise MedwardError("on_error must be chosen: --on-error withhold, or --on-error flag, or a --policy file")
    _see_working_directory()
    bundle = build(
        model,
        _pick(load_npz(data), split, data),
        chosen,
        out,
        name=name,
        modality=modality,
        classes=None if classes is None else tuple(each.strip() for each in classes.split(",")),
        output=output,
        low=low,
        high=high,
        features=features,
        seed=seed,
        overwrite=overwrite,
    )
    _describe(bundle, out)


@app.command()
def harden(
    model: Annotated[str, typer.Argument(help="package.module:attribute of a trained torch module")],
    data: Annotated[Path, typer.Option(help='npz with labelled "train" rows; "selection" or "val" choose the epoch')],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the hardened model")],
    method: Annotated[
        Literal["uat", "pgd", "trades", "retraining"],
        typer.Option(help="uat: shared changes; pgd, trades: any change; retraining: for comparison only"),
    ] = "uat",
    epsilon: Annotated[
        str | None,
        typer.Option(help="radius, as 0.04 or 10/255; images: input units, tables: standard deviations"),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(min=1.0, max=4.0, help="uat: train at so many radii; less costs less clean accuracy [1.4]"),
    ] = None,
    low: Annotated[float | None, typer.Option(help="smallest valid input value")] = None,
    high: Annotated[float | None, typer.Option(help="largest valid input value")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="default: the method's own")] = None,
    rate: Annotated[float | None, typer.Option(help="largest learning rate; default: the method's own")] = None,
    augment: Annotated[bool, typer.Option(help="shift, mirror and relight training images")] = True,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier result")] = False,
) -> None:
    """Train a copy of a torch model to withstand small changes: MODEL + labelled data -> hardened model."""
    from guard.data import load_npz
    from integrations.hardening import chosen, radius, run

    splits = load_npz(data)
    size = radius(epsilon, splits, low, high)
    settings = chosen(method, epsilon=size, margin=margin, epochs=epochs, rate=rate, augment=augment, device=device)
    _see_working_directory()
    run(model, splits, out, settings, low=low, high=high, seed=seed, overwrite=overwrite, console=console)


@app.command()
def validate(
    bundle: BundlePath,
    data: Annotated[Path, typer.Option(help='npz with a "test" split; "train" and "holdout" add membership tests')],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the report; finished runs are kept there")],
    attacks: Annotated[
        str | None, typer.Option(help="comma-separated names; default: the standard suite (a wrong name lists all)")
    ] = None,
    undefended: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="the model before hardening, which evasion must fool: original.onnx"),
    ] = None,
    integer: Annotated[str | None, typer.Option(help="a table's features that take whole numbers: 0,3")] = None,
    immutable: Annotated[str | None, typer.Option(help="a table's features that nobody can change: 1,2")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    restart: Annotated[bool, typer.Option("--restart", help="run everything again")] = False,
    allow_code: AllowCode = False,
    expect: Expect = None,
) -> int:
    """Attack a bundle undefended, guarded and knowingly; write report.html, report.json and junit.xml."""
    from attacks.ball import FeatureRules
    from attacks.report.table import print_findings
    from attacks.suite import validate_bundle
    from guard.bundle import load
    from guard.data import load_npz

    if allow_code or undefended is not None:
        _see_working_directory()
    with _alarms_expected():
        report = validate_bundle(
            load(bundle, allow_code=allow_code, expect=expect),
            load_npz(data),
            out,
            names=None if attacks is None else tuple(each.strip() for each in attacks.split(",")),
            rules=FeatureRules(integer=_indices("integer", integer), immutable=_indices("immutable", immutable))
            if integer or immutable
            else None,
            undefended=undefended,
            seed=seed,
            resume=not restart,
        )
    print_findings(report, console)
    console.print(f"report: {out / 'report.html'}")
    return report.exit_code


@app.command()
def serve(
    bundle: BundlePath,
    state: State = Path("state"),
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="answer anyone; only on this machine")] = False,
    resize: Annotated[bool, typer.Option("--resize", help="resize uploaded images to the model's size")] = False,
    allow_code: AllowCode = False,
    expect: Expect = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM; with --private-key serves TLS")] = None,
    private_key: Annotated[Path | None, typer.Option(help="PEM")] = None,
) -> None:
    """Serve a bundle behind its guard over HTTP."""
    from integrations.serving import serve as run

    if allow_code:
        _see_working_directory()
    run(
        bundle,
        state=state,
        host=host,
        port=port,
        anonymous=no_keys,
        resize=resize,
        allow_code=allow_code,
        expect=expect,
        certificate=certificate,
        private_key=private_key,
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for model, bundle and report")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Protect and validate a real classifier of breast tumours (WDBC, 569 patients); no download."""
    from integrations.demo import run

    with _alarms_expected():
        run(out, seed=seed, console=console)


@app.command()
def seal(bundle: BundlePath) -> None:
    """After editing policy.toml: check it and put its new digest on the card."""
    from guard.bundle import seal as reseal

    digest = reseal(bundle)
    console.print(f"{bundle}: sealed with the edited policy, digest {digest}; restart servers of it", markup=False)


@keys_app.command("add")
def keys_add(
    principal: Annotated[str, typer.Argument(help="who holds it, as a path: hospital-a/radiology/key-17")],
    state: State = Path("state"),
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="valid for so many days")] = None,
    scope: Annotated[Literal["predict", "metrics"], typer.Option(help="what the key opens")] = "predict",
) -> None:
    """Make a key and print its token, once."""
    from integrations.keys import KeyStore

    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    token = KeyStore(state / "keys.json").add(tuple(principal.split("/")), expires=expires, scope=scope)
    sys.stdout.write(token + "\n")


@keys_app.command("list")
def keys_list(state: State = Path("state")) -> None:
    """Show who holds keys; never the keys."""
    from integrations.keys import KeyStore

    for key in KeyStore(state / "keys.json").list():
        end = "revoked" if key.revoked else f"expires {key.expires:%Y-%m-%d}" if key.expires else "no end"
        console.print(f"{key.id}  {'/'.join(key.principal)}  {key.scope}  {end}", markup=False)


@keys_app.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(metavar="ID")], state: State = Path("state")) -> None:
    """Refuse a key from now on, running servers included."""
    from integrations.keys import KeyStore

    KeyStore(state / "keys.json").revoke(key_id)
    console.print(f"{key_id}: revoked")


@audit_app.command("verify")
def audit_verify(
    log: Annotated[Path, typer.Argument(help="audit.jsonl, or the state folder it is in")] = Path("state"),
    head: Annotated[str | None, typer.Option(help="the head you kept elsewhere; finds a cut or rewritten log")] = None,
) -> None:
    """Check the hash chain; names the first broken record."""
    from guard.audit import verify

    log = log / "audit.jsonl" if log.is_dir() else log
    result = verify(log, head=head)
    console.print(f"{log}: {result.records} records, chain whole, head {result.head}", markup=False)


@accounts_app.command("reset")
def accounts_reset(
    principal: Annotated[str, typer.Argument(help="hospital-a/radiology/key-17, or one of its parents")],
    state: State = Path("state"),
) -> None:
    """Forget an account's alarm after a person has looked into it."""
    from guard.audit import AuditLog
    from guard.pipeline import reset
    from guard.stores import SQLiteStore

    if not (state / "accounts.db").exists():
        raise MedwardError(f"{state / 'accounts.db'}: there is no such file; give the server's --state folder")
    store = SQLiteStore(state / "accounts.db")
    if store.get(principal) is None:
        raise MedwardError(f"{principal}: no account of that name has asked anything")
    reset(store, tuple(principal.split("/")), AuditLog(state / "audit.jsonl", fsync=True))
    store.close()
    console.print(f"{principal}: starts afresh", markup=False)


@bench_app.command("uap")
def bench_uap(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the table; finished cells are kept there")],
    tasks: Annotated[str | None, typer.Option(help="comma-separated; default: the profile's")] = None,
    architectures: Annotated[str | None, typer.Option(help="comma-separated; default: the profile's")] = None,
    defenses: Annotated[str | None, typer.Option(help="comma-separated; default: all")] = None,
    zetas: Annotated[str | None, typer.Option(help="radii in percent of the mean image norm; default: 1,2,4")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="how many; each has its own splits, training and crafting")] = 3,
    profile: Annotated[Literal["cpu", "gpu"], typer.Option(help="small networks, or full-size ones at 128 px")] = "cpu",
    size: Annotated[int | None, typer.Option(help="pixels a side; default: the profile's")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="of training; default: 24")] = None,
    hardening: Annotated[int | None, typer.Option(min=1, help="epochs; default: the method's own")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:0; default: the profile's")] = None,
) -> None:
    """Universal perturbations against tasks x architectures x defenses; a killed run goes on where it stopped."""
    from attacks.benchmarks.uap_table import planned, run

    plan = planned(
        profile,
        tasks=_names(tasks),
        architectures=_names(architectures),
        defenses=_names(defenses),
        zetas=_names(zetas),
        seeds=seeds,
        size=size,
        epochs=epochs,
        hardening=hardening,
        device=device,
    )
    run(plan, out, console=console)
    console.print(f"table: {out / 'table.md'}", markup=False)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run a command and exit with its code."""
    try:
        code = app(arguments, standalone_mode=False)
    except (MedwardError, UnavailableError) as error:
        _fail(str(error))
    except TyperException as error:
        _fail(error.format_message() or "name a command")  # a bare group has printed its help
    except typer.Abort:
        sys.exit(130)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}")
    except ModuleNotFoundError as error:
        _fail(f"this command needs {error.name}: pip install 'medward[all]'")
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str) -> None:
    sys.stderr.write(f"medward: {sentence}\n")
    sys.exit(3)


@contextlib.contextmanager
def _alarms_expected() -> Iterator[None]:
    """Keep the guard's alarms off the screen while attacks raise them on purpose; the report has them."""
    log = logging.getLogger("medward")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _see_working_directory() -> None:
    """Let ``package.module:attribute`` name code in the current folder, as ``python -m`` does."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def _names(listed: str | None) -> tuple[str, ...] | None:
    """A comma-separated option as its parts."""
    return None if listed is None else tuple(each.strip() for each in listed.split(",") if each.strip())


def _pick(splits: dict[str, Any], wanted: str | None, source: Path) -> Any:
    if wanted is not None and wanted not in splits:
        raise MedwardError(f"{source}: there is no split {wanted!r}; it has {', '.join(splits)}")
    for name in (wanted, "calibration", "val", "data"):
        if name in splits:
            return splits[name]
    raise MedwardError(f"{source}: name the benign split with --split; it has {', '.join(splits)}")


def _indices(option: str, text: str | None) -> tuple[int, ...]:
    """Feature numbers, counted from 0."""
    try:
        return tuple(int(each) for each in (text or "").split(",") if each.strip())
    except ValueError:
        raise MedwardError(f"--{option}: feature numbers such as 0,3 are needed, got {text!r}") from None


def _describe(bundle: Any, out: Path) -> None:
    """Say what was written and what it guarantees, and what the calibration set was too small for."""
    thresholds, policy = bundle.profile.thresholds, bundle.policy
    console.print(f"bundle: {out}  digest {bundle.digest}", markup=False)
    console.print(f"calibrated on {thresholds.n} benign rows; p-value levels {', '.join(map(str, thresholds.levels))}")
    for rung in policy.monitor.ladder:
        console.print(
            f"P(ever {rung.action} a benign account) <= {rung.false_alarm:g} + {policy.monitor.calibration_risk:g}"
        )
    if bundle.profile.screen_cut(policy.screen.rate) == float("inf"):
        need = int(1 / policy.screen.rate)
        console.print(
            f"note: the screen is idle: a rate of {policy.screen.rate:g} needs at least {need} calibration rows"
        )


if __name__ == "__main__":
    main()
