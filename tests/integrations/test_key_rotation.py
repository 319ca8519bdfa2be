"""Keys that are replaced, shared by replicas, and told when they were last used."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from starlette.testclient import TestClient
from support.live_servers import listening
from support.processes import serving
from support.redis_server import DURABLE, running

from medward.guard.accounts.names import folded_name
from medward.guard.accounts.stores import MemoryStore, SQLiteStore
from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.errors import IntegrityError, MedwardError
from medward.guard.policy import Policy
from medward.integrations.cli import main
from medward.integrations.redis_store import RedisStore
from medward.integrations.serving import create_app
from medward.integrations.serving.key_places import SHARED_KEYS
from medward.integrations.serving.key_use import KeyUse, last_uses
from medward.integrations.serving.keys import KeyStore

WHO = ("hospital-a", "radiology")
BODY = {"inputs": [[0.5, -1.0, 2.0]]}


@pytest.fixture
def keys(tmp_path):
    return KeyStore(tmp_path / "state" / "keys.json")


def key_id(token):
    return token.split("_")[1]


@pytest.mark.parametrize("shared", [None, MemoryStore()], ids=["file", "store"])
def test_a_key_and_its_successor_are_both_valid_for_the_overlap(tmp_path, shared):
    keys = KeyStore(tmp_path / "keys.json", shared=shared)
    old = keys.add(WHO, scope="metrics")
    new = keys.rotate(key_id(old), overlap=timedelta(hours=1))
    first, second = keys.authenticate(old), keys.authenticate(new)
    assert first.id != second.id
    assert second.replaces == first.id
    assert (first.principal, first.scope) == (second.principal, second.scope) == (WHO, "metrics")
    assert second.expires is None
    assert not first.valid(datetime.now(UTC) + timedelta(hours=1, seconds=1))
    assert first.valid(datetime.now(UTC) + timedelta(minutes=59))


def test_a_successor_lives_as_long_as_the_old_key_was_given_and_the_old_one_no_longer_than_it_had(keys):
    old = keys.add(WHO, expires=datetime.now(UTC) + timedelta(days=30))
    new = keys.rotate(key_id(old), overlap=timedelta(days=90))
    first, second = keys.list()
    assert first.expires < datetime.now(UTC) + timedelta(days=31)
    assert timedelta(days=29) < second.expires - datetime.now(UTC) < timedelta(days=31)
    assert keys.authenticate(new)


def test_without_an_overlap_the_old_key_ends_at_once(keys):
    old = keys.add(WHO)
    new = keys.rotate(key_id(old), overlap=timedelta(0))
    assert keys.authenticate(old) is None
    assert keys.authenticate(new)


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ("revoked", "has ended"),
        ("rotated away", "has ended"),
        ("missing", "'beef' does not exist"),
        ("overlap", "overlap: must be >= 0"),
        ("expires", "must be in the future"),
    ],
)
def test_what_cannot_be_rotated_is_said_and_changes_nothing(keys, ended, said):
    old = keys.add(WHO)
    if ended == "revoked":
        keys.revoke(key_id(old))
    elif ended == "rotated away":
        keys.rotate(key_id(old), overlap=timedelta(0))
    before = keys.path.read_bytes()
    options = {
        "overlap": timedelta(seconds=-1 if ended == "overlap" else 60),
        "expires": datetime(2020, 1, 1, tzinfo=UTC) if ended == "expires" else None,
    }
    with pytest.raises(MedwardError, match=said):
        keys.rotate("beef" if ended == "missing" else key_id(old), **options)
    assert keys.path.read_bytes() == before


def test_a_file_of_an_older_release_loads_and_is_gone_on_with(keys):
    token = keys.add(WHO)
    said = json.loads(keys.path.read_text())
    for key in said["keys"]:
        del key["replaces"]
    keys.path.write_text(json.dumps({**said, "version": 1}))
    assert keys.authenticate(token).principal == WHO
    keys.add(WHO)
    assert keys.authenticate(token)
    keys.path.write_text(json.dumps({**said, "version": 3}))
    with pytest.raises(IntegrityError):
        keys.authenticate(token)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("h\u043espital-a", "mixes letters of two scripts"),  # a Cyrillic o
        ("hospit\u03b1l", "mixes letters of two scripts"),  # a Greek alpha
        ("\u0441\u043e\u0441\u043e", "looks like 'coco'"),  # all Cyrillic
    ],
)
def test_a_name_that_looks_like_another_is_not_given_out(keys, name, said):
    keys.add(("coco", "ward"))
    with pytest.raises(MedwardError, match=said):
        keys.add((name, "ward"))
    with pytest.raises(MedwardError, match=said):
        keys.add(("other", name) if "mixes" in said else (name,))


def test_names_of_another_script_and_of_science_are_given_out(keys):
    for name in (
        "\u0431\u043e\u043b\u044c\u043d\u0438\u0446\u0430",
        "\u03bcct",
        "\u03b2-hcg lab",
        "\u533b\u9662",
        "\u0441\u043e\u0441\u043e \u043a\u0442",
    ):
        assert keys.authenticate(keys.add((name,))).principal == (folded_name(name),)
    keys.add(("coco", "a"))
    keys.add(("other", "\u0441\u043e\u0441\u043e"))  # elsewhere in the tree it is another's name


def test_keys_open_their_own_scope_and_no_other(make_guard, keys):
    tokens = {scope: keys.add(WHO, scope=scope) for scope in ("predict", "metrics", "admin")}
    routes = {"predict": "/openapi.json", "metrics": "/metrics", "admin": "/admin/v1/keys"}
    with TestClient(create_app(make_guard(), keys=keys)) as client:
        for held, token in tokens.items():
            for needed, path in routes.items():
                status = client.get(path, headers={"X-API-Key": token}).status_code
                assert status == (200 if held == needed else 403), (held, needed)
        assert client.get("/admin/v1/keys").status_code == 401
        assert "/admin" not in client.get("/openapi.json", headers={"X-API-Key": tokens["predict"]}).text


def test_without_keys_there_is_no_administration(make_guard):
    with TestClient(create_app(make_guard(), keys=None)) as client:
        assert client.get("/admin/v1/keys").status_code == 404


def test_the_administration_lists_keys_without_what_opens_them(make_guard, keys):
    admin, used = keys.add(("site", "admin"), scope="admin"), keys.add(WHO)
    unused = keys.rotate(key_id(used), overlap=timedelta(hours=1))
    with TestClient(create_app(make_guard(store=MemoryStore()), keys=keys)) as client:
        client.app.state.service.guard.store.close = lambda: None
        assert client.post("/v1/predict", json=BODY, headers={"X-API-Key": used}).status_code == 200
        deadline = time.monotonic() + 20
        while True:
            reply = client.get("/admin/v1/keys", headers={"X-API-Key": admin})
            listed = {each["id"]: each for each in reply.json()["keys"]}
            if listed[key_id(used)]["last_used"] and listed[key_id(admin)]["last_used"]:
                break
            assert time.monotonic() < deadline
        assert listed[key_id(used)]["last_used"] == datetime.now(UTC).date().isoformat()
        assert listed[key_id(unused)]["last_used"] is None
        assert listed[key_id(unused)]["replaces"] == key_id(used)
        assert "digest" not in reply.text
        assert not any(token.rpartition("_")[2] in reply.text for token in (admin, used, unused))


def test_a_day_of_use_is_written_once_and_a_store_that_is_away_delays_nobody(caplog):
    class Counting(MemoryStore):
        writes = 0

        def transact(self, key, step, *, ttl=None):
            self.writes += 1
            return super().transact(key, step, ttl=ttl)

    store = Counting()
    use = KeyUse(store)
    for _ in range(9):
        use.note("1")
        use.note("2")
    use.close()
    assert store.writes == 2
    assert set(last_uses(store)) == {"1", "2"}
    store.close()
    broken = KeyUse(SQLiteStore(":memory:"))
    broken._store.close()
    broken.note("1")
    broken.close()
    assert "when key 1 was last used is not written" in caplog.text


@pytest.fixture
def redis(tmp_path):
    (tmp_path / "redis").mkdir()
    with running(tmp_path / "redis", *DURABLE) as server:
        yield server


def test_every_replica_knows_shared_keys_and_sees_a_revocation_within_a_second(make_guard, redis, tmp_path):
    """The bound is what `KeyStore.holder` states: checked with its own clock, over two live servers."""
    operator = KeyStore(tmp_path / "operator.json", shared=RedisStore(redis.url))
    token, other = operator.add(WHO), operator.add(("hospital-b",))
    assert not operator.path.exists()
    stores = [RedisStore(redis.url) for _ in range(2)]
    apps = [
        create_app(make_guard(store=store), keys=KeyStore(tmp_path / f"{number}.json", shared=store))
        for number, store in enumerate(stores)
    ]
    with listening(apps[0]) as first, listening(apps[1]) as second, httpx.Client() as client:

        def statuses(key):
            head = {"X-API-Key": key}
            return [
                client.post(f"{live.url}/v1/predict", json=BODY, headers=head).status_code for live in (first, second)
            ]

        assert statuses(token) == statuses(other) == [200, 200]
        operator.revoke(key_id(token))
        time.sleep(1.0)
        assert statuses(token) == [401, 401]
        new = operator.rotate(key_id(other), overlap=timedelta(0))
        time.sleep(1.0)
        assert statuses(other) == [401, 401]
        assert statuses(new) == [200, 200]
    operator.shared.close()


def test_shared_keys_that_cannot_be_read_open_nothing_and_are_an_outage(make_guard, redis, tmp_path):
    """A host's own keys go on; a shared one is 503 and not 401, also where the policy answers without the store."""
    store = RedisStore(redis.url, timeout=0.4)
    keys = KeyStore(tmp_path / "keys.json", shared=store)
    shared, own = keys.add(WHO), KeyStore(keys.path).add(("local",))
    app = create_app(make_guard(Policy(on_error="flag"), store=store), keys=keys)
    with TestClient(app, raise_server_exceptions=False) as client:

        def ask(token):
            return client.post("/v1/predict", json=BODY, headers={"X-API-Key": token}).status_code

        assert [ask(shared), ask(own)] == [200, 200]
        redis.freeze()
        time.sleep(1.0)
        assert [ask(shared), ask(own)] == [503, 200]
        redis.stop()
        redis.start()
        store.transact(SHARED_KEYS, lambda _: ("no keys", None))
        with pytest.raises(IntegrityError, match="are no keys"):
            keys.list()


def test_the_commands_make_rotate_list_and_revoke_shared_keys(redis, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MEDWARD_STORE", redis.url)
    state = tmp_path / "state"

    def medward(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["keys", *arguments, "--state", str(state)])
        out, err = capsys.readouterr()
        assert done.value.code == 0, err
        return out.strip()

    old = medward("add", "hospital-a/key-1", "--scope", "admin")
    new = medward("rotate", key_id(old), "--overlap-hours", "2")
    medward("revoke", key_id(old))
    listed = medward("list").splitlines()
    assert [line.split()[:3] for line in listed] == [[key_id(each), "hospital-a/key-1", "admin"] for each in (old, new)]
    assert "revoked" in listed[0]
    assert f"no end  not used  replaces {key_id(old)}" in listed[1]
    assert not (state / "keys.json").exists()
    monkeypatch.delenv("MEDWARD_STORE")
    assert medward("list") == "", "a host that shares no store knows nothing of them"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    rows = np.random.default_rng(7).normal(size=(400, 3)).astype(np.float32)
    model = LogisticRegression().fit(rows, rows[:, 0] > 0)
    path = tmp_path_factory.mktemp("rotated") / "bundle"
    return protect(model, Split(rows), Policy(on_error="withhold"), path, classes=("no", "yes"))


def test_a_running_server_takes_rotated_keys_and_tells_their_use(bundle, tmp_path, capsys):
    with serving(bundle.path, tmp_path, "--drain", "0") as server:
        keys = KeyStore(server.state / "keys.json")
        old = keys.add(WHO)
        with pytest.raises(SystemExit):
            main(["keys", "rotate", key_id(old), "--state", str(server.state)])
        new = capsys.readouterr().out.strip()
        for token in (old, new):
            reply = httpx.post(f"{server.url}/v1/predict", json=BODY, headers={"X-API-Key": token})
            assert reply.status_code == 200
        keys.revoke(key_id(old))
        reply = httpx.post(f"{server.url}/v1/predict", json=BODY, headers={"X-API-Key": old})
        assert reply.status_code == 401
        server.process.terminate()
        server.process.wait(60)
    with pytest.raises(SystemExit):
        main(["keys", "list", "--state", str(server.state)])
    today = datetime.now(UTC).date()
    assert capsys.readouterr().out.count(f"used {today}") == 2
