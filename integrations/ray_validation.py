"""A validation's attacks as tasks of Ray: the same runs from the same seeds, kept where a local validation looks.

A task takes one attack through all its arms by the validation itself, which leaves all other attacks out, and sends the
cells that it finished back. Judging stays here, where each run is recalled, so the report is that of a local run.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medward.attacks.validation.journal import code_version
from medward.attacks.validation.plan import ValidationPlan
from medward.attacks.validation.run import library_versions
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.files import write_durably
from medward.guard.models.base import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

Cells = dict[str, bytes]
"""Finished runs by the names of their files."""


@dataclass(frozen=True, kw_only=True)
class RayTasks:
    """Ray tasks run the attacks of a validation of `bundle` ahead of it; give it to `validate` as `ahead`.

    The cluster is that of ``RAY_ADDRESS``, else this machine. `splits` and the `settings` of `validate` are those of
    the validation; `bundle` and paths among the settings must lie at the same place on every node. Each task computes
    on as many threads as this process, since sums depend on that, and reserves as many CPUs.
    Raises `MedwardError` with the attacks whose task failed; what others finished is kept, and not run again.
    """

    bundle: Path
    splits: Mapping[str, Split]
    settings: Mapping[str, Any] = field(default_factory=dict)
    allow_code: bool = False
    expect: str | None = None

    def __call__(
        self, plan: ValidationPlan, names: Sequence[str], folder: Path, say: Callable[[str], None] = print
    ) -> None:
        """Run the attacks called `names`, and keep their runs in `folder`."""
        import torch

        threads, failed = torch.get_num_threads(), {}
        with _cluster() as ray:
            most = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=1)
            task = ray.remote(num_cpus=min(threads, most), max_retries=1)(_run_attack)
            given, kept = ray.put(replace(self, bundle=self.bundle.absolute())), ray.put(read_cells(folder))
            facts = _versions()
            running = {task.remote(given, kept, _only(plan, names, name), threads, facts): name for name in names}
            say(f"{len(names)} attacks are {len(names)} tasks of Ray, of {min(threads, most):g} CPUs each")
            while running:
                (done, *_), _ = ray.wait(list(running), num_returns=1)
                name = running.pop(done)
                try:
                    keep_cells(folder, ray.get(done))
                except ray.exceptions.RayError as error:
                    failed[name] = first_line(getattr(error, "cause", None) or error)
                say(f"{name}: {'failed' if name in failed else 'run'} on Ray")
        if failed:
            said = "; ".join(f"{name}: {why}" for name, why in failed.items())
            raise MedwardError(
                f"ray: {len(failed)} of {len(names)} attacks could not be run ({said}); the others are kept in "
                f"{folder}, so give the same command again"
            )


def read_cells(folder: Path) -> Cells:
    """The finished runs in `folder`, none where there is no such folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*.json"))}


def keep_cells(folder: Path, cells: Cells) -> None:
    """Write each of `cells` into `folder`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in cells.items():
        write_durably(folder / name, content)


def _only(plan: ValidationPlan, names: Sequence[str], name: str) -> ValidationPlan:
    """`plan` with all other attacks of `names` left out."""
    others = {each: "another task runs it" for each in names if each != name}
    return replace(plan, left_out={**plan.left_out, **others}, told="")


def _versions() -> dict[str, str]:
    """What runs are named by besides their settings: a worker with others makes runs that nobody would find."""
    return {"code": code_version(), **library_versions()}


def _run_attack(tasks: RayTasks, kept: Cells, plan: ValidationPlan, threads: int, facts: Mapping[str, str]) -> Cells:
    """What a task does: the validation of one attack; the cells that it adds to those `kept`."""
    import torch

    from medward.attacks.validate import validate
    from medward.guard.bundle.folder import load_bundle

    own = _versions()
    if apart := sorted(name for name in {*own, *facts} if own.get(name) != facts.get(name)):
        name = apart[0]
        raise MedwardError(
            f"the worker has {name} {own.get(name)}, this process {facts.get(name)}; install the same on all nodes"
        )
    torch.set_num_threads(threads)
    loaded = load_bundle(tasks.bundle, allow_code=tasks.allow_code, expect=tasks.expect)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "cells"
        keep_cells(folder, kept)
        validate(loaded, tasks.splits, Path(name), **tasks.settings, plan=plan, progress=False)
        return {each: content for each, content in read_cells(folder).items() if each not in kept}


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected; a cluster of its own on this machine is stopped at the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError:
        raise MedwardError("ray: the tasks need the package ray: pip install 'medward[ray,validate]'") from None
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(include_dashboard=None if "RAY_ADDRESS" in os.environ else False, log_to_driver=False)
    except Exception as error:  # of Ray's own start too, which has no narrower type
        where = os.environ.get("RAY_ADDRESS", "this machine")
        raise MedwardError(f"ray: no cluster answers at {where} (RAY_ADDRESS): {first_line(error)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()
