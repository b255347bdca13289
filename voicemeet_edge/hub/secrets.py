"""The hub's own secrets, made at first start; the one rule: mode 0600 and never on a command line."""

from __future__ import annotations

import json
import os
import secrets as random_secrets
from pathlib import Path

from voicemeet_edge.errors import SettingsError
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret

SECRETS_FILE = "secrets.json"
SECRET_BYTES = 32  # bytes of entropy: HS256 wants at least its 256 bits (RFC 7518 section 3.2)
MAX_SECRETS_BYTES = 16 * 1024  # bytes of the file; it has about 500


@dataclass(frozen=True, slots=True)
class HubSecrets:
    """What only this hub knows; the apikey JWT is made from `jwt` (hub/tokens.py)."""

    jwt: Secret
    turn: Secret
    salt: Secret


def load_or_make_secrets(state_dir: Path) -> HubSecrets:
    """Read the secrets, making them (and the directory) first when there are none yet."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return load_secrets(state_dir) or _make(state_dir / SECRETS_FILE)
    except OSError as error:
        expected = f"a directory the hub can write ({error.strerror})"
        raise SettingsError("hub.toml", "state_dir", str(state_dir), expected) from None


def load_secrets(state_dir: Path) -> HubSecrets | None:
    """Read the secrets; None when there are none yet.

    Raises:
        SettingsError: they cannot be read, or others can read them.
    """
    path = state_dir / SECRETS_FILE
    try:
        if not path.exists():
            return None
        raw, mode = path.read_bytes(), path.stat().st_mode & 0o777
    except OSError as error:
        expected = f"a directory to be read as the hub's user or root ({error.strerror})"
        raise SettingsError("hub.toml", "state_dir", str(state_dir), expected) from None
    if mode & 0o077:
        raise SettingsError(SECRETS_FILE, "mode", oct(mode), "0600")
    try:
        document = json.loads(raw[:MAX_SECRETS_BYTES])
        texts = [document[name] for name in ("jwt", "turn", "salt")]
        if not all(isinstance(text, str) and len(text) >= 32 for text in texts):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise SettingsError(
            SECRETS_FILE, "file", "••••", "jwt, turn and salt of 32 characters or more"
        ) from None
    return HubSecrets(*(Secret(text) for text in texts))


def _make(path: Path) -> HubSecrets:
    texts = {name: random_secrets.token_hex(SECRET_BYTES) for name in ("jwt", "turn", "salt")}
    write_private(path, json.dumps(texts).encode())
    return HubSecrets(Secret(texts["jwt"]), Secret(texts["turn"]), Secret(texts["salt"]))


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
