"""scikit-learn estimators as skops bytes, with a closed list of types: nothing outside it is constructed.

skops itself trusts public scikit-learn estimators and NumPy and SciPy ufuncs. `TRUSTED` adds, by exact name,
the private scikit-learn types that fitted classifiers hold, and the kinds of values that imputers remember. Trees hold
child indices that scikit-learn follows without looking, so a crafted file could crash the process; `check_trees` looks
first.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.models.base import first_line, require_extra

TRUSTED = frozenset(
    {
        "numpy.dtype",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    }
)


def dump_skops(estimator: Any) -> bytes:
    """The estimator as skops bytes; refuses one that `load_skops` would refuse."""
    io = require_extra("skops.io", "sklearn")
    try:
        data: bytes = io.dumps(estimator)
    except Exception as error:
        raise MedwardError(f"skops cannot write {type(estimator).__name__}: {first_line(error)}") from error
    trusted_types(io, data)
    return data


def load_skops(data: bytes) -> Any:
    """The estimator in `data`; raises `MedwardError` naming any type outside the list, before it is built."""
    io = require_extra("skops.io", "sklearn")
    try:
        estimator = io.loads(data, trusted=trusted_types(io, data))
        check_trees(estimator)
    except MedwardError:
        raise
    except Exception as error:
        raise MedwardError(f"model.skops: cannot be read: {first_line(error)}") from error
    return estimator


def trusted_types(io: Any, data: bytes) -> list[str]:
    """The private types in `data`, all of them in `TRUSTED`; refuses any other by name."""
    found = [str(name) for name in io.get_untrusted_types(data=data)]
    unknown = [name for name in found if name not in TRUSTED]
    if unknown:
        raise MedwardError(
            f"model.skops: holds types that are not trusted: {', '.join(unknown)}; "
            "use scikit-learn's own estimators, or export to ONNX"
        )
    return found


def check_trees(root: Any) -> None:
    """Refuse trees whose children or features point outside their arrays, or back up the tree.

    This stops the crafted trees we know of; it is no sandbox. Trust in a file comes from its digest.
    """
    seen: set[int] = set()
    stack = [root]
    while stack:
        each = stack.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        kind = type(each).__name__
        if isinstance(each, np.dtype) and ((each.hasobject and each.kind != "O") or each != np.dtype(each.str)):
            raise MedwardError(
                "model.skops: holds a kind of value that NumPy does not have; the file was tampered with"
            )
        if kind == "TreePredictor":
            nodes = each.nodes
            _downward(nodes["is_leaf"] == 0, nodes["left"], nodes["right"])
            categorical = nodes["is_categorical"] != 0
            _inside(nodes["bitset_idx"][categorical], len(each.raw_left_cat_bitsets))
        elif kind == "Tree":
            _downward(each.children_left != -1, each.children_left, each.children_right)
            _inside(each.feature[each.children_left != -1], each.n_features)
        for predictor in itertools.chain.from_iterable(getattr(each, "_predictors", ())):
            _inside(predictor.nodes["feature_idx"], each.n_features_in_)
        if isinstance(each, dict):
            stack.extend(each.values())
        elif isinstance(each, list | tuple | set):
            stack.extend(each)
        elif isinstance(each, np.ndarray) and each.dtype == object:
            stack.extend(each.ravel())
        elif hasattr(each, "__dict__"):
            stack.extend(vars(each).values())


def _downward(inner: Any, left: Any, right: Any) -> None:
    """Children of the `inner` nodes come after them: every descent ends."""
    index = np.flatnonzero(inner)
    for child in (left[inner].astype(np.int64), right[inner].astype(np.int64)):
        _inside(child, len(inner))
        if (child <= index).any():
            raise MedwardError("model.skops: a tree points back to itself; the file was tampered with")


def _inside(index: Any, size: int) -> None:
    if len(index) and (int(np.min(index)) < 0 or int(np.max(index)) >= size):
        raise MedwardError(f"model.skops: a tree points outside its {size} entries; the file was tampered with")
