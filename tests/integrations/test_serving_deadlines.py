"""Requests that wait or run too long, clients that leave, models that hang, servers that stop."""

from __future__ import annotations

import asyncio
import json
import signal
import threading

import anyio
import httpx
import pytest
from support.live_servers import WaitingModel, listening, wait_until
from support.report_models import report_images, report_model, report_policy

from medward.guard.audit.record import REJECTED
from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.integrations.serving import Limits, create_app, health, service
from medward.integrations.serving.pool import Pool
from medward.integrations.serving.served_guard import ServedGuard
from medward.integrations.serving.work import GivenUp

ROW = [0.5, -1.0, 2.0]
BODY = json.dumps({"inputs": [ROW]}).encode()
READY = ("/readyz", "/v2/health/ready", "/v2/models/linear/ready")
BUDGET = Policy(on_error="withhold", budget={"daily_bits": 1000})


class Records(list):
    """Records of what was asked; that others were refused is on record too, and tested elsewhere."""

    def append(self, record):
        if record.get("event") != REJECTED:
            super().append(dict(record))


class Asked:
    """One request as a server of ASGI sees it, whose client may leave at any moment."""

    def __init__(self, app, headers=()):
        self._app, self.sent, self._left = app, [], asyncio.Event()
        self._body = [{"type": "http.request", "body": BODY, "more_body": False}]
        kind = (b"content-type", b"application/json")
        self._scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/v1/predict", "raw_path": b"/v1/predict", "query_string": b"", "root_path": "",
            "headers": [kind, *headers], "server": ("test", 80), "client": ("test", 1),
        }  # fmt: skip

    async def __call__(self):
        async def receive():
            if self._body:
                return self._body.pop()
            await self._left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            self.sent.append(message)

        await self._app(self._scope, receive, send)

    def leave(self):
        self._left.set()

    @property
    def status(self):
        return self.sent[0]["status"] if self.sent else None

    @property
    def detail(self):
        return json.loads(b"".join(message.get("body", b"") for message in self.sent))["detail"]

    @property
    def retry_after(self):
        return dict(self.sent[0]["headers"]).get(b"retry-after")


@pytest.fixture
def made(make_guard, linear_model):
    """An app of a model that waits, its log, and what its account was charged."""

    def make(policy=BUDGET, **limits):
        model, records = WaitingModel(linear_model.spec), Records()
        guard = make_guard(policy, model=model, audit=records)
        return create_app(guard, keys=None, limits=Limits(workers=1, queue=3, **limits)), model, records, guard

    return make


def states(guard):
    """Everything that was counted or charged, as the store keeps it."""
    return {key: text for key, (text, _) in guard.store._states.items()}


def run(main):
    async def bounded():
        with anyio.fail_after(30):
            await main()

    anyio.run(bounded)


async def until(true):
    while not true():
        await anyio.sleep(0.001)


@pytest.fixture
def deadline(monkeypatch):
    """The deadline of every request, whatever its length: it ends when the test sets it."""
    ends = threading.Event()

    async def first_of(*futures, within):
        while not ends.is_set() and not any(each.done() for each in futures):
            await anyio.sleep(0.001)

    monkeypatch.setattr(service, "_first_of", first_of)
    return ends


def refused(app, reason):
    return app.state.service.metrics._refused.labels(reason)._value.get()


def test_who_leaves_while_waiting_has_not_asked(made):
    """The control is the one behind it in the queue, who stays."""
    app, model, records, guard = made()

    async def main():
        first, leaving, staying = Asked(app), Asked(app), Asked(app)
        async with anyio.create_task_group() as tasks:
            for number, each in enumerate((first, leaving, staying)):
                tasks.start_soon(each)
                await until(lambda number=number: app.state.service.pool.jobs > number)
            await until(lambda: model.asked)
            leaving.leave()
            await until(lambda: app.state.service.pool.jobs == 2)
            model.go.set()
        assert (first.status, leaving.status, staying.status) == (200, None, 200)

    run(main)
    assert len(model.asked) == len(records) == 2
    assert json.loads(states(guard)["anonymous"])["e-process"]["n"] == 2
    assert (refused(app, "left"), app.state.service.pool.jobs) == (1, 0)


def test_who_leaves_once_the_model_was_asked_is_charged_and_on_record_once(made):
    app, model, records, guard = made()

    async def main():
        leaving = Asked(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leaving)
            await until(lambda: model.asked)
            leaving.leave()
            await until(lambda: not app.state.service.pool.jobs)
            assert not records
            model.go.set()
            await until(lambda: records and not app.state.service.pool._running)
        assert leaving.status is None

    run(main)
    assert len(model.asked) == len(records) == 1
    assert json.loads(states(guard)["anonymous"])["e-process"]["n"] == 1
    assert refused(app, "left") == 0


def test_a_deadline_that_ends_is_503_and_says_whether_anything_was_asked(made, deadline):
    """What waited is neither charged nor on record, what the model was asked is, once."""
    app, model, records, guard = made(deadline=60)

    async def main():
        running, waiting = Asked(app), Asked(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running)
            await until(lambda: model.asked)
            tasks.start_soon(waiting)
            await until(lambda: app.state.service.pool.jobs == 2)
            deadline.set()
        assert (running.status, waiting.status) == (503, 503)
        assert running.retry_after == waiting.retry_after == b"5"
        assert running.detail == "there was no answer within 60 s; what was asked is on record and charged"
        assert waiting.detail == "there was no answer within 60 s; nothing was asked or charged"
        assert not records
        deadline.clear()
        model.go.set()
        await until(lambda: not app.state.service.pool._running)
        after = Asked(app)
        await after()
        assert after.status == 200

    run(main)
    assert len(model.asked) == len(records) == 2
    assert json.loads(states(guard)["anonymous"])["e-process"]["n"] == 2
    assert refused(app, "deadline") == 2


def test_the_deadline_is_that_of_the_limits(made):
    """The one with a clock of its own: however slow the machine, it ends, since nothing else would end it."""
    app, model, *_ = made(deadline=0.05)

    async def main():
        late = Asked(app)
        await late()
        assert late.status == 503
        assert late.detail.startswith("there was no answer within 0.05 s; ")
        model.go.set()
        await until(lambda: not app.state.service.pool._running)

    run(main)


def test_work_is_begun_or_given_up_and_never_both():
    async def main():
        pool, asked, go = Pool(Limits(workers=1)), [], threading.Event()

        def read_slowly(work):
            assert go.wait(20)  # as one decodes a large image
            work.begin()
            asked.append(1)

        work = pool.submit("a", read_slowly)
        assert pool.give_up(work)
        go.set()
        await until(lambda: not pool._running)
        assert not asked
        kept = pool.submit("a", read_slowly)
        await kept.outcome
        assert asked == [1]
        assert not pool.give_up(kept)
        with pytest.raises(GivenUp):
            work.begin()

    run(main)


def test_what_comes_of_work_that_was_given_up_is_let_go_of_once():
    async def main():
        pool, go, released = Pool(Limits(workers=1)), threading.Event(), []

        def open_something(work):
            work.begin()
            assert go.wait(20)
            return "a stream"

        work = pool.submit("a", open_something, released.append)
        await until(lambda: work._begun)
        assert not pool.give_up(work)
        go.set()
        await until(lambda: released and not pool._running)
        assert released == ["a stream"]
        assert await pool.submit("a", open_something, released.append).outcome == "a stream"
        assert released == ["a stream"]

    run(main)


def test_a_report_whose_reader_left_before_it_began_is_closed_on_record():
    """The query was judged and recorded as admitted; its end is recorded, too."""
    model, records, prefilled, go = report_model(), Records(), threading.Event(), threading.Event()
    profile = Profile.fit(model, report_images(400, 1), risk=0.001)
    guard = Guard(
        model=model, profile=profile, policy=report_policy(screen={"action": "allow"}), audit=records, salt=b"s"
    )
    app = create_app(guard, keys=None)
    stream = guard.stream

    def slowly(query):
        prefilled.set()
        assert go.wait(20)
        return stream(query)

    app.state.service.place.now = ServedGuard(type("Slow", (), {"stream": staticmethod(slowly)})(), "1")

    async def main():
        leaving = Asked(app, [(b"accept", b"text/event-stream")])
        leaving._body[0]["body"] = json.dumps({"inputs": report_images(1, 5).tolist()}).encode()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leaving)
            await until(prefilled.is_set)
            leaving.leave()
            await until(lambda: not app.state.service.pool.jobs)
            go.set()
            await until(lambda: not app.state.service.pool._running)
        assert leaving.status is None

    run(main)
    assert [record.get("ended") for record in records] == [None, "stopped"]
    assert records[1]["query"] == records[0]["query"]


# Models that hang


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hung_model_turns_readiness_red_and_says_so(make_guard, linear_model, monkeypatch, workers):
    monkeypatch.setattr(health, "SECONDS_KEPT", 0.0)
    model, clock = WaitingModel(linear_model.spec), Clock()
    app = create_app(make_guard(model=model), keys=None, limits=Limits(workers=workers, queue=3, deadline=60))
    pool = app.state.service.pool
    pool.clock = clock

    async def main():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            async def statuses():
                return [(await client.get(path)).status_code for path in (*READY, "/healthz", "/v2/health/live")]

            async with anyio.create_task_group() as tasks:
                stuck = [Asked(app) for _ in range(workers)]
                for number, each in enumerate(stuck):
                    tasks.start_soon(each)
                    await until(lambda number=number: len(model.asked) > number)
                    assert await statuses() == [200] * 5
                    clock.now += 59
                    assert await statuses() == [200] * 5, "it may take that long"
                    clock.now += 2
                    if number + 1 < workers:
                        assert (await client.get("/readyz")).json()["notes"] == ["1 of 2 threads hang in the model"]
                assert await statuses() == [503, 503, 503, 200, 200]
                told = await client.get("/readyz")
                assert "the model has not answered for longer than the deadline" in told.json()["detail"]
                assert told.headers["retry-after"] == "30"
                late = Asked(app)
                await late()  # at once, instead of waiting for its own deadline
                assert (late.status, late.retry_after) == (503, b"30")
                model.go.set()
            assert [each.status for each in stuck] == [200] * workers
            assert await statuses() == [200] * 5

    run(main)
    assert refused(app, "hung") == 1


def test_a_thread_that_was_given_up_on_stays_busy(made, deadline):
    """So a hung model never holds more threads than there are workers."""
    app, model, *_ = made()
    pool = app.state.service.pool

    async def main():
        for _ in range(3):
            late = Asked(app)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(late)
                await until(lambda: pool.jobs and model.asked)
                deadline.set()
            assert late.status == 503
            deadline.clear()
        assert len(model.asked) == len(pool._running) == 1
        model.go.set()
        await until(lambda: not pool._running)

    run(main)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_model_that_would_end_the_process_ends_its_request_alone(make_guard, linear_model, error):
    class Ending:
        spec = linear_model.spec

        def predict(self, inputs):
            if inputs[0, 0] == 0.5:
                raise error
            return linear_model.predict(inputs)

    app = create_app(make_guard(model=Ending()), keys=None)

    async def main():
        ending = Asked(app)
        await ending()
        assert ending.status == 503
        after = Asked(app)
        after._body[0]["body"] = b'{"inputs": [[0, 0, 0]]}'
        await after()
        assert after.status == 200

    run(main)


# Stopping


def test_sigterm_makes_it_not_ready_first_and_stops_it_later(make_guard):
    """Requests are answered meanwhile; SIGINT does not wait."""
    app, clock = create_app(make_guard(), keys=None, limits=Limits(drain=30)), Clock()
    with listening(app) as live:
        live.server._clock = clock
        with httpx.Client(base_url=live.url, headers={"Content-Type": "application/json"}) as client:
            assert client.get("/readyz").status_code == 200
            live.server.handle_exit(signal.SIGTERM, None)
            for path in READY:
                assert (client.get(path).status_code, client.get("/healthz").status_code) == (503, 200)
            assert "stopping" in client.get("/readyz").json()["detail"]
            assert client.post("/v1/predict", content=BODY).status_code == 200
            clock.now += 29
            assert client.post("/v1/predict", content=BODY).status_code == 200
            assert not live.server.should_exit
            clock.now += 2
            wait_until(lambda: live.server.should_exit)


@pytest.mark.parametrize(
    ("signals", "drain"), [((signal.SIGINT,), 30), ((signal.SIGTERM,) * 2, 30), ((signal.SIGTERM,), 0)]
)
def test_who_cannot_wait_stops_it_at_once(make_guard, signals, drain):
    app = create_app(make_guard(), keys=None, limits=Limits(drain=drain))
    with listening(app) as live:
        for sent in signals:
            live.server.handle_exit(sent, None)
        assert live.server.should_exit
