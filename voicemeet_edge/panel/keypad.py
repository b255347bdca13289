"""Several call buttons, each for a pool of its own, as door stations of houses have them. Pure.

One rule: a button that calls a pool is in everything else the call button: in a call it hangs up.
"""

from __future__ import annotations

from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret


@dataclass(frozen=True, slots=True)
class KeypadButton:
    """One button of the settings."""

    line: str
    pool: str
    shown_pass: Secret
    """For its pool; empty where none is needed."""


@dataclass(frozen=True, slots=True)
class PoolPressed:
    """The button of this pool was pressed."""

    pool: str
