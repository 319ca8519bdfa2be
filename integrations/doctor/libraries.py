"""Python and the libraries of a host, against the ranges that the installed package names."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING

from medward.integrations.doctor.remark import Remark, examined

if TYPE_CHECKING:  # comes with the extra `serve`
    from packaging.requirements import Requirement

PACKAGE = "medward"
CPU = "CPUExecutionProvider"  # what bundles run on
REINSTALL = "pip install --upgrade 'medward[serve]'"


def host_remarks(extras: Mapping[str, str]) -> Iterator[Remark]:
    """What there is to say of the host alone; `extras` are those that are needed, each with what for."""
    yield from examined("python", python_remarks, REINSTALL)
    for wanted, why in ((), "needed by every command"), *(((extra,), why) for extra, why in extras.items()):
        yield from examined("libraries", partial(library_remarks, wanted, why), REINSTALL)


def python_remarks() -> Iterator[Remark]:
    """Whether Python is one that the package names."""
    from packaging.specifiers import SpecifierSet

    wanted, found = metadata.metadata(PACKAGE)["Requires-Python"] or "", platform.python_version()
    if SpecifierSet(wanted).contains(found, prereleases=True):
        yield Remark(part="python", said=f"Python {found} is within {wanted}")
    else:
        said, remedy = f"Python {found} is not within {wanted}", f"install medward under a Python {wanted}"
        yield Remark(part="python", said=said, state="mend", remedy=remedy)


def library_remarks(extras: Collection[str], why: str) -> Iterator[Remark]:
    """Whether what `extras` need, or without any what everything needs, is there and within its range.

    `why` says who needs them, in the remark on what is there.
    """
    wrong = False
    for extra, wanted in sorted(_wanted(metadata.requires(PACKAGE) or (), extras).items()):
        for name, needed in sorted(wanted.items()):
            found = _installed(name)
            if found and needed.specifier.contains(found, prereleases=True):
                continue
            wrong = True
            said = f"{name} {found} is not within {needed.specifier}" if found else f"{name} is not installed"
            package = f"{PACKAGE}[{extra}]" if extra else PACKAGE
            remedy = f"pip install --upgrade '{package}'"
            yield Remark(part="libraries", said=f"{said}; {why}", state="mend", remedy=remedy)
    if not wrong:
        what = f"the extra{'s' if len(extras) > 1 else ''} {', '.join(sorted(extras))}" if extras else "medward itself"
        yield Remark(part="libraries", said=f"what {what} needs is there, within its ranges: {why}")


def provider_remarks() -> Iterator[Remark]:
    """Whether onnxruntime can run a model on this host's processor, as bundles are run."""
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    said = f"onnxruntime {onnxruntime.__version__} offers {', '.join(offered) or 'no provider'}"
    if CPU in offered:
        yield Remark(part="onnxruntime", said=f"{said}; models run on {CPU}")
    else:
        remedy = "pip install --force-reinstall onnxruntime"
        yield Remark(part="onnxruntime", said=f"{said}, and models run on {CPU}", state="mend", remedy=remedy)


def _wanted(lines: Collection[str], extras: Collection[str]) -> dict[str, dict[str, Requirement]]:
    """The requirements of `extras`, by extra and name, or of no extra; an extra of our own stands for what it needs."""
    from packaging.requirements import Requirement

    requirements = [Requirement(line) for line in lines]
    found: dict[str, dict[str, Requirement]] = {}
    todo, seen = [(each, each) for each in extras] or [("", "")], set[tuple[str, str]]()
    while todo:
        asked, extra = todo.pop()
        if (asked, extra) in seen:
            continue
        seen.add((asked, extra))
        for each in requirements:
            if each.marker is not None and not each.marker.evaluate({"extra": extra}):
                continue
            if extra and (each.marker is None or each.marker.evaluate({"extra": ""})):
                continue
            if each.name == PACKAGE:
                todo += [(asked, own) for own in each.extras]
            else:
                found.setdefault(asked, {})[each.name] = each
    return found


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
