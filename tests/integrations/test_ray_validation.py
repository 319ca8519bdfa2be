"""A validation whose attacks are tasks of Ray: the report of a local run, and a task that fails is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medward.attacks.validate import validate
from medward.attacks.validation.record import Report
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.integrations import ray_validation
from medward.integrations.ray_validation import RayTasks, keep_cells, read_cells

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("fgsm", "membership-loss")


def rows(seed, n):
    inputs = np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)
    return Split(inputs, (inputs[:, 0] > 0).astype(np.int64))


SPLITS = {"train": rows(1, 60), "holdout": rows(2, 60), "test": rows(3, 40)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    benign = rows(0, 300)
    model = LogisticRegression().fit(benign.inputs, benign.labels)
    path = tmp_path_factory.mktemp("ray") / "bundle"
    return protect(model, Split(benign.inputs), Policy(on_error="withhold"), path, classes=("no", "yes"))


class RayError(Exception):
    pass


class Worker:
    """Ray as one process has it: a task runs when its outcome is asked for; those in `broken` fail."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, *broken):
        self.broken, self.ran = broken, []

    def is_initialized(self):
        return True

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def put(self, value):
        return value

    def remote(self, **_):
        return lambda function: SimpleNamespace(remote=lambda *given: _Task(function, given))

    def wait(self, running, num_returns):
        return running[-num_returns:], running[:-num_returns]

    def get(self, task):
        (name,) = {*NAMES} - {*task.given[2].left_out}
        self.ran.append(name)
        if name in self.broken:
            error = RayError("task failed\ntrace")
            error.cause = ValueError("out of memory")
            raise error
        try:
            return task.function(*task.given)
        except MedwardError as error:  # as Ray hands it on
            failed = RayError("task failed")
            failed.cause = error
            raise failed from None


class _Task:
    def __init__(self, function, given):
        self.function, self.given = function, given


@pytest.fixture
def worker(monkeypatch):
    def put(*broken):
        found = Worker(*broken)
        monkeypatch.setitem(sys.modules, "ray", found)
        return found

    return put


def report(bundle, out, *, ray=False, **more):
    tasks = RayTasks(bundle=bundle.path, splits=SPLITS, settings={"names": NAMES}) if ray else None
    return validate(bundle, SPLITS, out, **{"names": NAMES, "progress": False, "ahead": tasks, **more})


def untimed(value):
    """A report as plain data without what was timed, and without when and where it was made."""
    timed = {"latency", "latency_ratio", "created", "places"}
    if isinstance(value, dict):
        return {name: untimed(each) for name, each in value.items() if name not in timed}
    return [untimed(each) for each in value] if isinstance(value, list) else value


def same(first, second):
    return untimed(first.model_dump(mode="json")) == untimed(second.model_dump(mode="json"))


@pytest.fixture(scope="module")
def local(bundle, tmp_path_factory, _few_ordinary_accounts):
    """The folder and the report of a local run."""
    folder = tmp_path_factory.mktemp("local")
    return folder, report(bundle, folder)


@pytest.fixture
def begun(local, tmp_path):
    """The folder of a validation that was stopped before its first attack."""
    kept = read_cells(local[0] / "cells")
    keep_cells(
        tmp_path / "cells", {name: each for name, each in kept.items() if "attack" not in json.loads(each)["settings"]}
    )
    return tmp_path


def test_the_report_is_that_of_a_local_run_and_every_run_was_done_by_a_task(bundle, worker, local, begun):
    there, (folder, alone) = worker(), local
    given = report(bundle, begun, ray=True)
    assert same(given, alone)
    assert sorted(there.ran) == sorted(NAMES)
    assert sorted(read_cells(begun / "cells")) == sorted(read_cells(folder / "cells"))
    fewer = given.model_copy(update={"findings": given.findings[:1]})
    assert not same(fewer, alone)


def test_a_task_that_fails_is_named_and_what_others_did_is_not_done_again(bundle, worker, local, begun):
    worker("fgsm")
    with pytest.raises(MedwardError, match=r"1 of 2 attacks could not be run \(fgsm: .*out of memory\)"):
        report(bundle, begun, ray=True)
    kept = read_cells(begun / "cells")
    assert 2 < len(kept) < len(read_cells(local[0] / "cells"))
    worker()
    assert same(report(bundle, begun, ray=True), local[1])
    assert all(read_cells(begun / "cells")[name] == content for name, content in kept.items())


def test_with_restart_nothing_old_is_taken_for_a_run(bundle, begun):
    def stop(plan, names, folder, say):
        raise MedwardError(f"{len(read_cells(folder))} kept, of {', '.join(names)}")

    (begun / "cells" / f"{'0' * 32}.json").write_text("{}")
    with pytest.raises(MedwardError, match="3 kept, of fgsm, membership-loss"):
        report(bundle, begun, ahead=stop)
    with pytest.raises(MedwardError, match="2 kept, of fgsm, membership-loss"):
        report(bundle, begun, ahead=stop, resume=False)


def test_a_worker_of_another_version_is_refused(bundle, worker, begun, monkeypatch):
    worker()
    found = iter([{"code": "old"}, {"code": "new"}, {"code": "newer"}])
    monkeypatch.setattr(ray_validation, "_versions", lambda: next(found))
    with pytest.raises(MedwardError, match=r"the worker has code new, this process old; install the same"):
        report(bundle, begun, ray=True)


def test_without_ray_a_sentence_says_what_to_install(bundle, begun, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MedwardError, match=r"pip install 'medward\[ray,validate\]'"):
        report(bundle, begun, ray=True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs medward[ray]")
def test_real_tasks_give_the_report_of_a_local_run(bundle, local, tmp_path):
    data = {f"{name}_{kind}": getattr(split, kind) for name, split in SPLITS.items() for kind in ("inputs", "labels")}
    np.savez(tmp_path / "data.npz", **data)
    words = ("validate", str(bundle.path), "--data", "data.npz", "--attacks", ",".join(NAMES), "--ray", "-o", "out")
    done = subprocess.run(
        [sys.executable, "-m", "medward", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr[-2000:]
    assert "2 attacks are 2 tasks of Ray, of 1 CPUs each" in done.stderr
    given = Report.model_validate_json((tmp_path / "out/report.json").read_text())
    judged = [untimed(each.model_dump(mode="json", exclude={"clean_cost"})) for each in given.findings]
    assert judged == [untimed(each.model_dump(mode="json", exclude={"clean_cost"})) for each in local[1].findings]
