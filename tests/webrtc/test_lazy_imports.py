"""What must not be loaded is not, and who asks for it gets the real thing; each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from voicemeet_edge.webrtc.lazy_imports import is_mdns_hostname

pytestmark = pytest.mark.system


def loaded_after(code: str) -> list[str]:
    """Run code in a fresh Python and return the modules it has then."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(modules, list)
    return modules


def test_a_device_loads_no_ffmpeg_no_codecs_and_no_dns_library() -> None:
    unwanted = {"av", "aiortc.codecs", "aiortc.rtcpeerconnection", "dns", "matplotlib", "scipy", "aiohttp"}
    at_start = loaded_after("import voicemeet_edge.app")
    later = {"aiortc.rtcdtlstransport", "aiortc.rtcrtpparameters", "aioice"}
    assert not (unwanted | later).intersection(at_start)

    in_a_call = loaded_after("from voicemeet_edge import app, call_maker\ncall_maker.load_call_parts()")
    assert not unwanted.intersection(in_a_call)
    assert "aiortc.rtcdtlstransport" in in_a_call


@pytest.mark.parametrize(
    "asking",
    [
        "from aiortc import RTCPeerConnection",
        "import aiortc; assert aiortc.RTCSessionDescription",
        "import aiortc; assert aiortc.__version__",
        "from aiortc.codecs.opus import OpusEncoder; import av; assert av.AudioFrame",
        "from aiortc.contrib.media import MediaPlayer",
        "import aiortc.rtp; from aiortc import RTCPeerConnection; assert aiortc.rtp.RtpPacket",
        "from aiortc.rtp import RtpPacket; from aiortc import RTCDtlsTransport as one\n"
        "from voicemeet_edge.webrtc.dtls import EdgeDtls; assert issubclass(EdgeDtls, one)",
        "import aioice.mdns; assert aioice.mdns.MDnsProtocol.resolve and aioice.mdns.create_mdns_hostname()",
        "from aioice.ice import mdns; assert mdns.create_mdns_protocol and mdns.dns.name",
    ],
)
def test_who_asks_later_gets_the_real_thing(asking: str) -> None:
    loaded_after(f"import voicemeet_edge.webrtc.peer\n{asking}")


@pytest.mark.parametrize("first", ["import aiortc", "import av", "import aioice.mdns"])
def test_what_was_loaded_before_stays_as_it_is(first: str) -> None:
    loaded_after(f"{first}\nimport voicemeet_edge.webrtc.peer\nfrom aiortc import RTCPeerConnection")


def test_what_a_module_lacks_is_an_ordinary_error() -> None:
    loaded_after(
        "import voicemeet_edge.webrtc.peer, aiortc\n"
        "assert not hasattr(aiortc, '__wrapped__') and 'av' not in __import__('sys').modules\n"
        "assert not hasattr(aiortc, 'no_such_thing')\n"
        "try:\n from aiortc import no_such_thing\nexcept ImportError: pass\nelse: raise SystemExit(1)"
    )


def test_names_are_told_as_aioice_tells_them() -> None:
    from aioice import mdns

    names = ("a-b.local", "A1.local", ".local", "a.b.local", "x.example", "a" * 64 + ".local", "10.0.0.1")
    assert [is_mdns_hostname(name) for name in names] == [
        mdns.MDNS_HOSTNAME_RE.match(name) is not None for name in names
    ]
