"""The import arrows of the design are kept, and a wrong import is caught."""

import pytest
from support.arrows import PLANTS, caught, copy, lint


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    copy(folder)
    return folder


def test_the_packages_as_they_are_pass(packages):
    done = lint(packages)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", PLANTS)
def test_a_planted_import_is_caught(packages, file):
    assert caught(packages, file, PLANTS[file])


def test_an_allowed_import_is_not_caught(packages):
    assert not caught(packages, "integrations/serving/keys.py", "import medward.attacks.validation.gate")
