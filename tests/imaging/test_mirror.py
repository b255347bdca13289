"""Where a build takes Debian's packages from: the mirror that this machine's apt uses."""

from pathlib import Path

import pytest
from imaging.mirror import own_mirror

DEB822 = """\
# a comment
Types: deb
URIs: http://mirror.example/debian-security
Suites: trixie-security

Types: deb
URIs: https://mirror.example/debian/ http://other.example/debian
Suites: trixie
"""


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        ("sources.list", "deb http://one.example/debian trixie main\n", "http://one.example/debian"),
        (
            "sources.list",
            "# deb http://no.example/debian x y\ndeb [signed-by=/a b=c] http://two.example/debian/ x y\n",
            "http://two.example/debian",
        ),
        ("sources.list.d/debian.sources", DEB822, "https://mirror.example/debian"),
        ("sources.list.d/debian.sources.bak", DEB822, None),
        ("sources.list", "deb http://ports.example/ubuntu noble main\n", None),
        ("sources.list", "deb-src http://one.example/debian trixie main\n", None),
    ],
)
def test_mirror_is_read_from_both_forms_of_sources(
    tmp_path: Path, name: str, text: str, mirror: str | None
) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    assert own_mirror(tmp_path) == mirror


def test_machine_without_apt_has_no_mirror(tmp_path: Path) -> None:
    assert own_mirror(tmp_path) is None
