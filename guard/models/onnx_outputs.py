"""Which output of an ONNX file holds the scores and which the features: one rule for the guard and the attacks.

Names that a bundle's card recorded come first, and then nothing is chosen. Otherwise the scores are the output
that bears the name of what is claimed ("logits" or "probabilities"), else "scores", else the only floating-point
matrix that is as wide as there are classes. Labels and other whole numbers are never scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.types import OutputKind

FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")
SCORES = ("scores", "probabilities", "logits")
USUAL = {"logits": ("logits", "scores"), "probabilities": ("probabilities", "scores")}
"""What the scores are usually called, by what they are claimed to be."""
_FEATURES = "features"


def choose_outputs(
    outputs: Sequence[Any],
    source: str,
    *,
    recorded: Mapping[str, str] | None = None,
    task: Task | None = None,
    features: str | None = None,
    key: str | None = None,
) -> tuple[str, str | None]:
    """The names of the scores and of the features, None when there are none.

    `outputs` are onnxruntime's descriptions (name, type, shape); `task` is what they must be outputs of. `recorded` are
    the options of a bundle's card; `features` is a name the user said, default "features", and `key`
    the user's name of the scores. Raises `MedwardError` when no output can be the scores, or more than one can.
    """
    names = {each.name: each for each in outputs}
    if recorded and "scores" in recorded:
        chosen, shown = recorded["scores"], recorded.get("features")
        for name in (chosen, shown or chosen):
            _check_name(name, names, source)
        return chosen, shown
    if key is not None:
        _check_name(key, names, source)
        if names[key].type not in FLOATS:
            raise MedwardError(f"{source}: scores must be floating-point numbers, output {key!r} is {names[key].type}")
        shown = _features(names, features, source)
        return key, None if shown == key else shown
    shown = _features(names, features, source)
    if task is not None and _any_shape(task):
        return _numbers(outputs, shown, source), shown
    classes = None if task is None else len(task.names)
    found = _score_outputs(outputs, shown, None if task is None else task.output, source)
    if len(found) > 1:
        wide = [each for each in found if _width(each) == classes]
        found = wide or [each for each in found if _width(each) is None]
    if len(found) == 1:
        return str(found[0].name), shown
    matrices = ", ".join(f"{each.name} {each.shape}" for each in outputs if _is_matrix(each) and each.name != shown)
    raise MedwardError(
        f"{source}: the outputs {matrices} could all be the scores; choose one with --output-key, or name the score "
        f"output one of {list(SCORES)}"
    )


def count_classes(outputs: Sequence[Any], source: str) -> int | None:
    """The width of every output that could hold scores of classes; None when it is not declared, or none could."""
    shown = _features({each.name: each for each in outputs}, None, source)
    floats = _floats(outputs, shown)
    if floats and not any(_is_matrix(each) and _width(each) != 1 for each in floats):
        return None
    widths = set(map(_width, _score_outputs(outputs, shown, None, source)))
    return widths.pop() if len(widths) == 1 else None


def has_columns(outputs: Sequence[Any]) -> bool:
    """Whether an output is declared as a matrix of two or more columns, so that scores need not be one number a row."""
    return any((_width(each) or 0) > 1 for each in outputs if _is_matrix(each))


def _any_shape(task: Task) -> bool:
    """Whether outputs of `task` need not be a matrix of a column per name."""
    return isinstance(task, Opaque | Regression) or (isinstance(task, Classification) and task.one_column)


def _numbers(outputs: Sequence[Any], features: str | None, source: str) -> str:
    """The name of the only floating-point output, or of the one that is called what scores are called."""
    floats = _floats(outputs, features)
    called = {each.name.lower(): each for each in floats}
    found = [called[name] for name in SCORES if name in called][:1] or floats
    if len(found) == 1:
        return str(found[0].name)
    shown = ", ".join(f"{each.name}: {each.type} {each.shape}" for each in outputs)
    raise MedwardError(
        f"{source}: needs one floating-point output, or one named {list(SCORES)}, or --output-key; it has {shown}"
    )


def _floats(outputs: Sequence[Any], features: str | None) -> list[Any]:
    return [each for each in outputs if each.name != features and each.type in FLOATS]


def _features(names: Mapping[str, Any], said: str | None, source: str) -> str | None:
    if said is None:
        return _FEATURES if _FEATURES in names and names[_FEATURES].type in FLOATS else None
    _check_name(said, names, source)
    if names[said].type not in FLOATS:
        raise MedwardError(f"{source}: features must be floating-point numbers, output {said!r} is {names[said].type}")
    return said


def _score_outputs(outputs: Sequence[Any], features: str | None, output: OutputKind | None, source: str) -> list[Any]:
    """The outputs that could hold the scores: one with a usual name, else every floating-point matrix."""
    floats = _floats(outputs, features)
    matrices = [each for each in floats if _is_matrix(each)]
    called = {each.name.lower(): each for each in floats}
    found = [called[name] for name in (USUAL.get(output, SCORES) if output else SCORES) if name in called]
    found = sorted(found, key=lambda each: not _is_matrix(each))[:1]
    if not found:  # what is named after the other claim is not what is claimed, unless it is all there is
        found = [each for each in matrices if each.name.lower() not in SCORES] or matrices
    if len(found) == 1 and len(found[0].shape) in (1, 2) and found[0].shape[1:] in ([], [1]):
        raise MedwardError(f"{source}: {_one_number(found[0])}")
    if not found or not all(map(_is_matrix, found)):
        raise MedwardError(f"{source}: {_why_none(outputs, floats)}")
    return found


def _width(node: Any) -> int | None:
    width = node.shape[1] if node.shape else None
    return width if isinstance(width, int) else None


def _is_matrix(node: Any) -> bool:
    return node.type in FLOATS and len(node.shape) in (0, 2)  # a shape of no axes is one that is not declared


def _why_none(outputs: Sequence[Any], floats: Sequence[Any]) -> str:
    if any(node.type.startswith("seq") for node in outputs):
        return "scores are a list of dictionaries; convert the model with zipmap=False"
    for node in floats:
        if len(node.shape) == 1:
            return _one_number(node)
    found = ", ".join(f"{node.name}: {node.type} {node.shape}" for node in outputs)
    return f"scores are a floating-point matrix, one row per input and one column per class; the outputs are {found}"


def _one_number(node: Any) -> str:
    return (
        f"output {node.name!r} has one number per input, shape {node.shape}, scores need a column per class; if it is "
        "the score of the second of two classes, name both with --classes, if a quantity, say --task regression"
    )


def _check_name(name: str, names: Mapping[str, Any], source: str) -> None:
    if name not in names:
        raise MedwardError(f"{source}: no output named {name!r}; the outputs are {list(names)}")
