"""``medward bench``: experiments on known tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medward.integrations.cli.options import comma_parts, console

bench_app = typer.Typer(no_args_is_help=True, help="Experiments on known tasks.")


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
    from medward.attacks.experiments.uap.run import plan_table, run_table

    plan = plan_table(
        profile,
        tasks=comma_parts(tasks),
        architectures=comma_parts(architectures),
        defenses=comma_parts(defenses),
        zetas=comma_parts(zetas),
        seeds=seeds,
        size=size,
        epochs=epochs,
        hardening=hardening,
        device=device,
    )
    run_table(plan, out, console=console)
    console.print(f"table: {out / 'table.md'}", markup=False)


@bench_app.command("fedgan")
def bench_fedgan(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="folder for table and pictures; finished cells are kept there")
    ],
    tasks: Annotated[str | None, typer.Option(help="comma-separated; default: pneumoniamnist,blood")] = None,
    generator: Annotated[Literal["gan", "diffusion"] | None, typer.Option(help="default: gan")] = None,
    federations: Annotated[
        str | None, typer.Option(help="malicious of all hospitals, as 1/4,2/10; default: 1/4")
    ] = None,
    skews: Annotated[str | None, typer.Option(help="iid or dirichlet, comma-separated; default: iid")] = None,
    attacks: Annotated[
        str | None,
        typer.Option(help="comma-separated, docs/federated.md has them all; default: none,trigger,trigger-lying"),
    ] = None,
    servers: Annotated[
        str | None,
        typer.Option(
            help="comma-separated: a rule of [federated], feddetect or robust-feddetect; default: "
            "weighted-mean,feddetect,robust-feddetect"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="how many; each has its own splits, training and noise")] = 3,
    rounds: Annotated[int | None, typer.Option(min=1, help="default: 40")] = None,
    rows: Annotated[int | None, typer.Option(min=16, help="of a hospital on average; default: 256")] = None,
    size: Annotated[int | None, typer.Option(help="pixels a side, a power of two; default: 32")] = None,
    width: Annotated[int | None, typer.Option(min=8, help="filters of a generator's finest layer; default: 16")] = None,
) -> None:
    """Poisoned generators under federated training, attacks x servers; a killed run goes on where it stopped."""
    from medward.attacks.experiments.fedgan.run import plan_federations, read_federations, run_federations

    plan = plan_federations(
        tasks=comma_parts(tasks),
        generator=generator,
        federations=None if federations is None else read_federations(comma_parts(federations) or ()),
        skews=comma_parts(skews),
        attacks=comma_parts(attacks),
        servers=comma_parts(servers),
        seeds=tuple(range(seeds)),
        rounds=rounds,
        rows=rows,
        size=size,
        width=width,
    )
    run_federations(plan, out, console=console)
    console.print(f"table: {out / 'table.md'}", markup=False)
