from __future__ import annotations

import pytest

from voicemeet_edge import __version__
from voicemeet_edge.update.version import SystemVersion, VersionError


def test_versions_are_compared_by_their_numbers() -> None:
    assert SystemVersion.parse("0.10.0") > SystemVersion.parse("0.9.9")
    assert str(SystemVersion.parse("0.2.0")) == "0.2.0"


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "1.2.3.4", "v1.2.3", "1.2.3 ", "1.2.-3", "1.2.99999", "1.2.٣"]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(VersionError):
        SystemVersion.parse(text)


def test_our_own_is_one() -> None:
    assert str(SystemVersion.parse(__version__)) == __version__
