"""One radius for tests of what an attack does; what several add is in ``test_radii.py``."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def one_radius(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__ != "test_radii":
            patch.setattr("medward.attacks.evasion.setup.FACTORS", (1.0,))
        yield
