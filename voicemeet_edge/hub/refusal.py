"""What a verb is refused with; the one rule: the sentence helps a developer and names nobody."""

from __future__ import annotations

from voicemeet_edge.errors import RemoteError


class RefusedError(RemoteError):
    """A verb was refused: HTTP status, stable code, a sentence, and when to try again."""

    code = "refused"

    def __init__(self, status: int, code: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.retry_after_s = retry_after_s


def bad_token(message: str = "the token is missing, malformed, expired or not ours") -> RefusedError:
    """Return the one refusal for every kind of bad token: which kind it was helps only a forger."""
    return RefusedError(401, "bad_token", message)


def too_fast(retry_after_s: float) -> RefusedError:
    """Return the refusal of a rate limit."""
    return RefusedError(429, "too_fast", "too many requests, slow down", retry_after_s=retry_after_s)
