"""Why there is no connection to the hub: every reason there is, in words, with what to do about each; pure.

One rule: log, status, doctor, `check --connect` and the desk page say the same reason by the same word. The
sentences name no address, no key and no id; the desk page has its own in `languages/`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self


class NotConnected(StrEnum):
    """A reason; the value is its code in logs, in `status --json` and in BackendError."""

    said: str
    cure: str

    def __new__(cls, word: str, said: str, cure: str) -> Self:
        """Make a member from its word, what is said of the hub, and what to do."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.said, member.cure = said, cure
        return member

    @classmethod
    def of(cls, code: str) -> NotConnected | None:
        """Read a code; None for one that is no reason of these."""
        return cls.__members__.get(code.upper())

    @property
    def sentence(self) -> str:
        """What a person reads in one line."""
        return f"{self.said}: {self.cure}"

    # There is no way there.
    NAME_UNKNOWN = (
        "name_unknown",
        "the hub's name is not known",
        "is there a network, and is the name in backend.url right? `getent hosts NAME` asks DNS",
    )
    NOBODY_LISTENS = (
        "nobody_listens",
        "nobody listens at the hub's address and port",
        "does the hub run, and is the port in backend.url the hub's?",
    )
    TIMEOUT = (
        "timeout",
        "the hub does not answer",
        "is it switched on, is its address right, and does a firewall in between let its port through?",
    )
    UNREACHABLE = (
        "unreachable",
        "the hub cannot be reached",
        "is the network plugged in, and is there a way from it to the hub? `ping` it",
    )
    LOST = "lost", "the connection to the hub was lost", "it is made again by itself"
    # Who answers shows another certificate, or none.
    PIN_MISMATCH = (
        "pin_mismatch",
        "the hub's certificate is not the pinned one",
        "was the hub set up anew, or given another certificate? `voicemeet-edge device-settings` at the hub "
        "prints the new backend.tls_pin. If nothing was changed, somebody may sit in between",
    )
    CERTIFICATE_NOT_YET_VALID = (
        "certificate_not_yet_valid",
        "the hub's certificate is not valid yet",
        "set this machine's clock, or wait for NTP: `timedatectl` shows both",
    )
    CERTIFICATE_EXPIRED = (
        "certificate_expired",
        "the hub's certificate has expired",
        "set this machine's clock if it is wrong; else the hub needs a new certificate",
    )
    CERTIFICATE_WRONG_NAME = (
        "certificate_wrong_name",
        "the hub's certificate is for another name than the one in backend.url",
        "give backend.url the name that stands in the certificate",
    )
    CERTIFICATE_UNKNOWN = (
        "certificate_unknown",
        "nobody this machine trusts has signed the hub's certificate",
        "for a hub's own certificate set backend.tls_pin",
    )
    CERTIFICATE_NOT_TAKEN = (
        "certificate_not_taken",
        "the hub's certificate was not taken",
        "look at it: `openssl s_client -connect NAME:PORT`",
    )
    TLS = (
        "tls",
        "the TLS handshake with the hub failed",
        "are name, port and https in backend.url the hub's?",
    )
    # Something answers, and it is not the hub.
    NO_HUB = (
        "no_hub",
        "what answers there is no hub",
        "backend.url is the hub's address alone, as https://name:port without a page behind it",
    )
    USE_HTTPS = "use_https", "the hub speaks only https on this port", "write https:// in backend.url"
    # The hub refuses.
    BAD_APIKEY = (
        "bad_apikey",
        "the hub refuses the apikey",
        "backend.apikey is of another hub: `voicemeet-edge device-settings` at the hub prints its own",
    )
    PASS_NEEDED = (
        "pass_needed",
        "the hub wants a pass for this pool",
        "make one at the hub (`voicemeet-edge enroll`, or the operator's page) and set backend.pass",
    )
    PASS_REFUSED = (
        "pass_refused",
        "the hub refuses the pass",
        "it is mistyped, taken back, or for another pool or role: make a new one at the hub "
        "(`voicemeet-edge enroll`, or the operator's page)",
    )
    PROOF_NEEDED = (
        "proof_needed",
        "the hub wants a proof of the intercom key for this pool",
        "set security.intercom_keys to the building's key",
    )
    PROOF_REFUSED = (
        "proof_refused",
        "the intercom key is not the one of this pool",
        "set security.intercom_keys to the building's key; `voicemeet-edge key status` at the hub says who "
        "still has an old one",
    )
    UNKNOWN_POOL = (
        "unknown_pool",
        "the hub has no such pool",
        "correct call.pool, or add the pool to match.pools in the hub's hub.toml",
    )
    WRONG_HOST = (
        "wrong_host",
        "the hub does not know the name in backend.url",
        "write the name the hub has, or add this one to http.names in its hub.toml",
    )
    BUSY_HUB = (
        "busy_hub",
        "the hub has too much to do just now",
        "wait: it is asked again by itself; if it stays so, look at the hub's log",
    )
    # Connected, and yet no call would come about.
    NO_RELAY = (
        "no_relay",
        "the hub gives no relay, and this pool needs one: no address may be told to strangers",
        'set [turn] provider in the hub\'s hub.toml; or ice.policy = "direct" where nobody is a stranger',
    )
    CLOCK = (
        "clock",
        "this machine's clock is wrong",
        "let it reach a time server (NTP, UDP port 123): `timedatectl` shows whether it does",
    )


REFUSALS: Final = frozenset(
    {
        NotConnected.BAD_APIKEY,
        NotConnected.PASS_NEEDED,
        NotConnected.PASS_REFUSED,
        NotConnected.PROOF_NEEDED,
        NotConnected.PROOF_REFUSED,
        NotConnected.UNKNOWN_POOL,
        NotConnected.WRONG_HOST,
    }
)
"""Somebody must change a setting or make a pass; waiting heals none of them."""


def of_status(status: int) -> NotConnected:
    """Return what an HTTP status means where nothing better is known."""
    if status in (401, 403):
        return NotConnected.BAD_APIKEY
    if status == 421:
        return NotConnected.WRONG_HOST
    if status == 426:
        return NotConnected.USE_HTTPS
    if status == 429 or status >= 500:
        return NotConnected.BUSY_HUB
    return NotConnected.NO_HUB
