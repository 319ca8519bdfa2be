"""What the repository says about itself is fresh, short and free of one machine's traces."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "tests" / "benchmarks"
MACHINE = re.compile(
    r"(?<![\w./-])/(?:work|root|home|tmp|Users)/[\w.]|\bpypi\.\w|\bfiles\.python\w+\.|--index-url|https?://[\w.]*(?:mirror|proxy|index)"
)
SLASH = "/"  # so that this file holds no machine path itself
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".j2", ".cfg", ".yml", ".yaml", ".sh", ""}


def tracked():
    """The files git keeps, or would; this one holds the patterns themselves."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in done.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path != Path(__file__).resolve()]


@pytest.fixture(scope="module")
def render():
    spec = importlib.util.spec_from_file_location("render", ROOT / "docs" / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_s_tables_are_rendered_from_the_results(render):
    assert render.main(["--check"]) == 0, "run `make readme`"


CLAIM = {"claim": "fuzz_of_x", "value": 0.123456, "interval": [0.1, 0.2], "target": "<= 1", "n": 7, "met": False}
ARM = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8}
FINDING = {"attack": "uap", "measure": "fooled", "status": "BROKEN", "undefended": ARM} | dict.fromkeys(
    ("baseline", "guarded", "adaptive")
)


def test_tables_are_filled_from_results_and_the_text_around_them_is_kept(render, tmp_path, monkeypatch):
    monkeypatch.setattr(render, "RESULTS", tmp_path)
    (tmp_path / "demo_seconds.json").write_text(json.dumps({**CLAIM, "details": {"findings": [FINDING]}}))
    text = "a\n<!-- table:claims -->\nstale\n<!-- /table -->\nb\n<!-- table:demo -->\n<!-- /table -->\nc\n"
    fresh = render.rendered(text)
    assert "| fuzz of x | 0.1235 | 0.1 to 0.2 | <= 1 | 7 | **no** |" in fresh
    assert "| uap | fooled | 0.50 (0.25 to 0.75) |  |  |  | BROKEN |" in fresh
    assert "stale" not in fresh
    assert re.sub(r"\|.*\|\n", "", fresh) == text.replace("stale\n", "")
    assert render.rendered(fresh) == fresh


def test_a_missing_result_is_named(render, tmp_path, monkeypatch):
    monkeypatch.setattr(render, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match=r"demo_seconds\.json is missing"):
        render.rendered("<!-- table:demo -->\n<!-- /table -->")


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) < 60


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-flower.txt"])
def test_constraints_are_pins_without_addresses(name):
    lines = (ROOT / name).read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert not [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[\w.!]+", line)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"see {SLASH}work{SLASH}shared", True),
        (f'Path("{SLASH}root{SLASH}x")', True),
        (f"https:{SLASH}{SLASH}{'.'.join(['pypi', 'org'])}", True),
        (f"https:{SLASH}{SLASH}{'.'.join(['files', 'python' + 'hosted', 'org'])}", True),
        ("/v1/predict", False),
        ("framework/working/x", False),
        ("tests/home/page", False),
    ],
)
def test_traces_of_a_machine_are_recognised(text, found):
    assert bool(MACHINE.search(text)) is found


def test_no_file_holds_a_machine_s_path_or_a_registry():
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        if path.suffix in TEXT and (match := MACHINE.search(path.read_text(encoding="utf-8")))
    ]
    assert not found


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_says_what_it_measures(path):
    module = ast.parse(path.read_text())
    said = ast.get_docstring(module)
    assert said
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    names = {ast.unparse(each) for node in module.body if isinstance(node, ast.Assign) for each in node.targets}
    assert ("measure" in functions) is ("CLAIMS" in names), "a module is a benchmark with both, a helper with neither"
    if "measure" not in functions:
        return
    first = said.splitlines()[0]
    assert first.endswith("."), "`make bench` lists the first line, so it must be a whole sentence"
    assert ast.unparse(functions["measure"].returns) == "Iterator[Claim]"
    assert not functions["measure"].args.args
