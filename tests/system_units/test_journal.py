"""Log lines for the journal: what they carry, and that nobody waits for it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from voicemeet_edge.system import journal
from voicemeet_edge.system.journal import JournalHandler, is_journal
from voicemeet_edge.system.logs import GONE


@pytest.mark.system
def test_the_journal_gets_a_priority_on_every_line() -> None:
    reading, writing = os.pipe()
    status = os.fstat(writing)
    code = (
        "import logging; from voicemeet_edge.system.logs import set_up_logging; set_up_logging();"
        "logging.getLogger('x').error('one\\ntwo'); logging.getLogger('x').info('three')"
    )
    environment = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    subprocess.run([sys.executable, "-c", code], stderr=writing, env=environment, check=True, timeout=60)
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert stream.read() == "<3>x: one\n<3>two\n<6>x: three\n"


JOURNALD = Path("/lib/systemd/systemd-journald")
# A journal of its own, in namespaces of its own: neither the machine's journal nor its audit is touched.
WITH_JOURNAL = f"""
mount -t tmpfs none /run && mkdir -p /run/systemd/journal /run/log/journal || exit 77
{JOURNALD} 2>/dev/null & journald=$!
for try in $(seq 200); do [ -S /run/systemd/journal/socket ] && break; sleep 0.1; done
"$@" || exit 1
for try in $(seq 200); do
    journalctl -D /run/log/journal -q -o json --no-pager VOICEMEET_STATE=ended | grep . && break; sleep 0.1
done
kill $journald
"""


@pytest.mark.system
def test_the_state_of_a_call_is_a_field_of_the_journal() -> None:
    if not JOURNALD.exists() or shutil.which("unshare") is None:
        pytest.skip("no systemd-journald or unshare here")
    code = (
        "import logging, os; status = os.fstat(2);"
        "os.environ['JOURNAL_STREAM'] = f'{status.st_dev}:{status.st_ino}';"
        "from voicemeet_edge.system.logs import set_up_logging; set_up_logging();"
        "log = logging.getLogger('x');"
        "log.info('without');"
        "log.info('call: ended', extra={'fields': "
        "{'state': 'ended', 'reason': 'to 203.0.113.7', 'peer': 'somebody'}})"
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        [*command, "bash", "-c", WITH_JOURNAL, "journal", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=55,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip(f"this machine gives no namespaces: {done.stderr.strip()[:100]}")
    assert done.stderr == "<6>x: without\n"  # the other one is an entry and no line
    entry = json.loads(done.stdout)
    assert entry["MESSAGE"] == "x: call: ended"
    assert entry["PRIORITY"] == "6"
    assert entry["SYSLOG_IDENTIFIER"] == "voicemeet-edge"
    assert entry["VOICEMEET_REASON"] == f"to {GONE}"
    assert "somebody" not in done.stdout


def test_without_a_journal_a_record_with_fields_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "JOURNAL_SOCKET", Path("/nowhere/socket"))
    stream = io.StringIO()
    record = logging.LogRecord("x", logging.INFO, "", 0, "call: ended", None, None)
    record.fields = {"state": "ended"}
    JournalHandler(stream).handle(record)
    assert stream.getvalue() == "<6>x: call: ended\n"


@pytest.mark.parametrize("fields", [None, "state", ["state"], {"peer": "somebody"}, {"state": None}])
def test_other_fields_are_none(fields: object) -> None:
    stream = io.StringIO()
    record = logging.LogRecord("x", logging.INFO, "", 0, "said", None, None)
    record.fields = fields
    JournalHandler(stream).handle(record)
    assert stream.getvalue() == "<6>x: said\n"


def test_a_stream_without_a_descriptor_is_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert not is_journal(io.StringIO())
    assert not is_journal(sys.__stderr__ or sys.stderr)


@pytest.fixture
def socket_of_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that a journal reads entries from, and none to begin with."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind(str(tmp_path / "socket"))
        reader.settimeout(30)
        monkeypatch.setattr(journal, "JOURNAL_SOCKET", tmp_path / "socket")
        monkeypatch.setattr(journal, "SEND_LIMIT_S", 0.01)
        yield reader


def record(words: str, **fields: str) -> logging.LogRecord:
    """Make a record as the call machine does."""
    made = logging.LogRecord("x", logging.INFO, "", 0, words, None, None)
    made.fields = fields
    return made


def test_an_entry_of_lines_has_their_size(socket_of_journal: socket.socket) -> None:
    JournalHandler(io.StringIO()).handle(record("over\nand out", state="ended"))
    assert socket_of_journal.recv(1024) == (
        b"MESSAGE\n\x0f\0\0\0\0\0\0\0x: over\nand out\nPRIORITY=6\nSYSLOG_IDENTIFIER=voicemeet-edge\n"
        b"VOICEMEET_STATE=ended\n"
    )


def test_entries_that_a_journal_does_not_take_are_lines_until_it_does(
    socket_of_journal: socket.socket,
) -> None:
    # With sd_journal_sendv(3) the whole process stands still here, for good.
    stream = io.StringIO()
    handler = JournalHandler(stream)
    more = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 10
    for number in range(more):
        handler.handle(record(f"call {number}", state="ended"))
    socket_of_journal.setblocking(False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while socket_of_journal.recv(1024):
            taken += 1
    lines = stream.getvalue().splitlines()
    assert 0 < taken < more
    assert lines == [f"<6>x: call {number}" for number in range(taken, more)]
    handler.handle(record("again", state="ended"))
    assert b"x: again" in socket_of_journal.recv(1024)


def test_lines_that_a_journal_does_not_take_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEND_LIMIT_S", 0.01)
    reading, writing = socket.socketpair()
    with reading, writing, os.fdopen(os.dup(writing.fileno()), "w") as stream:
        handler = JournalHandler(stream)
        count = 0
        while handler.lost < 3:
            handler.handle(record(f"line {count}"))
            count += 1
        reading.settimeout(30)
        got = b""
        while got.count(b"\n") < count - 3:
            got += reading.recv(65536)
        handler.handle(record("again"))
        got += reading.recv(65536)
    lines = got.decode().splitlines()
    assert lines[count - 4 :] == [
        f"<6>x: line {count - 4}",
        f"<4>{journal.__name__}: the journal stood still: 3 log lines are lost",
        "<6>x: again",
    ]
