"""Answers leave the endpoint once their records are on the disk; no worker waits for that, and many share one fsync."""

from __future__ import annotations

import errno
import os
import threading

import anyio
import httpx
import pytest

from medward.guard.audit.log import AuditLog, read_log
from medward.guard.policy import Policy
from medward.integrations.serving import Limits, create_app

BODY = {"inputs": [[0.5, -1.0, 2.0]]}


class Disk:
    """A disk whose fsync waits for `release`, and then fails with `error` if there is one."""

    def __init__(self):
        self.release, self.begun, self.syncs, self.error = threading.Event(), threading.Event(), 0, None


@pytest.fixture
def disk(monkeypatch, tmp_path):
    slow, fsync = Disk(), os.fsync

    def held(file):
        if not os.path.samestat(os.fstat(file), (tmp_path / "audit.jsonl").stat()):
            return fsync(file)
        slow.syncs += 1
        slow.begun.set()
        assert slow.release.wait(30)
        if slow.error is not None:
            raise slow.error
        return fsync(file)

    monkeypatch.setattr(os, "fsync", held)
    return slow


@pytest.fixture
def ask(make_guard, tmp_path):
    """Ask `count` at once of one worker; `meanwhile` is called with the responses so far."""

    def asked(count, meanwhile, on_error="withhold", **limits):
        guard = make_guard(Policy(on_error=on_error), audit=AuditLog(tmp_path / "audit.jsonl", fsync=True))
        app = create_app(guard, keys=None, limits=Limits(workers=1, **limits))
        responses = []

        async def main():
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

                async def post():
                    responses.append(await client.post("/v1/predict", json=BODY))

                with anyio.fail_after(30):
                    async with anyio.create_task_group() as tasks:
                        for _ in range(count):
                            tasks.start_soon(post)
                        await meanwhile(app.state.service, responses)

        anyio.run(main)
        return responses

    return asked


async def until(true):
    while not true():
        await anyio.sleep(0.002)


def test_one_worker_answers_many_while_the_disk_is_slow_and_none_leaves_before_its_fsync(ask, disk, tmp_path):
    async def meanwhile(service, responses):
        await until(disk.begun.is_set)
        waiting = service.guard.audit._group._waiting
        await until(lambda: len(waiting) == 11)  # the other eleven were answered by the one worker, and wait
        assert not responses
        assert disk.syncs == 1
        disk.release.set()

    responses = ask(12, meanwhile)
    assert [each.status_code for each in responses] == [200] * 12
    assert disk.syncs == 2
    kept = [record["query"] for record in read_log(tmp_path / "audit.jsonl")]
    assert sorted(kept) == sorted(each.json()["id"] for each in responses)


@pytest.mark.parametrize(("on_error", "status"), [("withhold", 503), ("flag", 200)])
def test_a_disk_that_fails_is_handled_for_every_waiting_answer_as_the_policy_says(
    ask, disk, tmp_path, on_error, status
):
    disk.error = OSError(errno.EIO, os.strerror(errno.EIO))

    async def meanwhile(service, responses):
        await until(disk.begun.is_set)
        disk.release.set()

    responses = ask(6, meanwhile, on_error)
    assert [each.status_code for each in responses] == [status] * 6
    assert not list(read_log(tmp_path / "audit.jsonl"))


def test_a_disk_that_hangs_is_503_after_the_deadline_and_not_a_place_forever(ask, disk):
    async def meanwhile(service, responses):
        await until(lambda: len(responses) == 3)
        assert service.pool.jobs == 0
        disk.release.set()

    responses = ask(3, meanwhile, deadline=0.5)
    assert [each.status_code for each in responses] == [503] * 3
    assert all("not on record within 0.5 s" in each.json()["detail"] for each in responses[:1])
