"""What the counters write is read whole, and what is counted is a call whose voice arrives."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench.callgrind import CallgrindParts
from bench.instructions import Figures, by_group, group, split_codec, table
from bench.instructions_arm64 import Maps, read_counts
from voicemeet_edge.audio.wav import write_wav
from voicemeet_edge.testing.signals import speech_like

FIRST = """\
# callgrind format
part: 1
positions: line
events: Ir
summary: 158

ob=(1) /usr/bin/python3.11
fl=(1) ???
fn=(1) call_function
0 100
cob=(2) /usr/lib/libopus.so.0
cfi=(2) ???
cfn=(2) opus_encode
calls=1 0
0 5000
+3 8

ob=(2)
fn=(2)
* 50
totals: 158
"""
SECOND = """\
part: 2
summary: 7
ob=(2)
fn=(2)
-12 7
"""
MAPS = """\
400000-402000 r-xp 00000000 fe:00 12 /root/usr/bin/python3.13
402000-403000 r--p 00002000 fe:00 12 /root/usr/bin/python3.13
5500000000-5500010000 r-xp 00000000 fe:00 13                             /a folder/libopus.so.0
5500010000-5500020000 rw-p 00000000 00:00 0
"""


def test_a_part_counts_what_each_file_took_itself_and_names_stay_known() -> None:
    parts = CallgrindParts()
    assert parts.read(FIRST.splitlines(keepends=True)) == {
        "/usr/bin/python3.11": 108,
        "/usr/lib/libopus.so.0": 50,
    }
    assert parts.read(SECOND.splitlines(keepends=True)) == {"/usr/lib/libopus.so.0": 7}


@pytest.mark.parametrize("cut", [FIRST.replace("* 50\n", ""), "", "part: 1\n"])
def test_a_part_that_is_not_whole_is_refused(cut: str) -> None:
    with pytest.raises(ValueError, match="no whole part"):
        CallgrindParts().read(cut.splitlines(keepends=True))


def test_pages_become_files_and_marks_end_a_stretch() -> None:
    counts = ["400 10", "401 5", "5500000 70", "5500010 3", "9999999 1", "mark", "400 2", "mark"]
    assert read_counts(counts, Maps(MAPS.splitlines(keepends=True))) == [
        {"/root/usr/bin/python3.13": 15, "/a folder/libopus.so.0": 70, "": 4},
        {"/root/usr/bin/python3.13": 2},
    ]


def test_what_follows_the_last_mark_counts_nowhere() -> None:
    assert read_counts(["400 10", "mark", "400 99"], Maps(MAPS.splitlines())) == [
        {"/root/usr/bin/python3.13": 10}
    ]


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("/x/pywebrtc_audio/_webrtc_audio.cpython-311-x86_64-linux-gnu.so", "echo canceller"),
        ("/x/av.libs/libopus-114e2b1a.so.0.11.1", "libopus"),
        ("/x/numpy.libs/libscipy_openblas64_-32a4b2a6.so", "numpy"),
        ("/x/python3.11/site-packages/pylibsrtp/_binding.abi3.so", "encryption"),
        ("/usr/lib/python3.11/lib-dynload/_ctypes.cpython-311-x86_64-linux-gnu.so", "interpreter"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "libc, libm"),
        ("", "rest"),
    ],
)
def test_a_library_belongs_to_a_part(library: str, name: str) -> None:
    assert group(library) == name


def test_the_codec_is_split_and_the_sums_stay() -> None:
    call = by_group(Counter({"/libopus.so": 80_000_000, "/usr/bin/python3.11": 12_000_000}), 0.5)
    assert call == {"libopus": 40.0, "interpreter": 6.0}
    split = split_codec(dict(call), {"libopus": 5.0, "interpreter": 1.0})
    assert split == {"libopus, encoding": 35.0, "libopus, decoding": 5.0, "interpreter": 6.0}
    rows = [line.split() for line in table(Figures(split, {"rest": 1.0}, {"rest": 800.0})).splitlines()]
    assert ["all", "46.0", "1.0", "800.0"] in rows
    assert ["libopus,", "encoding", "35.0"] in rows


@pytest.mark.timeout(300)
def test_the_call_that_is_counted_runs(tmp_path: Path) -> None:
    said = [tmp_path / name for name in ("a.wav", "b.wav")]
    for seed, path in enumerate(said):
        write_wav(path, speech_like(2.0, seed=seed))
    command = "from bench import instructions_load as load; import sys\n"
    command += "import time\nclock = load.Clock()\nfrom voicemeet_edge.audio.wav import read_wav\n"
    command += "hears = [read_wav(path) for path in sys.argv[1:]]\n"
    command += "began, packets = load.talk(clock, hears, 'off', 0.5, 1.0)\n"
    command += "print(len(packets), len({p.sequence for p in packets}), clock.now - began)\n"
    done = subprocess.run(
        [sys.executable, "-c", command, *map(str, said)], capture_output=True, text=True, check=True
    )
    packets, different, seconds = done.stdout.split()
    assert float(seconds) == pytest.approx(1.5, abs=0.05)
    # 20 ms a packet, and some twice to see how fast the line is; some are still under way.
    assert int(packets) == int(different)
    assert 65 <= int(packets) <= 85
