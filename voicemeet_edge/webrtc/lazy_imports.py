"""Which parts of aiortc and aioice stay unloaded until somebody really asks for them.

Importing any module of a package runs the whole package first: aiortc's brings FFmpeg's libraries, its codecs
and SCTP, aioice's a DNS library for names that most calls never see. Together that is a quarter of this
process' memory and half a second of a Raspberry Pi's start, for nothing we use.

One rule: who asks gets the real thing. What stands in for a package becomes the package itself at the first
look at anything it does not have, so `from aiortc import RTCPeerConnection` works as ever, later.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_MDNS_NAME = re.compile(r"[a-zA-Z0-9-]{1,63}\.local")  # draft-ietf-mmusic-mdns-ice-candidates §3.1.1


class LazyModule(ModuleType):
    """A module that runs its code when something it lacks is asked for."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        self.__file__ = spec.origin
        self.__loader__ = spec.loader
        self.__package__ = spec.parent
        if spec.submodule_search_locations is not None:
            self.__path__ = spec.submodule_search_locations

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        # inspect and pytest look at every module's dunders; that is no reason to load one.
        if spec is None or spec.loader is None or (name.startswith("__") and name != "__version__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        part = f"{self.__name__}.{name}"
        if spec.submodule_search_locations and PathFinder.find_spec(part, spec.submodule_search_locations):
            return importlib.import_module(part)  # `from package import module` needs that module only
        # An ordinary module from now on, and the code it runs sees itself as one.
        object.__setattr__(self, "__class__", ModuleType)
        spec.loader.exec_module(self)
        return getattr(self, name)


def is_mdns_hostname(name: str) -> bool:
    """Tell a `.local` name, as aioice does, without loading its DNS library."""
    return _MDNS_NAME.fullmatch(name) is not None


def install_lazy_modules() -> None:
    """Put the stand-ins in place; what is loaded already stays as it is."""
    if "aiortc" not in sys.modules:
        spec = importlib.util.find_spec("aiortc")
        if spec is not None:
            sys.modules["aiortc"] = LazyModule(spec)
            _load_rtp_without_av()
    if "aioice" not in sys.modules:
        parent = importlib.util.find_spec("aioice")
        found = PathFinder.find_spec("aioice.mdns", parent.submodule_search_locations) if parent else None
        if found is not None:
            mdns = LazyModule(found)
            # What aioice/ice.py looks at without doing any mDNS: a check of a name and an annotation.
            vars(mdns).update(is_mdns_hostname=is_mdns_hostname, MDnsProtocol=object)
            sys.modules["aioice.mdns"] = mdns
            # The import system binds a submodule to its parent only when it loaded it itself.
            vars(importlib.import_module("aioice"))["mdns"] = mdns
            del vars(mdns)["MDnsProtocol"]


def _load_rtp_without_av() -> None:
    """Load aiortc.rtp, which wants FFmpeg for one annotation only."""
    if "av" in sys.modules:
        return
    sys.modules["av"] = ModuleType("av")
    vars(sys.modules["av"])["AudioFrame"] = object
    try:
        importlib.import_module("aiortc.rtp")
    finally:
        del sys.modules["av"]
