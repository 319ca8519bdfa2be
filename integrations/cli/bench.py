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
