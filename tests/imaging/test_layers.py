"""The layers: every variable documented and checked, every package of a role once."""

from __future__ import annotations

import pytest
from imaging import layers
from imaging.steps import BuildError


def test_every_default_passes_its_own_check() -> None:
    for layer in layers.load():
        for variable in layer.variables:
            assert variable.check(variable.default) == variable.default
            assert variable.help


@pytest.mark.parametrize("role", layers.ROLES)
def test_every_role_has_what_it_runs_on(role: str) -> None:
    names = [name for layer in layers.load() for name in layer.packages(role)]
    assert len(names) == len(set(names))
    assert {"systemd", "python3", "libopus0", "openssh-server"} <= set(names)
    assert ("coturn" in names) == (role != "device")
    assert ("strace" in names) == (role == "bench")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("base.hostname=-x", "base.hostname=-x"),
        ("base.hostname=", "name of the machine"),
        ("base.nothing=1", "expected one of"),
        ("base.hostname", "as NAME=VALUE"),
        ("base.timezone=../../etc", "time zone"),
        ("network.country=de", "country"),
    ],
)
def test_a_wrong_variable_is_named(word: str, said: str) -> None:
    with pytest.raises(BuildError, match=said):
        layers.values(layers.load(), [word])


def test_a_variable_takes_its_value() -> None:
    assert layers.values(layers.load(), ["base.hostname=lobby"])["base.hostname"] == "lobby"
