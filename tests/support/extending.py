"""A copy of the repository that a newcomer extends: files are added or edited in it, and those that changed counted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.arrows import ROOT

KEPT = ("medward", "guard", "attacks", "integrations", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Checkout:
    """A checkout of the repository in `folder`: links to what is unchanged, real files where something was changed."""

    folder: Path

    @classmethod
    def of(cls, folder: Path) -> Checkout:
        """Link everything; `medward/` links to the folders beside it, as it does in the repository."""
        for name in KEPT:
            (folder / name).symlink_to(ROOT / name)
        (folder / "medward").unlink()
        (folder / "medward").mkdir()
        for path in (ROOT / "medward").iterdir():
            target = path.readlink() if path.is_symlink() else path
            (folder / "medward" / path.name).symlink_to(target)
        return cls(folder)

    def add(self, path: str, text: str) -> None:
        """Write a new file."""
        assert not (ROOT / path).exists(), f"{path} is no new file"
        self._file(path).write_text(text)

    def edit(self, path: str, changes: Mapping[str, str]) -> None:
        """Replace texts that occur once in a file."""
        text = (ROOT / path).read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, f"{path}: {old!r} occurs {text.count(old)} times"
            text = text.replace(old, new)
        self._file(path).write_text(text)

    def changed(self) -> list[str]:
        """The files that are new or differ from the repository's, by comparing the trees."""
        found = []
        for parent, _, names in os.walk(self.folder):  # which does not follow links to folders
            for name in names:
                path = Path(parent, name)
                relative = path.relative_to(self.folder)
                if path.is_symlink() or "__pycache__" in relative.parts or relative.parts[0] not in KEPT:
                    continue
                kept = ROOT / relative
                if not kept.exists() or kept.read_bytes() != path.read_bytes():
                    found.append(relative.as_posix())
        return sorted(found)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run Python with `command` in the checkout, where `medward` is the extended one."""
        paths = os.pathsep.join([str(self.folder), str(self.folder / "tests")])
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )

    def _file(self, path: str) -> Path:
        """The place of a real file; folders on the way become real ones, full of links."""
        here = self.folder
        for part in Path(path).parts[:-1]:
            here /= part
            if here.is_symlink():
                real = here.resolve()
                here.unlink()
                here.mkdir()
                for each in real.iterdir():
                    if each.name != "__pycache__":
                        (here / each.name).symlink_to(each)
            here.mkdir(exist_ok=True)
        file = here / Path(path).name
        file.unlink(missing_ok=True)
        return file


def code_block(section: str) -> str:
    """The first block of Python in a section of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.search(rf"^## {re.escape(section)}\n.*?^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, f"CONTRIBUTING.md has no code block under {section!r}"
    return found[1]
