"""The STUN and TURN servers of a call as the backend names them; the W3C's RTCIceServer on the wire."""

from __future__ import annotations

from collections.abc import Mapping

from voicemeet_edge.backend.fields import read_object, read_text
from voicemeet_edge.errors import MessageError
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret

MAX_ICE_SERVERS = 8  # Cloudflare gives 2, the hub 2
MAX_ICE_URLS = 12  # per server; Cloudflare gives 6
MAX_ICE_TEXT = 512  # characters of one URL, user name or credential


@dataclass(frozen=True, slots=True)
class IceServer:
    """One STUN or TURN server; `username` and `credential` are None for STUN."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: Secret | None = None

    @classmethod
    def parse(cls, body: object) -> IceServer:
        """Read one entry of `ice_servers`; `urls` may be one string, as the W3C type allows."""
        fields = read_object(body)
        urls = fields.get("urls")
        listed = [urls] if isinstance(urls, str) else urls
        if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_ICE_URLS:
            raise MessageError("urls must be a short list")
        for url in listed:
            if not isinstance(url, str) or not 0 < len(url) <= MAX_ICE_TEXT:
                raise MessageError("urls must hold short texts")
        if "username" not in fields and "credential" not in fields:
            return cls(tuple(listed))
        credential = Secret(read_text(fields, "credential", MAX_ICE_TEXT))
        return cls(tuple(listed), read_text(fields, "username", MAX_ICE_TEXT), credential)

    def serialize(self) -> dict[str, object]:
        """Return the entry as the browser's RTCIceServer takes it."""
        out: dict[str, object] = {"urls": list(self.urls)}
        if self.username is not None and self.credential is not None:
            out["username"] = self.username
            out["credential"] = self.credential.reveal()
        return out


def read_ice_servers(fields: Mapping[str, object]) -> tuple[IceServer, ...]:
    """Read a reply's `ice_servers`. Raises: MessageError."""
    value = fields.get("ice_servers")
    if not isinstance(value, list) or len(value) > MAX_ICE_SERVERS:
        raise MessageError("ice_servers must be a short list")
    return tuple(IceServer.parse(entry) for entry in value)
