"""The Python and sh blocks of the quickstart and of README are typed here, and answer as the page says.

Installation, make, and what stands in text blocks (README's lines for images) are not.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"# (\w+\.py)\n")
MAKE = re.compile(r"^(make \w+|pip install .*?) *$", re.MULTILINE)


def blocks(page):
    """The code blocks of a page, language and text."""
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def typed(script, folder):
    """What bash prints, typing `script` in `folder` with this environment's commands; any failure ends it."""
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        ["bash", "-m", "-e", "-o", "pipefail", "-c", script.replace("8000", str(port))],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """The quickstart, typed from top to bottom."""
    folder = tmp_path_factory.mktemp("quickstart")
    script = []
    for language, text in blocks("docs/quickstart.md"):
        if language == "python":
            (folder / NAMED.match(text)[1]).write_text(text)
        elif language == "sh":
            script.append(text)
    return folder, typed("\n".join(script), folder)


def test_the_quickstart_goes_from_nothing_to_an_answer_over_http(journey):
    folder, printed = journey
    assert re.search(r"classes .*benign \d+.*malignant \d+", printed), "what was understood is printed"
    assert "P(ever withhold a benign account) <= 0.0001" in printed
    assert re.search(r"\('(benign|malignant)', '(benign|malignant)'\)", printed), "decisions are class names"
    assert re.search(r'"labels":\["(benign|malignant)"\]', printed), "the answer over HTTP"
    for made in ("bundle/model.onnx", "report/report.html", "state/audit.jsonl"):
        assert (folder / made).exists()


def test_the_eight_lines_of_readme_answer_and_its_commands_run(journey):
    folder, _ = journey
    code = [text for language, text in blocks("README.md") if language == "python"]
    assert len(code) == 1
    assert len([line for line in code[0].splitlines() if line.strip()]) <= 8
    (folder / "readme.py").write_text(code[0])
    commands = "\n".join(text for language, text in blocks("README.md") if language == "sh")
    commands = MAKE.sub("", re.sub(r"#.*", "", commands))
    assert "medward serve" in commands
    served = commands.replace("medward serve", "timeout 4 medward serve")
    script = f"rm -rf bundle state report\npython readme.py\nrm -rf bundle\n{served}"
    script = re.sub(r"(medward validate .*)", r"\1 || test $? -le 2", script)
    printed = typed(re.sub(r"(timeout 4 .*)", r"\1 || test $? = 124", script), folder)
    assert re.search(r"\('(benign|malignant)', '(benign|malignant)'\)", printed)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_link_of_a_page_outside_the_site_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert page != "README.md" or links
    assert [each for each in links if "://" not in each and not (ROOT / each).exists()] == []


def test_readme_fits_on_a_page_or_two():
    assert len((ROOT / "README.md").read_bytes()) <= 6 * 1024
