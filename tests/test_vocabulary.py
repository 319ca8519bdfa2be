"""Names can be guessed: none is public twice, classes say what they are, and the installed name is the only one."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter

import pytest
from support.arrows import ROOT

PACKAGES = ("guard", "attacks", "integrations")
HTTP = "integrations/serving"  # where a docstring is the text of the HTTP schema
SHORT = 0.06  # of public functions have a name of one lowercase word: terms of the field, verbs of the command line


def sources():
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def defined(tree):
    """Public names that a module binds at its top level, imports apart."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [each.id for each in node.targets if isinstance(each, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from ((name, node) for name in names if not name.startswith("_"))


def test_no_public_name_is_defined_in_two_modules():
    homes = defaultdict(list)
    for path, tree in sources().items():
        for name, _ in defined(tree):
            homes[name].append(path)
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def test_few_functions_are_named_by_one_word():
    names = [
        f"{path}: {name}"
        for path, tree in sources().items()
        for name, node in defined(tree)
        if isinstance(node, ast.FunctionDef)
    ]
    words = [name for name in names if "_" not in name.split(": ")[1]]
    assert len(words) <= SHORT * len(names), words


def test_a_class_says_in_a_sentence_what_it_is():
    terse = [
        f"{path}: {node.name}"
        for path, tree in sources().items()
        if not path.startswith(HTTP)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        if len((ast.get_docstring(node) or "").split("\n\n")[0].split()) <= 5
    ]
    assert terse == []


BARE = re.compile(rf"^\s*(from|import) ({'|'.join(PACKAGES)})\b", re.MULTILINE)


@pytest.mark.parametrize("folder", [*PACKAGES, "medward", "tests", "examples", "docs"])
def test_nothing_imports_the_folders_by_their_bare_names(folder):
    found = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*.py")
        if not any(part.startswith(".") for part in path.parts) and BARE.search(path.read_text())
    ]
    assert found == []


def test_the_glossary_has_one_line_for_a_word():
    rows = [line for line in (ROOT / "docs/glossary.md").read_text().splitlines() if line.startswith("| ")][1:]
    words = [row.split("|")[1].strip() for row in rows]
    assert words == sorted(words, key=str.lower)
    assert len(words) == len(set(words)) > 40


def imported(tree, known):
    """Modules that a module imports whenever it is imported itself."""
    stack = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{each.name}" for each in node.names}
            yield from names & known if names <= known else {node.module, *(names & known)}
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        stack.extend(ast.iter_child_nodes(node))


def circle(graph):
    """The modules of a circle of imports, if there is one."""
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other_in_a_circle():
    trees = {path.removesuffix(".py").replace("/", "."): tree for path, tree in sources().items()}
    trees = {f"medward.{name.removesuffix('.__init__')}": tree for name, tree in trees.items()}
    graph = {name: {*imported(tree, trees.keys())} & trees.keys() - {name} for name, tree in trees.items()}
    assert circle(graph) == []
    planted = {**graph, "medward.guard.errors": {"medward.guard.pipeline"}}  # the control
    assert circle(planted)
