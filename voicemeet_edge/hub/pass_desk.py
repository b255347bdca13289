"""Where passes are made and taken back: what the command line and a hub's first start do.

One rule: a pass is shown once, to whoever asked for it; nothing that could show it again is kept.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from voicemeet_edge.backend.admission import (
    MAX_ADMISSION_KEYS,
    PASS_QR_PREFIX,
    admission_key_text,
    as_typed,
    new_pass,
    parse_admission_key,
    parse_pass,
    pass_hash,
)
from voicemeet_edge.backend.verbs import POOL_PATTERN, Role
from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.address import base_url, names_of
from voicemeet_edge.hub.passes import OPERATOR, Pass
from voicemeet_edge.hub.settings import load_hub_settings
from voicemeet_edge.hub.store import Store
from voicemeet_edge.secret import Secret

DATABASE_FILE = "hub.db"
MAX_LABEL = 60  # characters of the operator's word for a pass
SHOWN_ID_CHARS = 8  # of a pass's id in the list: enough to tell thousands apart


async def make_pass(store: Store, pool: str, role: Role | None, label: str) -> Secret:
    """Make a pass and keep its hash; the operator's has no role and no pool."""
    if role is not None and not POOL_PATTERN.match(pool):
        raise LocalError("a pool's name has small letters, digits and - inside", code="bad_pool")
    if len(label) > MAX_LABEL or not label.isprintable():
        raise LocalError(f"a label has at most {MAX_LABEL} printable characters", code="bad_label")
    made = new_pass()
    await store.add_pass(Pass(pass_hash(made), "" if role is None else pool, role, label, int(time.time())))
    return made


async def make_first_passes(store: Store, pool: str) -> dict[Role, Secret]:
    """Make one pass for a device and one for a desk if the pool never had any."""
    if any(entry.pool == pool for entry in await store.passes()):
        return {}
    return {
        Role.CALLER: await make_pass(store, pool, Role.CALLER, "first device"),
        Role.ANSWERER: await make_pass(store, pool, Role.ANSWERER, "first desk"),
    }


async def make_first_operator_pass(store: Store) -> Secret | None:
    """Make a pass for the operator if there is none that is good."""
    if any(entry.is_operator and entry.revoked_at is None for entry in await store.passes()):
        return None
    return await make_pass(store, "", None, "first operator")


async def revoke(store: Store, name: str) -> Pass:
    """Take back the one pass that this start of an id, or this label, names."""
    good = [entry for entry in await store.passes() if entry.revoked_at is None]
    found = [entry for entry in good if entry.label == name]
    if not found and len(name) >= 4:
        found = [entry for entry in good if entry.hash.startswith(name.lower())]
    if len(found) != 1:
        raise LocalError(f"{len(found) or 'no'} passes that are good are named so", code="no_pass")
    await store.revoke_pass(found[0].hash, time.time())
    return found[0]


def desk_link(url: str, shown: Secret, pool: str) -> str:
    """Return the link that opens the desk page with its pass; browsers do not send what follows the #."""
    return f"{url.rstrip('/')}/desk/#pass={parse_pass(shown).reveal()}&pool={pool}"


def operator_link(url: str, shown: Secret) -> str:
    """Return the link that opens the operator's page with its pass."""
    return f"{url.rstrip('/')}/operator/#pass={parse_pass(shown).reveal()}"


def pass_text(shown: Secret, pool: str, role: Role | None, url: str = "") -> str:
    """Return what is printed for a new pass: text, link or line of settings, and QR code."""
    lines = [as_typed(shown), ""]
    if role is None:
        lines += ["Open this in a browser, or type the pass there:", f"  {operator_link(url, shown)}", ""]
    elif role is Role.ANSWERER and url:
        link = desk_link(url, shown, pool)
        lines += ["Open this at the desk, once; or type the pass there:", f"  {link}", "", qr_terminal(link)]
    elif role is Role.ANSWERER:
        lines += ["Type it at the desk: open the desk page and choose “Pass”."]
    else:
        lines += ["In the device's voicemeet.toml:", "", "[backend]", f'pass = "{as_typed(shown)}"', ""]
        lines += ["[call]", f'pool = "{pool}"', f'role = "{role.value}"', ""]
        lines += [qr_terminal(PASS_QR_PREFIX + parse_pass(shown).reveal())]
    lines += ["It is shown this once: the hub keeps only a hash of it."]
    return "\n".join(lines)


def qr_terminal(text: str) -> str:
    """Return a QR code as text of half blocks, for a dark or a light terminal."""
    import segno  # 1.6 MB that a hub which is only running does not need

    out = io.StringIO()
    segno.make_qr(text, error="m").terminal(out=out, compact=True)
    return out.getvalue()


def pass_table(passes: Sequence[Pass]) -> str:
    """The list a person reads, newest first."""
    if not passes:
        return "no passes"
    rows = [("id", "pool", "role", "label", "made (UTC)", "state")]
    for entry in sorted(passes, key=lambda entry: -entry.made_at):
        state = "good" if entry.revoked_at is None else f"taken back {_day(entry.revoked_at)}"
        shown, pool = entry.id[:SHOWN_ID_CHARS], entry.pool or "-"
        rows.append((shown, pool, entry.role_word, entry.label or "-", _day(entry.made_at), state))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


async def work_on_passes(
    config: Path,
    *,
    pool: str = "",
    role: str = "",
    label: str = "",
    revoke_name: str = "",
    admission_keys: Sequence[Secret] | None = None,
) -> str:
    """Do what `voicemeet-edge pass` is asked; beside a running hub or alone. Returns what to print.

    Raises:
        SettingsError: the settings cannot be used.
        LocalError: a name, label or key that is none.
    """
    settings = load_hub_settings(config)
    async with open_store(settings.state_dir) as store:
        if revoke_name:
            gone = await revoke(store, revoke_name)
            return f"taken back: {gone.id[:SHOWN_ID_CHARS]} {gone.role_word} {gone.label}".rstrip()
        if admission_keys is not None:
            return await _set_admission_keys(store, pool, admission_keys)
        if role:
            wanted = None if role == OPERATOR else Role(role)
            made = await make_pass(store, pool, wanted, label)
            http = settings.http
            host = names_of(http.listen, http.names)[0]
            url = base_url(http.public_url, host, http.port, is_tls=http.tls != "off")
            return pass_text(made, pool, wanted, url)
        return pass_table(await store.passes())


async def _set_admission_keys(store: Store, pool: str, keys: Sequence[Secret]) -> str:
    if len(keys) > MAX_ADMISSION_KEYS:
        raise LocalError(f"a pool has at most {MAX_ADMISSION_KEYS} admission keys", code="bad_admission_key")
    await store.set_admission_keys(pool, [admission_key_text(parse_admission_key(key)) for key in keys])
    if not keys:
        return f"{pool}: a pass is enough, no proof of the intercom key is asked for"
    return f"{pool}: besides a pass, each end must prove that it has the intercom key ({len(keys)} accepted)"


@asynccontextmanager
async def open_store(state_dir: Path) -> AsyncIterator[Store]:
    """Open the hub's database beside the running hub; what root makes belongs to the hub's user."""
    await asyncio.to_thread(state_dir.mkdir, mode=0o700, parents=True, exist_ok=True)
    store = Store(state_dir / DATABASE_FILE)
    await store.open()
    try:
        await asyncio.to_thread(_give_to_owner, state_dir)
        yield store
    finally:
        await store.close()


def _give_to_owner(state_dir: Path) -> None:
    """Let what root made here belong to the hub's own user, or the hub could not open it."""
    owner = state_dir.stat()
    if os.geteuid() == 0:
        for path in state_dir.glob(f"{DATABASE_FILE}*"):
            os.chown(path, owner.st_uid, owner.st_gid)


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
