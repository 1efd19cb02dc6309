"""What an installation is tried on; made once by ``root.sh``, kept under build/install."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import BUILD, Site, made


@pytest.fixture(scope="session")
def wheels() -> Path:
    """A folder with Lodom and what it needs as wheel files."""
    made("wheels")
    return BUILD / "wheels"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two bare hosts; the folder that both see is empty."""
    made("host", "wheels")
    built = Site(tmp_path_factory.mktemp("site"))
    try:
        yield built
    finally:
        built.close()
