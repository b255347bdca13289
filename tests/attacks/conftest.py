"""One hub for all attacks on one machine: what they do to it must not hurt the next one either."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.attacks.lab import Hub, hub_process


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    if shutil.which("turnserver", path="/usr/bin:/usr/sbin") is None:
        pytest.skip("the Debian package coturn is missing")
    with hub_process(tmp_path_factory.mktemp("attacked")) as running:
        yield running
