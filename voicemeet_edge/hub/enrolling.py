"""One more door or desk, made at the hub's machine beside the running hub, and what is printed of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.app import read_info
from voicemeet_edge.hub.pass_desk import make_pass, open_store, qr_terminal
from voicemeet_edge.hub.settings import load_hub_settings
from voicemeet_edge.provision.enrolment import Enrolment
from voicemeet_edge.secret import Secret

DEFAULT_POOL = "frontdesk"


async def enroll(config: Path, name: str, pool: str, role: Role, keys: Sequence[Secret] = ()) -> Enrolment:
    """Make a pass for a door or a desk; the running hub heeds it at once.

    Raises:
        SettingsError: the hub's settings cannot be used, or it has not run yet.
        LocalError: a pool that hub.toml does not name, or a name that cannot be.
    """
    settings = await asyncio.to_thread(load_hub_settings, config)
    pools = settings.match.pools
    wanted = pool or (pools[0] if pools else DEFAULT_POOL)
    if pools and wanted not in pools:
        raise LocalError(f"there is no pool {wanted}; hub.toml has {', '.join(pools)}", code="unknown_pool")
    info = await asyncio.to_thread(read_info, settings)
    place = Enrolment(info.url, info.apikey, info.pin, wanted, role, name, keys=tuple(keys))
    async with open_store(settings.state_dir) as store:
        made = await make_pass(store, wanted, role, name)
    return replace(place, pass_=made)


def told(place: Enrolment) -> str:
    """Return what a person needs of it: shown this once."""
    once = "It is shown this once: the hub keeps only a hash of the pass in it."
    if place.role is Role.ANSWERER:
        link = place.desk_link().reveal()
        return f"Open this at the desk, once, or scan it:\n\n  {link}\n\n{qr_terminal(link)}\n{once}"
    line = place.line().reveal()
    return (
        f"As a file, onto the card of the device as voicemeet.toml:\n\n{place.settings().reveal()}\n"
        f"Or paste this one line into `voicemeet-edge setup` on the device:\n\n{line}\n\n{once}"
    )
