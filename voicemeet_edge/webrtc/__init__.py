"""The connection to the other party; nothing of aiortc or aioice is loaded that a call does not need."""

from voicemeet_edge.webrtc.lazy_imports import install_lazy_modules

# Before any module of this package imports them: afterwards it is too late.
install_lazy_modules()
