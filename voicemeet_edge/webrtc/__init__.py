"""The connection to the other party; nothing of aiortc or aioice is loaded that a call does not need."""

from voicemeet_edge.webrtc.lean import keep_light

# Before any module of this package imports them: afterwards it is too late.
keep_light()
