"""The passes of a hub: who may take which role in which closed pool; the one rule: only hashes are kept.

Pure. The book is what the database said last; the hub reads it anew when the command line changed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from voicemeet_edge.backend.admission import PASS_ID_CHARS, PassTextError, pass_hash
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret

OPERATOR = "operator"  # where a role's word stands


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass as it is kept; times are unix seconds."""

    hash: str
    pool: str
    """The pool it opens, "" for the operator's."""
    role: Role | None
    """The role it gives; None: it is the operator's, and opens the operator's page and no pool."""
    label: str
    made_at: int
    revoked_at: int | None = None

    @property
    def id(self) -> str:
        """What names it in a token and on the command line; it opens nothing."""
        return self.hash[:PASS_ID_CHARS]

    @property
    def is_operator(self) -> bool:
        """Whether it opens the operator's page."""
        return self.role is None

    @property
    def role_word(self) -> str:
        """Its role as lists and the database have it."""
        return OPERATOR if self.role is None else self.role.value


class PassBook:
    """All passes and admission keys of this hub."""

    def __init__(
        self,
        passes: Iterable[Pass] = (),
        admission_keys: Mapping[str, list[bytes]] | None = None,
        rotations: Mapping[str, str] | None = None,
    ) -> None:
        """`rotations` names the pools whose intercom key is being changed."""
        self.rotations = dict(rotations or {})
        self._by_id = {entry.id: entry for entry in passes}
        self._admission_keys = dict(admission_keys or {})

    def of_text(self, text: Secret) -> Pass | None:
        """Return the pass that somebody shows; None when it is none of ours or was taken back."""
        try:
            hashed = pass_hash(text)
        except PassTextError:
            return None
        entry = self.of_id(hashed[:PASS_ID_CHARS])
        return entry if entry is not None and entry.hash == hashed else None

    def passes(self) -> list[Pass]:
        """Return all passes, oldest first, those that were taken back too."""
        return sorted(self._by_id.values(), key=lambda entry: (entry.made_at, entry.hash))

    def of_id(self, pass_id: str) -> Pass | None:
        """Return the pass a token was made with; None when it is gone or was taken back."""
        entry = self._by_id.get(pass_id)
        return entry if entry is not None and entry.revoked_at is None else None

    def admission_keys(self, pool: str) -> list[bytes]:
        """Return the keys one of which a proof for this pool must be made with; empty: no proof needed."""
        return self._admission_keys.get(pool, [])

    def __len__(self) -> int:
        return len(self._by_id)
