"""The box was opened: a mark that outlives every restart, until the box is set up again with other secrets.

One rule: what was in the box when it was opened is never used again. The mark holds a hash of it, so that the
same secrets are known again and new ones lift it; the hash tells nobody what they are.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.settings import Settings

logger = logging.getLogger(__name__)

MARK = Path("/var/lib/voicemeet-edge/tampered")  # voicemeet-edge-tampered.path looks there
MAX_MARK = 200  # characters
KEY, PASS = "key", "pass"


def remember(settings: Settings, mark: Path = MARK) -> None:
    """Leave the mark; without a place for it the box forgets when it loses power, and the log says so."""
    try:
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = mark.with_name(mark.name + ".new")
        with part.open("w") as file:
            file.write(" ".join(_print(settings)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.rename(mark)
    except OSError as error:
        logger.error("the box was opened, and that cannot be noted: %s", error.strerror)


def check(settings: Settings, mark: Path = MARK) -> None:
    """Let a box pass that was never opened, or was set up again since: then the mark goes.

    Raises:
        SettingsError: it still has the secrets it had when it was opened, or had a key and has none.
    """
    try:
        with mark.open() as file:
            kind, _, then = file.read(MAX_MARK).strip().partition(" ")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        kind = then = ""  # a mark that cannot be read is one
    now_kind, now = _print(settings)
    if then and now != then and (now_kind == KEY or kind == PASS):
        mark.unlink(missing_ok=True)
        logger.warning("the box was opened, and has been set up again since")
        return
    key = "security.intercom_keys" if kind == KEY else "backend.pass"
    raise SettingsError("the box was opened", key, "the secret of then", "a new one: set the box up again")


def _print(settings: Settings) -> tuple[str, str]:
    """Return which kind of secret the box lives by, and its hash."""
    keys = settings.security.intercom_keys
    if keys:
        kind, secrets = KEY, [key.reveal() for key in keys]
    else:
        kind, secrets = PASS, [settings.backend.pass_.reveal(), settings.backend.apikey.reveal()]
    return kind, hashlib.sha256(("voicemeet-edge tamper mark\n" + "\n".join(secrets)).encode()).hexdigest()
