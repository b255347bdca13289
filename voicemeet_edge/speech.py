"""What the device says aloud in words: sentences beside its tones, and the check words.

One rule: one at a time, and what comes meanwhile is left out: its tone has said it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from voicemeet_edge.audio.engine import VoiceEngine
from voicemeet_edge.audio.prompts import recorded
from voicemeet_edge.audio.spoken_words import say, speak
from voicemeet_edge.call import observed
from voicemeet_edge.call.observed import Observer
from voicemeet_edge.call.session import CallSession
from voicemeet_edge.call.signs import Prompt, Tone
from voicemeet_edge.choices import Language
from voicemeet_edge.languages.catalogue import text


class Speech:
    """Speaks through the engine; its tasks belong to the group it is given with each sentence."""

    def __init__(self, engine: VoiceEngine, observe: Observer) -> None:
        self._engine = engine
        self._observe = observe
        self._speaking: asyncio.Task[None] | None = None

    def say(
        self, group: asyncio.TaskGroup | None, language: Language, prompt: Prompt, place: int = 0
    ) -> None:
        """Say a sentence; where there is neither recording nor synthesiser the tone has said it."""
        self._begin(group, lambda: self._say(language, prompt, place))

    def say_words(
        self, group: asyncio.TaskGroup | None, language: Language, talking: Callable[[], CallSession | None]
    ) -> None:
        """Say the check words of the call that `talking` gives; None while there is no voice."""
        self._begin(group, lambda: self._say_words(language, talking))

    def _begin(
        self, group: asyncio.TaskGroup | None, work: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        if group is not None and (self._speaking is None or self._speaking.done()):
            self._speaking = group.create_task(work())

    async def _say(self, language: Language, prompt: Prompt, place: int) -> None:
        samples = await asyncio.to_thread(recorded, prompt.value, language) if not place else None
        if samples is None:
            sentence = await asyncio.to_thread(text, language, f"spoken.{prompt.value}", place=place)
            samples = await say(sentence, language)
        if samples is not None:
            self._engine.play_samples(samples)

    async def _say_words(self, language: Language, talking: Callable[[], CallSession | None]) -> None:
        """Never words that were not computed for this very connection."""
        session = talking()
        words = session.words if session is not None else None
        samples = await speak(words, language) if words is not None else None
        if session is None or talking() is not session:
            return  # the call the words belong to is over
        if samples is None:
            self._observe(observed.ToneAsked(Tone.WORDS_UNAVAILABLE))
            self._engine.play(Tone.WORDS_UNAVAILABLE)
        else:
            self._observe(observed.WordsSpoken(len(words or ())))
            self._engine.play_samples(samples)
