"""Every limit of `medward serve` by flag, by environment variable and by file."""

from __future__ import annotations

from dataclasses import fields

import pytest

from medward.integrations import serving
from medward.integrations.cli import main
from medward.integrations.serving.identity.settings import IdentitySettings
from medward.integrations.serving.limits import Limits

OTHER = {int: 7, float: 0.25, str: "5/minute"}


@pytest.fixture
def served(monkeypatch):
    """Run ``medward serve``: the limits that the server gets, or another `part` of its settings, or the exit code."""
    found = []
    monkeypatch.setattr(serving, "serve_bundle", lambda bundle, **options: found.append(options), raising=False)

    def run(*arguments, part="limits"):
        found.clear()
        with pytest.raises(SystemExit) as done:
            main(["serve", "bundle", *map(str, arguments)])
        return found[0][part] if found else done.value.code

    return run


def other(bound):
    return OTHER[type(bound.default)]


def test_without_options_the_limits_are_those_of_the_class(served):
    assert served() == Limits()


@pytest.mark.parametrize("bound", fields(Limits), ids=lambda bound: bound.name)
def test_a_limit_is_a_flag_a_variable_and_a_line_in_a_file(served, tmp_path, monkeypatch, bound):
    value, wanted = other(bound), Limits(**{bound.name: other(bound)})
    assert wanted != Limits()
    flag = f"--{bound.name.replace('_', '-')}"
    assert served(flag, value) == wanted
    for name in (bound.name, bound.name.replace("_", "-")):
        (tmp_path / "serve.toml").write_text(f"{name} = {value!r}\n".replace("'", '"'))
        assert served("--config", tmp_path / "serve.toml") == wanted
    monkeypatch.setenv(f"MEDWARD_SERVE_{bound.name.upper()}", str(value))
    assert served() == wanted


def test_the_command_line_beats_the_environment_which_beats_the_file(served, tmp_path, monkeypatch):
    (tmp_path / "serve.toml").write_text("workers = 3\nqueue = 4\nrows = 5\n")
    monkeypatch.setenv("MEDWARD_SERVE_CONFIG", str(tmp_path / "serve.toml"))
    monkeypatch.setenv("MEDWARD_SERVE_QUEUE", "6")
    monkeypatch.setenv("MEDWARD_SERVE_ROWS", "7")
    assert served("--rows", 8) == Limits(workers=3, queue=6, rows=8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("worker = 3", "'worker' is no limit; one of workers, queue, "),
        ("workers = 'many'", "workers must be of type int, got 'many'"),
        ("workers = true", "workers must be of type int, got True"),
        ("workers = 2.5", "workers must be of type int, got 2.5"),
        ("workers = ", "not TOML"),
        ("workers = 0", "limits.workers must be >= 1, got 0"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_a_sentence(served, tmp_path, capsys, content, said):
    if content is not None:
        (tmp_path / "serve.toml").write_text(content)
    assert served("--config", tmp_path / "serve.toml") == 3
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [(("--workers", "x"), "--workers"), (("--share", 2), "limits.share")])
def test_a_flag_that_is_wrong_is_refused_with_a_sentence(served, capsys, arguments, said):
    assert served(*arguments) == 3
    assert said in capsys.readouterr().err


def test_a_variable_that_is_wrong_is_named(served, capsys, monkeypatch):
    monkeypatch.setenv("MEDWARD_SERVE_DEADLINE", "soon")
    assert served() == 3
    assert "MEDWARD_SERVE_DEADLINE" in capsys.readouterr().err


def test_help_says_every_limit_and_its_variable(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    said = capsys.readouterr().out
    for bound in fields(Limits):
        assert f"--{bound.name.replace('_', '-')}" in said
        assert f"MEDWARD_SERVE_{bound.name.upper()}" in said
        assert bound.metadata["help"][:40] in said


IDENTITY = {
    "issuer": "https://login.example",
    "audience": "https://medward.example",
    "jwks": "https://login.example/keys",
    "algorithms": "PS256",
    "organisation": "hospital-a",
    "claims": "azp fhirUser",
    "predict_scopes": "system/Observation.c",
    "metrics_scopes": "medward/metrics",
    "admin_scopes": "medward/admin",
    "leeway": 7.0,
    "life": 600.0,
    "fresh": 60.0,
    "stale": 120.0,
}


def flags(settings):
    return [part for name, value in settings.items() for part in (f"--identity-{name.replace('_', '-')}", value)]


def test_every_setting_of_identity_is_a_flag_a_variable_and_a_line_in_its_table(served, tmp_path, monkeypatch):
    assert set(IDENTITY) == {each.name for each in fields(IdentitySettings)}
    wanted = IdentitySettings(**IDENTITY)
    lines = [f"{name.replace('_', '-')} = {value!r}" for name, value in IDENTITY.items() if name != "claims"]
    file = tmp_path / "serve.toml"
    file.write_text("\n".join(["workers = 3", "[identity]", 'claims = ["azp", "fhirUser"]', *lines]))
    assert served("--config", file, part="identity") == wanted
    assert served("--config", file) == Limits(workers=3)
    assert served(*flags(IDENTITY), part="identity") == wanted
    for name, value in IDENTITY.items():
        monkeypatch.setenv(f"MEDWARD_SERVE_IDENTITY_{name.upper()}", str(value))
    assert served(part="identity") == wanted


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("identity = 3", "[identity] must be a table, got 3"),
        ("[identity]\nissuers = 'x'", "[identity]: 'issuers' is no setting; one of issuer, audience, "),
        ("[identity]\nleeway = '30'", "[identity]: leeway must be of type float, got '30'"),
        ("[identity]\nclaims = ['a', 1]", "[identity]: claims must be of type str"),
        ("[identity]\nissuer = 'https://login.example'", "identity.audience: is needed"),
        ("[other]\nx = 1", "'other' is no limit"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_a_sentence(served, tmp_path, capsys, content, said):
    (tmp_path / "serve.toml").write_text(content)
    assert served("--config", tmp_path / "serve.toml") == 3
    assert said in capsys.readouterr().err


def test_tokens_and_no_keys_at_once_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as done:
        main(
            [
                "serve",
                str(tmp_path),
                "--no-keys",
                *flags(IDENTITY | {"leeway": "1", "life": "600", "fresh": "60", "stale": "60"}),
            ]
        )
    assert done.value.code == 3
    assert "leave --no-keys out" in capsys.readouterr().err


def test_an_archive_is_a_flag_or_a_variable_and_its_secret_a_variable_only(served, monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(serving, "serve_bundle", lambda bundle, **options: found.append(options), raising=False)
    monkeypatch.setenv("MEDWARD_SOURCE_AUTHORIZATION", "Bearer t0ken")
    served("--source", "https://archive.example/dicom-web", "--source-mib", 3, "--fhir", tmp_path / "fhir.toml")
    monkeypatch.setenv("MEDWARD_SERVE_SOURCE", "https://other.example/dicom-web")
    served()
    first, second = (each["source"] for each in found)
    assert (first.url, first.authorization) == ("https://archive.example/dicom-web", "Bearer t0ken")
    assert (first.most_bytes, first.seconds) == (3 * 2**20, 60.0)
    assert second.url == "https://other.example/dicom-web"
    assert found[0]["fhir"] == tmp_path / "fhir.toml"
    monkeypatch.delenv("MEDWARD_SERVE_SOURCE")
    served()
    assert (found[2]["source"], found[2]["fhir"]) == (None, None)


@pytest.mark.parametrize("url", ["archive.example", "https://user:password@archive.example"])
def test_an_archive_s_wrong_address_is_a_sentence_without_it(served, capsys, url):
    assert served("--source", url) == 3
    assert "source: must" in (said := capsys.readouterr().err)
    assert "password@" not in said
