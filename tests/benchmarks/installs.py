"""The wheel and the source distribution in clean environments, one for each extra, and what each must do there."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from claim import Claim

CLAIMS = ("installs_failed",)
ROOT = Path(__file__).parents[2]
PROTECT = """
import numpy as np, medward
rng = np.random.default_rng(0)
x = rng.normal(size=(200, 4)).astype("float32")
{model}
made = medward.protect(model, medward.Split(x), medward.Policy(on_error="withhold"), "bundle", {options})
guard = made.guard(ephemeral=True)
assert guard.answer(medward.Query(principal=("a",), inputs=x[:1])).labels[0] in (0, 1)
"""
TORCH = PROTECT.format(
    model="import torch; model = torch.nn.Linear(4, 2)", options='classes=("no", "yes"), output="logits"'
)
SKLEARN = PROTECT.format(
    model="from sklearn.linear_model import LogisticRegression; model = LogisticRegression().fit(x, x[:, 0] > 0)",
    options="",
)
LIGHT = "import sys; assert not {'torch', 'sklearn', 'transformers', 'onnx', 'pandas'} & set(sys.modules)\n"
CHECKS = {
    "": "import medward; medward.Policy(on_error='flag'); medward.Guard\n" + LIGHT,
    "serve": "from medward.integrations.serving import create_app\n" + LIGHT + "import importlib.util as u\n"
    "assert not any(u.find_spec(name) for name in ('torch', 'sklearn', 'onnx', 'pandas'))\n",
    "redis": "from medward.integrations.redis_store import RedisStore\n",
    "dicom": "import pydicom, gdcm, jpeg_ls, openjpeg; import medward.guard.intake.dicom\n",
    "images": "import medward.guard.data.image_folder, PIL\n",
    "tables": "import pandas, pyarrow; import medward.guard.data.table_file\n",
    "torch": TORCH,
    "sklearn": SKLEARN,
    "huggingface": "import medward.guard.models.huggingface_model, transformers\n",
    "boosting": "import onnxmltools, skl2onnx; import medward.guard.models\n",
    "monai": "import monai, torch; import medward.guard.models\n",
    "validate": "import medward.attacks.validate, medward.attacks.report.html\n",
}
"""What is run where the base package or one extra is installed, and nothing else."""


def measure() -> Iterator[Claim]:
    """Build both distributions, then install each extra in an environment of its own and run its check."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        built = _built(place)
        came = {
            f"{kind}[{extra}]" if extra else kind: _installed(file, extra, place) for kind, file, extra in _cases(built)
        }
    failed = {name: said for name, said in came.items() if said != "ok"}
    yield Claim(
        claim="installs_failed",
        value=len(failed),
        target="0 of the wheel with each extra alone, and of the source distribution, fail to do their part",
        met=not failed,
        n=len(came),
        details={"came": came},
    )


def _cases(built: dict[str, Path]) -> list[tuple[str, Path, str]]:
    return [("sdist", built["sdist"], "serve"), *(("wheel", built["wheel"], extra) for extra in CHECKS)]


def _built(place: Path) -> dict[str, Path]:
    """A wheel, and a source distribution, of the tree as git has it."""
    tree = place / "tree"
    tree.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "x"], cwd=tree, input=archive, check=True)
    for kind in ("sdist", "wheel"):
        code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, place], cwd=tree, check=True, capture_output=True)
    return {"sdist": next(place.glob("*.tar.gz")), "wheel": next(place.glob("*.whl"))}


def _installed(file: Path, extra: str, place: Path) -> str:
    """ "ok", or the last line of what failed."""
    with TemporaryDirectory(dir=place) as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        python = home / "venv" / "bin" / "python"
        pinned = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
        wanted = f"{file}[{extra}]" if extra else str(file)
        if CHECKS[extra] == TORCH or extra in ("huggingface", "monai", "validate"):
            subprocess.run([*pinned, "torch"], check=True, capture_output=True)
        for command in ([*pinned, wanted], [python, "-c", CHECKS[extra]]):
            done = subprocess.run(command, cwd=home, capture_output=True, text=True)
            if done.returncode:
                return (done.stderr.strip().splitlines() or ["failed"])[-1]
    return "ok"
