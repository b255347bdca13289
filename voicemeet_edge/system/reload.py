"""What of new settings can be taken while the device runs; pure.

One rule: what is not named here is taken by a new start, and that waits until no call runs.
"""

from __future__ import annotations

from dataclasses import replace

from voicemeet_edge.settings import Settings


def needs_start(old: Settings, new: Settings) -> bool:
    """Say whether more differs than loudness, microphone gain, the night and the log's level."""
    live = replace(
        old,
        audio=replace(
            old.audio,
            volume=new.audio.volume,
            night_volume=new.audio.night_volume,
            microphone_gain_db=new.audio.microphone_gain_db,
        ),
        panel=replace(old.panel, night_level=new.panel.night_level, night=new.panel.night),
        log=new.log,
    )
    return live != new
