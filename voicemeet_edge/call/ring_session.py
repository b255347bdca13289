"""One press of the button at all desks at once: carries out what `GroupRing` decides.

One rule: nothing is decided here, and nothing of it outlives `run`. Each desk has a `CallSession` of its own;
what they tell goes to the ring, and what the ring answers is done, in order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import assert_never

from voicemeet_edge.backend.verbs import MatchedReply, RingingReply
from voicemeet_edge.call.commands import Tell
from voicemeet_edge.call.in_order import InOrder
from voicemeet_edge.call.ring import AskNow, Begin, Choose, End, GroupRing, Queued, RingAnew, RingCommand
from voicemeet_edge.call.search import Search
from voicemeet_edge.call.session import CallSession, News
from voicemeet_edge.errors import BackendError
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.timers import DeadlineTimer

logger = logging.getLogger(__name__)

MakeSession = Callable[[MatchedReply, bool, Callable[[News], None]], CallSession]
"""A session for this desk, eager or not, and whom it tells its news."""


class RingSession:
    """Rings until somebody answers, then is that call; see the module's docstring."""

    def __init__(
        self,
        ring: GroupRing,
        new_search: Callable[[], Search],
        new_session: MakeSession,
        *,
        on_news: Callable[[News | Queued], None],
        on_chosen: Callable[[CallSession], None],
    ) -> None:
        self._ring = ring
        self._new_search = new_search
        self._new_session = new_session
        self._on_news = on_news
        self._on_chosen = on_chosen
        self._sessions: dict[str, CallSession] = {}
        self._search: Search | None = None
        self._searching: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._timer = DeadlineTimer(lambda now: self._execute(self._ring.handle_timer(now)))
        self._orders = InOrder(self._do)
        self._error: BackendError | None = None
        self._done = asyncio.Event()

    def end(self, reason: EndReason) -> None:
        """Say bye to whoever there is and come to an end; `run` returns soon. Idempotent."""
        self._execute(self._ring.end(reason))

    async def run(self) -> None:
        """Ring, and live through the call that comes of it; returns when everything is freed.

        Raises:
            BackendError: the backend refused the search, and asking again would not help.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                timer = group.create_task(self._timer.run())
                self._begin_search()
                await self._done.wait()
                self._group = None
                timer.cancel()
                self._stop_search()
        finally:
            self._group = None
        if self._error is not None:
            raise self._error

    # -- what happens ------------------------------------------------------------------------

    def _found(self, reply: RingingReply) -> None:
        self._execute(self._ring.found(reply, time.monotonic()))

    def _leg_news(self, call_id: str, news: News) -> None:
        if isinstance(news, Tell):
            self._execute(self._ring.told(call_id, news, time.monotonic()))
        elif call_id == self._ring.chosen:
            self._on_news(news)

    async def _live(self, call_id: str, session: CallSession) -> None:
        await session.run()
        del self._sessions[call_id]
        if call_id == self._ring.chosen:
            self._done.set()
        self._execute(self._ring.over(call_id, EndReason.FAILED, time.monotonic()))

    async def _look(self, search: Search) -> None:
        try:
            await search.ring(self._found, lambda: self._ring.again)
        except BackendError as error:
            if self._sessions:
                logger.debug("no more desks are looked for: %s", error.code)
            else:
                self._error = error
                self._done.set()

    # -- what is done ------------------------------------------------------------------------

    def _execute(self, commands: Sequence[RingCommand]) -> None:
        if not self._orders.execute(commands):
            return
        if self._ring.is_over and not self._sessions:
            self._done.set()
        self._timer.set(self._ring.deadline)

    def _do(self, command: RingCommand) -> None:
        match command:
            case Begin():
                self._begin(command)
            case End():
                if (session := self._sessions.get(command.call_id)) is not None:
                    session.end(command.reason)
            case Choose():
                self._stop_search()
                self._on_chosen(self._sessions[command.call_id])
            case AskNow():
                if self._search is not None:
                    self._search.hurry()
            case RingAnew():
                self._begin_search()
            case Queued() | Tell():
                self._on_news(command)
            case _:
                assert_never(command)

    def _begin(self, command: Begin) -> None:
        if self._group is None:
            return
        call_id = command.matched.call_id
        session = self._new_session(
            command.matched, command.is_eager, lambda news: self._leg_news(call_id, news)
        )
        self._sessions[call_id] = session
        self._group.create_task(self._live(call_id, session))

    def _begin_search(self) -> None:
        self._stop_search()
        if self._group is not None:
            self._search = self._new_search()
            self._searching = self._group.create_task(self._look(self._search))

    def _stop_search(self) -> None:
        if self._searching is not None:
            self._searching.cancel()
        self._search = self._searching = None
