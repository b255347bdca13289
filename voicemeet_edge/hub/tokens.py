"""The hub's JWTs (HS256): apikey, device, call and wait tokens; the one rule: each opens one door.

A device token asks the verbs for a match, a call JWT joins one call's topic, a wait token reads one
ticket's topic, and the apikey alone joins nothing private. Times are unix seconds, given by the caller.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import secrets as random_secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

import jwt

from voicemeet_edge.backend.fields import MAX_TOKEN_LENGTH
from voicemeet_edge.backend.verbs import CALL_ID_PATTERN, TICKET_PATTERN, Slot
from voicemeet_edge.hub.realtime.authorizer import Claims, TokenError, TokenFault
from voicemeet_edge.hub.refusal import RefusedError, bad_token
from voicemeet_edge.hub.secrets import HubSecrets
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret

APIKEY_EXPIRES_AT = 4_102_444_800  # unix s: 2100-01-01; a fixed value, so the key is the same at each start
WAIT_TOKEN_TTL_S = 600.0  # s; a longer search gets a fresh one with every poll
MAX_CACHED_TOKENS = 20_000  # device tokens already verified, about 8 MB
JTI_BYTES = 12  # bytes: 96 random bits, so a hash of it cannot be guessed backwards

_HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=") + b"."
_REALTIME_ROLES = ("anon", "authenticated")  # a device token has neither: it opens no topic
_DECODE_OPTIONS = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}


@dataclass(frozen=True, slots=True)
class DeviceClaims:
    """What a device token says: the hash that stands for the device, and the pass it is enrolled with."""

    device: str
    pass_id: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class CallClaims:
    """What a call JWT says: one slot of one call, which may last `until`."""

    call_id: str
    slot: Slot
    until: float
    expires_at: float
    pass_id: str = ""


class Tokens:
    """Makes and reads all tokens of this hub."""

    def __init__(self, secrets: HubSecrets, *, call_ttl_s: float, device_ttl_s: float) -> None:
        self._key = secrets.jwt.reveal().encode()
        self._salt = secrets.salt.reveal().encode()
        self._call_ttl_s = call_ttl_s
        self._device_ttl_s = device_ttl_s
        self._devices: OrderedDict[str, DeviceClaims] = OrderedDict()
        self.apikey = Secret(self._encode({"iss": "voicemeet", "role": "anon", "exp": APIKEY_EXPIRES_AT}))
        self._apikey_bytes = self.apikey.reveal().encode()

    @property
    def call_ttl_s(self) -> float:
        """Life of a call JWT in seconds."""
        return self._call_ttl_s

    @property
    def device_ttl_s(self) -> float:
        """Life of a device token in seconds."""
        return self._device_ttl_s

    def is_apikey(self, text: str) -> bool:
        """Say whether this is the hub's apikey."""
        return hmac.compare_digest(text.encode("utf-8", "replace"), self._apikey_bytes)

    def make_device(self, now: float, pass_id: str = "") -> tuple[Secret, str]:
        """Return a new device token, enrolled with a pass if there is one, and its hash."""
        jti = random_secrets.token_hex(JTI_BYTES)
        claims: dict[str, object] = {"role": "device", "exp": int(now + self._device_ttl_s), "jti": jti}
        token = self._encode({**claims, "pass": pass_id} if pass_id else claims)
        return Secret(token), self._hash("device", jti)

    def read_device(self, token: str, now: float, grace_s: float = 0.0) -> DeviceClaims:
        """Return what a device token says; RefusedError 401 when it is not a good one."""
        known = self._devices.get(token)
        if known is None:
            claims = self._decode(token)
            jti = claims.get("jti")
            if claims.get("role") != "device" or not isinstance(jti, str):
                raise bad_token()
            shown = claims.get("pass", "")
            known = DeviceClaims(
                self._hash("device", jti), shown if isinstance(shown, str) else "", _expiry(claims)
            )
            self._devices[token] = known
            if len(self._devices) > MAX_CACHED_TOKENS:
                self._devices.popitem(last=False)
        if known.expires_at + grace_s <= now:
            raise bad_token()
        return known

    def is_ours(self, token: str) -> bool:
        """Say whether we made this token, for whatever door and whenever."""
        return self._claims_of(token) is not None

    def is_enrolled(self, token: str) -> bool:
        """Say whether a pass stands behind this token of ours."""
        claims = self._claims_of(token)
        return claims is not None and bool(claims.get("pass"))

    def _claims_of(self, token: str) -> dict[str, object] | None:
        known = self._devices.get(token)
        if known is not None:
            return {"pass": known.pass_id}
        try:
            claims = self.claims(token)
        except TokenError:
            return None
        # The apikey is a token of ours too, and everybody has it.
        return claims if "jti" in claims else None

    def make_call(self, call_id: str, slot: Slot, until: float, now: float, pass_id: str = "") -> Secret:
        """Return a call JWT; `until` (when the call must be over) travels along, so a restart keeps it."""
        claims: dict[str, object] = {
            "role": "anon",
            "exp": int(now + self._call_ttl_s),
            "call_id": call_id,
            "slot": slot,
            "until": int(until),
            "jti": random_secrets.token_hex(JTI_BYTES),
        }
        return Secret(self._encode({**claims, "pass": pass_id} if pass_id else claims))

    def read_call(self, token: str, now: float, grace_s: float = 0.0) -> CallClaims:
        """Return what a call JWT says; RefusedError 401 when it is not a good one."""
        claims = self._decode(token)
        call_id, slot, until = claims.get("call_id"), claims.get("slot"), claims.get("until")
        expires_at = _expiry(claims)
        if not isinstance(call_id, str) or not CALL_ID_PATTERN.match(call_id) or slot not in ("a", "b"):
            raise bad_token()
        if not isinstance(until, int) or expires_at + grace_s <= now:
            raise bad_token()
        shown = claims.get("pass", "")
        return CallClaims(call_id, slot, float(until), expires_at, shown if isinstance(shown, str) else "")

    def make_wait(self, ticket: str, now: float, pass_id: str = "") -> Secret:
        """Return a token that may listen on `wait:<ticket>`."""
        jti = random_secrets.token_hex(JTI_BYTES)
        claims: dict[str, object] = {"role": "anon", "exp": int(now + WAIT_TOKEN_TTL_S), "ticket": ticket}
        claims["jti"] = jti
        return Secret(self._encode({**claims, "pass": pass_id} if pass_id else claims))

    def receipt(self, call_id: str, slot: Slot) -> str:
        """Return the receipt of a report: the same for the same call and slot, telling neither."""
        digits = self._hash("receipt", f"{call_id} {slot}")[:16].upper()
        return f"{digits[:4]}-{digits[4:8]}-{digits[8:12]}-{digits[12:]}"

    def claims(self, token: str) -> dict[str, object]:
        """Return the claims of any token of ours, expired or not; TokenError otherwise."""
        if not token or len(token) > MAX_TOKEN_LENGTH:
            raise TokenError(TokenFault.MALFORMED)
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"], options=_DECODE_OPTIONS)  # type: ignore[arg-type]
        except jwt.InvalidSignatureError:
            raise TokenError(TokenFault.SIGNATURE) from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # PyJWT lets a few plain errors through for very odd headers.
            raise TokenError(TokenFault.MALFORMED) from None
        return cast("dict[str, object]", claims)

    def _hash(self, purpose: str, text: str) -> str:
        return hmac.digest(self._salt, f"{purpose} {text}".encode(), "sha256").hex()[:32]

    def _encode(self, claims: dict[str, object]) -> str:
        # RFC 7515 section 7.1 by hand: PyJWT parses the key anew for each token, three times the work.
        signed = _HEADER + base64.urlsafe_b64encode(
            json.dumps(claims, separators=(",", ":")).encode()
        ).rstrip(b"=")
        signature = base64.urlsafe_b64encode(hmac.digest(self._key, signed, "sha256")).rstrip(b"=")
        return (signed + b"." + signature).decode()

    def _decode(self, token: str) -> dict[str, object]:
        try:
            return self.claims(token)
        except TokenError:
            raise bad_token() from None


class HubAuthorizer:
    """Realtime's Authorizer on the hub's tokens."""

    def __init__(self, tokens: Tokens, *, allow_public: bool, unix: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._allow_public = allow_public
        self._unix = unix

    def apikey_claims(self, key: str) -> Claims:
        """Return what the apikey allows (nothing private); TokenError for any other text."""
        claims = self.token_claims(key)
        # As hosted: a call's JWT can not stand in for the project's key.
        if claims.call_id is not None or claims.ticket is not None:
            raise TokenError(TokenFault.CLAIMS)
        return claims

    def token_claims(self, token: str) -> Claims:
        """Return what an access token allows; TokenError when it does not hold."""
        raw = self._tokens.claims(token)
        role, call_id, slot, ticket = (raw.get(name) for name in ("role", "call_id", "slot", "ticket"))
        try:
            expires_at = _expiry(raw)
        except RefusedError:
            raise TokenError(TokenFault.CLAIMS) from None
        if role not in _REALTIME_ROLES:
            raise TokenError(TokenFault.CLAIMS)
        now = self._unix()
        if expires_at <= now:
            raise TokenError(TokenFault.EXPIRED, now - expires_at)
        jti = raw.get("jti")
        return Claims(
            role=str(role),
            exp=expires_at,
            call_id=call_id if isinstance(call_id, str) and slot in ("a", "b") else None,
            slot=str(slot) if slot in ("a", "b") else None,
            ticket=ticket if isinstance(ticket, str) and TICKET_PATTERN.match(ticket) else None,
            jti=jti if isinstance(jti, str) else "",
        )

    def is_enrolled(self, token: str) -> bool:
        """Say whether a pass stands behind a token of ours, of any kind."""
        return bool(token) and self._tokens.is_enrolled(token)

    def may_read(self, claims: Claims, topic: str, private: bool) -> bool:
        """Let a call JWT into its call's topic and a wait token into its ticket's, nobody else."""
        if not private:
            return self._allow_public
        if claims.ticket is not None and topic == f"wait:{claims.ticket}":
            return True
        return self._is_own_call(claims, topic)

    def may_write(self, claims: Claims, topic: str, private: bool) -> bool:
        """Let a call JWT speak on its call's topic; `wait:` topics are the hub's alone."""
        if not private:
            return self._allow_public
        return self._is_own_call(claims, topic)

    @staticmethod
    def _is_own_call(claims: Claims, topic: str) -> bool:
        return claims.call_id is not None and topic == f"call:{claims.call_id}"


def _expiry(claims: dict[str, object]) -> float:
    expires_at = claims.get("exp")
    if (
        isinstance(expires_at, bool)
        or not isinstance(expires_at, int | float)
        or not math.isfinite(expires_at)
    ):
        raise bad_token()
    return float(expires_at)
