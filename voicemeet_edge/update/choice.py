"""Whether this device takes what is offered now; pure.

One rule: every no is a sentence that says what would make it a yes.
"""

from __future__ import annotations

from voicemeet_edge.records import dataclass
from voicemeet_edge.update.history import History
from voicemeet_edge.update.offer import UpdateOffer
from voicemeet_edge.update.stage import is_chosen
from voicemeet_edge.update.version import SystemVersion

MAX_TRIES = 3  # of one version on one device; what failed three times is not bad luck
AGAIN_AFTER_S = 86_400.0  # s until a version that failed here is tried again: the hub may have been down
MAX_POSTPONE_DAYS = 30  # days; EN 303 645 5.3-6 lets users postpone, not forget


@dataclass(frozen=True)
class Choice:
    """Take it, or not; `why` is a whole sentence."""

    take: bool
    why: str


@dataclass(frozen=True)
class Here:
    """What this device is."""

    board: str
    version: SystemVersion


def fits(board: str, version: SystemVersion, here: Here, *, force: bool = False) -> Choice:
    """Say whether a bundle of this board and version may be written here at all."""
    if board != here.board:
        return Choice(False, f"It is for {board}, and this is {here.board}.")
    if version == here.version and not force:
        return Choice(False, f"Version {version} is what runs here.")
    if version < here.version and not force:
        return Choice(
            False,
            f"Version {version} is older than {here.version}, which runs; --force goes back all the same.",
        )
    return Choice(True, f"Version {version} fits.")


def choose(offer: UpdateOffer, here: Here, history: History, now: float) -> Choice:
    """Say whether the device takes an offer by itself.

    Args:
        offer: what the server has.
        here: what runs.
        history: what the device remembers.
        now: seconds since 1970.
    """
    answer = fits(offer.board, offer.version, here)
    if not answer.take:
        return answer
    version = offer.version
    if now < history.postponed_until:
        days = (history.postponed_until - now) / 86_400
        return Choice(False, f"Version {version} is postponed for {days:.1f} more days.")
    failure = history.failure_of(version)
    if failure is not None and failure.tries >= MAX_TRIES:
        return Choice(
            False,
            f"Version {version} failed here {failure.tries} times ({failure.why}); "
            "`voicemeet-edge update URL` tries it again.",
        )
    # A clock that was set back makes the failure lie in the future: then it is tried again at once.
    if failure is not None and 0 <= now - failure.at < AGAIN_AFTER_S * failure.tries:
        return Choice(
            False, f"Version {version} failed here ({failure.why}); it is tried again in a day or two."
        )
    if not is_chosen(history.device_id, version, offer.percent):
        return Choice(
            False,
            f"Version {version} goes to {offer.percent} % of the devices so far, and not yet to this one.",
        )
    return Choice(True, f"Version {version} is taken.")


def postponed_until(days: float, now: float) -> float:
    """Return until when an update rests, within the limit."""
    return now + 86_400.0 * min(max(days, 0.0), MAX_POSTPONE_DAYS)
