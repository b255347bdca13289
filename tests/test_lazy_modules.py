"""What a device does not load, and that it is all there for who asks; each in a process of its own."""

from __future__ import annotations

import pytest

from tests.webrtc.test_lazy_imports import loaded_after

pytestmark = pytest.mark.system

KEEP = "from voicemeet_edge.lazy_modules import keep_unloaded\nkeep_unloaded()\n"
LAZY = "assert type({0}).__name__ == 'LazyModule', {0}\n"


def test_a_device_loads_neither_what_reads_packages_nor_what_reads_urls() -> None:
    code = f"{KEEP}import voicemeet_edge.daemon, importlib, urllib\n"
    code += LAZY.format("importlib.metadata") + LAZY.format("urllib.request")
    found = loaded_after(code)
    assert not {"zipfile", "csv", "importlib.metadata._adapters"}.intersection(found)


@pytest.mark.parametrize(
    "asking",
    [
        "import importlib.metadata; assert importlib.metadata.version('numpy')",
        "from importlib.metadata import version; assert version('numpy')",
        "from importlib import metadata; assert metadata.version('numpy')",
        "import urllib.request; assert urllib.request.Request('http://a/').host == 'a'",
        "from urllib.request import getproxies; assert isinstance(getproxies(), dict)",
        "import websockets.proxy; assert websockets.proxy.get_proxy",
    ],
)
def test_who_asks_gets_the_real_thing(asking: str) -> None:
    loaded_after(f"{KEEP}import voicemeet_edge.app\n{asking}")


def test_numpy_calculates_without_its_help() -> None:
    code = f"{KEEP}import voicemeet_edge.app\nimport numpy as np\n"
    code += "assert np.dot(np.arange(3), np.arange(3)) == 5 and np.add.reduce([1, 2]) == 3\n"
    code += "assert not np.dtype.__doc__, 'the texts were loaded'"
    loaded_after(code)


@pytest.mark.parametrize("first", ["importlib.metadata", "urllib.request", "numpy"])
def test_what_was_loaded_before_stays_as_it_is(first: str) -> None:
    code = f"import {first}\n{KEEP}assert type({first}).__name__ == 'module'\n"
    code += "import numpy\n" + ("assert numpy.dtype.__doc__" if first == "numpy" else "")
    loaded_after(code)


def test_libopus_is_tried_with_what_a_call_needs_and_not_at_the_start() -> None:
    loaded_after(
        "from voicemeet_edge.audio.codec import OpusCodec\n"
        "from voicemeet_edge.call_maker import load_call_parts\n"
        "from voicemeet_edge.settings import AudioSettings\n"
        "from voicemeet_edge.voice.opus import deep_library\n"
        "OpusCodec(AudioSettings())\n"
        "assert not deep_library.cache_info().currsize\n"
        "load_call_parts()\n"
        "assert deep_library.cache_info().currsize"
    )
