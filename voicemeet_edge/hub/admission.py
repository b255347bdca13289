"""Who may look for whom: open pools for anybody, closed ones by pass and proof (docs/contract.md).

Pure; the one rule: a closed pool says yes only to a pass for just this pool and role, looked up now.
"""

from __future__ import annotations

from collections.abc import Sequence

from voicemeet_edge.backend.admission import admission_key_id, proved_key
from voicemeet_edge.backend.verbs import MatchRequest, Role, is_self_test
from voicemeet_edge.hub.passes import Pass, PassBook
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.secret import Secret

EVERY_POOL = "*"  # in `open_pools`: for labs


class Admission:
    """The rules of this hub's pools."""

    def __init__(self, pools: Sequence[str], open_pools: Sequence[str], book: PassBook) -> None:
        """`pools` are those that exist (empty: any), `open_pools` those that ask for no pass."""
        self._pools = frozenset(pools)
        self._open = frozenset(open_pools)
        self.book = book
        self._key_use: dict[str, tuple[str, str]] = {}
        self._news: dict[str, str] = {}

    def is_open(self, pool: str) -> bool:
        """Say whether strangers may meet here; themselves only, in a self-test's pool, where any may meet."""
        if is_self_test(pool):
            return bool(self._open)
        return pool in self._open or EVERY_POOL in self._open

    def enrol(self, text: Secret | None) -> Pass | None:
        """Return the pass that is shown with `session`; RefusedError for one that is not good."""
        if text is None:
            return None
        shown = self.book.of_text(text)
        if shown is None or shown.is_operator:
            raise _refused("pass_refused", "this pass is unknown here, or it was taken back")
        return shown

    def check_operator(self, text: Secret) -> None:
        """Let whoever shows an operator's pass through; RefusedError for anybody else."""
        shown = self.book.of_text(text)
        if shown is None or not shown.is_operator:
            raise RefusedError(401, "pass_refused", "this is no operator's pass here, or it was taken back")

    def check(self, request: MatchRequest, pass_id: str, device_token: Secret) -> None:
        """Let a `match` through, or say with RefusedError why not."""
        if is_self_test(request.pool):
            if not self._open and self.book.of_id(pass_id) is None:
                raise _refused("pass_needed", "a self-test takes a pass here, of whatever pool")
            return
        if self._pools and request.pool not in self._pools:
            raise RefusedError(404, "unknown_pool", "there is no such pool here")
        if self.is_open(request.pool):
            return
        self.check_pass(request.pool, request.role, pass_id)
        self._check_proof(request, pass_id, device_token)

    def check_pass(self, pool: str, role: Role, pass_id: str) -> None:
        """Say with RefusedError why somebody has no pass for this role in this closed pool."""
        if not pass_id:
            raise _refused("pass_needed", "this pool is closed: it takes a pass to be here")
        shown = self.book.of_id(pass_id)
        if shown is None:
            raise _refused("pass_refused", "this pass was taken back")
        if shown.pool != pool:
            raise _refused("pass_refused", "this pass is for another pool")
        if shown.role is not role:
            raise _refused("pass_refused", "this pass is for another role")

    def _check_proof(self, request: MatchRequest, pass_id: str, device_token: Secret) -> None:
        keys = self.book.admission_keys(request.pool)
        if not keys:
            return
        if not request.proof:
            raise _refused("proof_needed", "this pool also wants a proof of the intercom key")
        key = proved_key(keys, request.proof, device_token, request.pool, request.role, request.ticket)
        if key is None:
            raise _refused("proof_refused", "the intercom key is not the one of this pool")
        if request.pool in self.book.rotations:
            used = admission_key_id(key)
            # The same key is new in one change and old in the next.
            if self._key_use.get(pass_id) != (used, self.book.rotations[request.pool]):
                self._key_use[pass_id] = (used, self.book.rotations[request.pool])
                self._news[pass_id] = used

    def take_key_news(self) -> dict[str, str]:
        """Return which passes proved another key than before, while their pool's key is changed; once."""
        news, self._news = self._news, {}
        return news


def _refused(code: str, message: str) -> RefusedError:
    return RefusedError(403, code, message)
