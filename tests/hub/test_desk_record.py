"""The desk page of an installed package, and what was done to it since."""

from __future__ import annotations

from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

from voicemeet_edge.hub.desk_record import altered, installed
from voicemeet_edge.hub.server import read_desk

DESK = "voicemeet_edge/hub/desk"
# echo -n 'let one = 1;' | openssl dgst -sha256 -binary | base64, as a wheel's RECORD writes it
ONE = "apeiYwVJXyVgyP4z_u78fT9T4v2cLo6XFExlULo4Z70"


def install(root: Path) -> tuple[Path, Distribution]:
    """A package of one file of the page."""
    directory, info = root / DESK, root / "voicemeet_edge-1.dist-info"
    directory.mkdir(parents=True)
    info.mkdir()
    (directory / "one.js").write_text("let one = 1;")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: voicemeet-edge\nVersion: 1\n")
    (info / "RECORD").write_text(f"{DESK}/one.js,sha256={ONE},12\nvoicemeet_edge-1.dist-info/RECORD,,\n")
    return directory, PathDistribution(info)


def test_the_page_as_it_was_built_is_served(tmp_path: Path) -> None:
    directory, package = install(tmp_path)
    assert altered(directory, read_desk(directory), package) == []


def test_a_changed_file_and_one_put_beside_it_are_found(tmp_path: Path) -> None:
    directory, package = install(tmp_path)
    (directory / "one.js").write_text("let one = 2;")
    (directory / "two.js").write_text("")
    assert altered(directory, read_desk(directory), package) == ["one.js", "two.js"]


def test_a_checkout_has_no_record_and_is_taken_as_it_is(tmp_path: Path) -> None:
    directory, _ = install(tmp_path)
    assert installed(directory) is None, "another place than the package of this environment"
    assert altered(directory, read_desk(directory), None) == []
