"""A device on duty: callers may be on the way here, and the first that says hello rings.

One rule: a match holds nobody up. The device stays in the queue, with a new ticket, while who was matched
with it is only arriving; callers that come and say nothing do not keep it from those who do. From the hello
to the call's end it is there as busy, so that nobody who rings meanwhile is told that nobody is on duty.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from voicemeet_edge.backend.verbs import DeskState, MatchedReply
from voicemeet_edge.call.commands import Tell
from voicemeet_edge.call.search import Search
from voicemeet_edge.call.session import CallSession, News
from voicemeet_edge.errors import BackendError
from voicemeet_edge.reasons import EndReason

logger = logging.getLogger(__name__)

MAX_ARRIVING = 4  # callers on the way at once; each has a certificate and a channel
MAX_IN_A_ROW = 16  # callers looked at without a pause: whoever floods us must not keep the box busy

MakeSession = Callable[[MatchedReply, Callable[[News], None]], CallSession]
"""A session for this caller, and whom it tells its news."""


class Reception:
    """Waits for a caller and is that call; see the module's docstring. Use it once."""

    def __init__(
        self,
        new_search: Callable[[DeskState], Search],
        new_session: MakeSession,
        *,
        on_news: Callable[[News], None],
        on_chosen: Callable[[CallSession, MatchedReply], None],
    ) -> None:
        self._new_search = new_search
        self._new_session = new_session
        self._on_news = on_news
        self._on_chosen = on_chosen
        self._sessions: set[CallSession] = set()
        self._chosen: CallSession | None = None
        self._group = asyncio.TaskGroup()
        self._looking: asyncio.Task[None] | None = None
        self._has_left = asyncio.Event()
        self._is_over = asyncio.Event()
        self._error: BackendError | None = None

    def end(self, reason: EndReason) -> None:
        """Say bye to whoever is on the way and come to an end; `run` returns soon. Idempotent."""
        self._stop_looking()
        for session in list(self._sessions):
            session.end(reason)
        if not self._sessions:
            self._is_over.set()

    async def run(self) -> None:
        """Wait for a caller that says hello and live through its call; returns when everything is freed.

        It returns, too, once all who were on the way are gone without a word: then one may wait again.

        Raises:
            BackendError: the backend refused the search, and asking again would not help.
        """
        async with self._group as group:
            self._looking = group.create_task(self._look(group))
            await self._is_over.wait()
            self._stop_looking()
        if self._error is not None:
            raise self._error

    async def _look(self, group: asyncio.TaskGroup) -> None:
        try:
            for _ in range(MAX_IN_A_ROW):
                group.create_task(self._live(self._begin(await self._new_search(DeskState.FREE).find())))
                while len(self._sessions) >= MAX_ARRIVING:
                    self._has_left.clear()
                    await self._has_left.wait()
        except BackendError as error:
            if self._sessions:
                logger.debug("no more callers are looked for: %s", error.code)
            else:
                self._error = error
                self._is_over.set()

    async def _be_busy(self) -> None:
        """Be counted, and found by nobody, until cancelled."""
        try:
            matched = await self._new_search(DeskState.BUSY).find()
        except BackendError as error:
            logger.debug("the backend does not hear that this device is busy: %s", error.code)
            return
        session = self._new_session(matched, lambda _news: None)  # by a backend that knows no busy desks
        session.end(EndReason.BUSY)
        await session.run()

    def _begin(self, matched: MatchedReply) -> CallSession:
        session = self._new_session(matched, lambda news: self._take_news(session, matched, news))
        self._sessions.add(session)
        return session

    async def _live(self, session: CallSession) -> None:
        await session.run()
        self._sessions.discard(session)
        self._has_left.set()
        if session is self._chosen or not self._sessions:
            self._is_over.set()

    def _take_news(self, session: CallSession, matched: MatchedReply, news: News) -> None:
        if self._chosen is None and isinstance(news, Tell):
            # The first that a session tells is that its caller is there.
            self._chosen = session
            self._stop_looking()
            self._looking = self._group.create_task(self._be_busy())
            for other in self._sessions - {session}:
                other.end(EndReason.BUSY)
            self._on_chosen(session, matched)
        if session is self._chosen:
            self._on_news(news)

    def _stop_looking(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
