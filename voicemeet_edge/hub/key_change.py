"""Changing a ring group's intercom key, and who still has the old one; what `voicemeet-edge key` does.

The one rule: the hub's database gets admission keys only, from which nobody comes back to the intercom key.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from voicemeet_edge.backend.admission import admission_key, admission_key_id, admission_key_text
from voicemeet_edge.call.keys import key_check, new_key, parse_key
from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.pass_desk import open_store
from voicemeet_edge.hub.settings import load_hub_settings
from voicemeet_edge.hub.store import Store
from voicemeet_edge.secret import Secret

NOT_SEEN = "has not called or gone on duty since"

STEPS = """\
The new key of {pool}; lock it away, it is shown this once:

  {new}

Its two words: {words}. Both keys are good from now on. Then, in this order:

1. Each door: [security] intercom_keys = ["OLD", "{new}"]
2. When all doors have that: each desk gets the new key under “Intercom key”, and each door
   intercom_keys = ["{new}", "OLD"]
3. voicemeet-edge key status --pool {pool}     says who still uses the old one
4. When nobody does: voicemeet-edge key finish --pool {pool}, and each door ["{new}"]"""


async def rotate(config: Path, pool: str, old: Secret) -> str:
    """Make a new key, let the hub accept a proof of either, and say what to do.

    Raises:
        LocalError: the old key is none, it is not this pool's, or nobody is in the pool.
    """
    old_bytes = parse_key(old)
    new = new_key()
    settings = await asyncio.to_thread(load_hub_settings, config)
    keys = [admission_key(key, pool) for key in (old_bytes, parse_key(new))]
    async with open_store(settings.state_dir) as store:
        if not any(entry.pool == pool and entry.revoked_at is None for entry in await store.passes()):
            raise LocalError(f"nobody is in the ring group {pool}: is it spelt so?", code="no_pool")
        known = (await store.admission_keys()).get(pool, [])
        if known and keys[0] not in known:
            raise LocalError(f"this is not the key of {pool}, whose proof the hub asks for", code="bad_key")
        if pool in await store.rotations():
            raise LocalError(f"the key of {pool} is being changed already: finish that", code="rotating")
        texts = [admission_key_text(key) for key in keys]
        await store.begin_rotation(pool, texts, admission_key_id(keys[1]))
    return STEPS.format(pool=pool, new=new.reveal(), words=key_check(new))


async def status(config: Path, pool: str) -> str:
    """Say of each end of the pool which key it proved last."""
    settings = await asyncio.to_thread(load_hub_settings, config)
    async with open_store(settings.state_dir) as store:
        behind, told = await _standing(store, pool)
    told.append("nobody uses the old key" if not behind else f"{len(behind)} not yet: {', '.join(behind)}")
    return "\n".join(told)


async def finish(config: Path, pool: str, *, anyway: bool = False) -> str:
    """Accept the new key alone.

    Raises:
        LocalError: no change is under way, or somebody is not known to have the new key.
    """
    settings = await asyncio.to_thread(load_hub_settings, config)
    async with open_store(settings.state_dir) as store:
        behind, _ = await _standing(store, pool)
        if behind and not anyway:
            raise LocalError(
                f"not known to use the new key: {', '.join(behind)}; see --anyway", code="in_use"
            )
        new = (await store.rotations())[pool]
        for key in (await store.admission_keys()).get(pool, []):
            if admission_key_id(key) == new:
                await store.end_rotation(pool, admission_key_text(key))
                return f"{pool}: the new key alone is good from now on"
    raise LocalError(f"the new key of {pool} is gone from the hub: begin anew with rotate", code="no_key")


async def _standing(store: Store, pool: str) -> tuple[list[str], list[str]]:
    """Return who is not known to use the new key, and a line for everybody."""
    new = (await store.rotations()).get(pool)
    if new is None:
        raise LocalError(f"the key of {pool} is not being changed: begin with rotate", code="no_rotation")
    use = await store.key_use()
    behind, lines = [], []
    for entry in sorted(await store.passes(), key=lambda entry: entry.label):
        if entry.pool != pool or entry.revoked_at is not None:
            continue
        name, used = entry.label or entry.id[:8], use.get(entry.id)
        word = NOT_SEEN if used is None else "new key" if used == new else "OLD key"
        lines.append(f"{name:<24}  {entry.role_word:<9}  {word}")
        if used != new:
            behind.append(name)
    return behind, lines
