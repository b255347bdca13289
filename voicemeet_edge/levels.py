"""How loud and how bright the device is at this hour: brings what `Loudness` says to loudspeaker and lamp."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from voicemeet_edge.audio.engine import VoiceEngine
from voicemeet_edge.call.signs import Tone
from voicemeet_edge.loudness import Loudness, is_within
from voicemeet_edge.panel.interface import Panel
from voicemeet_edge.settings import Settings


class Levels:
    """Told what somebody sets or chooses; looks at the clock as often as it is asked to."""

    def __init__(
        self,
        settings: Settings,
        engine: VoiceEngine,
        panel: Panel,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._panel = panel
        self._clock = clock
        self._loudness = Loudness(settings.audio.volume, settings.audio.night_volume)
        self._lamp_level = settings.panel.night_level  # the panel begins with it

    @property
    def chosen(self) -> int:
        """Per cent by day and in calls."""
        return self._loudness.chosen

    def apply(self, settings: Settings) -> None:
        """Take new settings; what was chosen at the buttons stays while `audio.volume` does."""
        is_new = settings.audio.volume != self._settings.audio.volume
        self._settings = settings
        self.choose(settings.audio.volume if is_new else self._loudness.chosen)

    def choose(self, volume: int) -> None:
        """Be this loud, in per cent, from now on."""
        self._loudness.set(volume, self._settings.audio.night_volume)
        self.look()

    def step(self) -> None:
        """One step louder, and let it be heard; at night too, until the clock is looked at again."""
        self._loudness.step()
        self._engine.set_volume(self._loudness.chosen)
        self._engine.play(Tone.PRESSED)

    def talk(self, *, is_talking: bool) -> None:
        """Take whether two people talk: then the night does not count."""
        self._loudness.is_talking = is_talking
        self.look()

    def look(self) -> None:
        """Be as bright and loud as it is right at this hour."""
        panel = self._settings.panel
        self._loudness.is_night = is_within(panel.night, self._clock())
        level = panel.night_level if self._loudness.is_night or not panel.night else 100
        if level != self._lamp_level:
            self._lamp_level = level
            self._panel.dim(level)
        if self._engine.volume != self._loudness.now:
            self._engine.set_volume(self._loudness.now)
