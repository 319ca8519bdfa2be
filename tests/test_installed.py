"""The real wheel in a clean environment, beside a user's own files that are called as our folders are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest
from support.arrows import ROOT, copy

USER = {"guard.py": "mine = True\n", "integrations/__init__.py": "", "attacks.py": "raise RuntimeError('not this')\n"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    copy(folder)
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, folder]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = out.glob("medward-*.whl")
    return found


def test_the_wheel_holds_one_top_level_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"medward"}
    text = "medward/guard/release/text"
    data = (f"{text}/languages/en.toml", f"{text}/lexicons/given_en.txt", f"{text}/lexicons/PROVENANCE.md")
    for wanted in ("medward/py.typed", "medward/guard/pipeline.py", "medward/attacks/report/report.html.j2", *data):
        assert wanted in names


def test_a_user_s_files_of_the_same_names_break_nothing(wheel, tmp_path):
    """Our packages come from the wheel, what they need from this environment."""
    venv.create(tmp_path / "venv", with_pip=False)
    site = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    theirs = subprocess.run(
        [sys.executable, "-c", "import numpy, pathlib; print(pathlib.Path(numpy.__file__).parents[1])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (site / "others.pth").write_text(theirs + "\n")
    work = tmp_path / "work"
    for name, text in USER.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    code = (
        "import medward, guard, numpy as np; assert guard.mine; "
        "from medward.integrations.serving import create_app; "
        "print(medward.Guard.__module__, medward.__file__, medward.Policy(on_error='flag').on_error)"
    )
    python, clean = tmp_path / "venv/bin/python", {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([python, "-c", code], cwd=work, capture_output=True, text=True, env=clean)
    assert done.stderr == ""
    module, file, choice = done.stdout.split()
    assert (module, choice) == ("medward.guard.pipeline", "flag")
    assert file.startswith(str(site))
    command = [python, "-m", "medward", "--help"]
    said = subprocess.run(command, cwd=work, capture_output=True, text=True, env=clean)
    assert (said.returncode, said.stderr) == (0, "")
    assert "protect" in said.stdout
