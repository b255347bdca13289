"""Which parts of aiortc and aioice stay unloaded until somebody really asks for them.

Importing any module of a package runs the whole package first: aiortc's brings FFmpeg's libraries, its codecs
and SCTP, aioice's a DNS library for names that most calls never see. Together that is a quarter of this
process' memory and half a second of a Raspberry Pi's start, for nothing we use.

One rule: who asks gets the real thing, later, as `from aiortc import RTCPeerConnection` (lazy_modules.py).
"""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from typing_extensions import override

from voicemeet_edge.lazy_modules import LazyModule

_MDNS_NAME = re.compile(r"[a-zA-Z0-9-]{1,63}\.local")  # draft-ietf-mmusic-mdns-ice-candidates §3.1.1


def is_mdns_hostname(name: str) -> bool:
    """Tell a `.local` name, as aioice does, without loading its DNS library."""
    return _MDNS_NAME.fullmatch(name) is not None


class RtpModule(LazyModule):
    """aiortc.rtp, which wants FFmpeg for one annotation only."""

    @override
    def __getattr__(self, name: str) -> object:
        if "av" in sys.modules:
            return super().__getattr__(name)
        sys.modules["av"] = ModuleType("av")
        vars(sys.modules["av"])["AudioFrame"] = object
        try:
            return super().__getattr__(name)
        finally:
            del sys.modules["av"]


class MdnsModule(LazyModule):
    """aioice.mdns, of which aioice.ice wants a check of a name and an annotation without doing any mDNS."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec)
        vars(self)["is_mdns_hostname"] = is_mdns_hostname

    @override
    def __getattr__(self, name: str) -> object:
        loading = getattr(getattr(sys.modules.get("aioice.ice"), "__spec__", None), "_initializing", False)
        if name == "MDnsProtocol" and loading:
            # The import system binds a submodule to its parent only when it loaded it itself.
            vars(sys.modules["aioice"])["mdns"] = self
            return object
        return super().__getattr__(name)


def install_lazy_modules() -> None:
    """Put the stand-ins in place, and load nothing; what is loaded already stays as it is."""
    if "aiortc" not in sys.modules:
        spec = importlib.util.find_spec("aiortc")
        rtp = _part(spec, "rtp")
        if spec is not None and rtp is not None:
            sys.modules["aiortc"] = LazyModule(spec)
            sys.modules["aiortc.rtp"] = vars(sys.modules["aiortc"])["rtp"] = RtpModule(rtp)
    if "aioice" not in sys.modules:
        mdns = _part(importlib.util.find_spec("aioice"), "mdns")
        if mdns is not None:
            sys.modules["aioice.mdns"] = MdnsModule(mdns)


def _part(package: ModuleSpec | None, name: str) -> ModuleSpec | None:
    """Find a module of a package that is not to be loaded for it."""
    if package is None:
        return None
    return PathFinder.find_spec(f"{package.name}.{name}", package.submodule_search_locations)
