"""Log lines as the systemd journal takes them.

One rule: nothing waits for the journal. One that stands still takes nothing, and a writer waits
for good, holding the lock of all log lines: voice, watchdog and SIGTERM would wait, too. So it is waited for
once, for `SEND_LIMIT_S`; what comes until it goes on is counted instead.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from typing_extensions import override

# sd-daemon(3): a line on stderr that starts so gets this priority in the journal.
JOURNAL_PRIORITIES = {
    logging.DEBUG: "<7>",
    logging.INFO: "<6>",
    logging.WARNING: "<4>",
    logging.ERROR: "<3>",
    logging.CRITICAL: "<2>",
}

IDENTIFIER = "voicemeet-edge"  # what journalctl shows before a line of ours
JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
SEND_LIMIT_S = 0.2  # s for a journal whose queue is full
# What a record may carry as `extra={"fields": {…}}`, and what the journal calls it. Words from our own short
# lists only: whatever else hangs on a record stays behind.
FIELDS = {"state": "VOICEMEET_STATE", "reason": "VOICEMEET_REASON"}


class JournalFormatter(logging.Formatter):
    """Give every line its priority; the journal adds the time."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        priority = JOURNAL_PRIORITIES.get(record.levelno, "<5>")
        return "\n".join(priority + line for line in super().format(record).splitlines())


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """Return the fields of a record that the journal may have."""
    given = getattr(record, "fields", None)
    if not isinstance(given, dict):
        return {}
    return {name: str(given[name]) for name in FIELDS if given.get(name)}


class JournalHandler(logging.StreamHandler[TextIO]):
    """Write lines with their priority; a record that has fields becomes an entry with these fields.

    Only such a record goes by the journal's native protocol: of a process that ends right after its last
    words, as one with a wrong setting does, the journal would not know any more whose words they were.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines = logging.Formatter("%(name)s: %(message)s")
        self.setFormatter(JournalFormatter("%(name)s: %(message)s"))
        self.lost = 0
        """Lines since the journal stands still."""
        self._entry_limit_s = self._line_limit_s = SEND_LIMIT_S

    @override
    def emit(self, record: logging.LogRecord) -> None:
        fields = fields_of(record)
        if fields and self._send(record, fields):
            return
        if not self._has_room():
            self.lost += 1
            return
        if self.lost:
            words = f"the journal stood still: {self.lost} log lines are lost"
            self.lost = 0
            super().emit(logging.LogRecord(__name__, logging.WARNING, "", 0, words, None, None))
        super().emit(record)

    def _has_room(self) -> bool:
        """Say whether the stream takes a line now."""
        try:
            _, ready, _ = select.select([], [self.stream], [], self._line_limit_s)
        except (OSError, ValueError):  # no descriptor, so nothing that stands still
            return True
        self._line_limit_s = SEND_LIMIT_S if ready else 0.0
        return bool(ready)

    def _send(self, record: logging.LogRecord, fields: Mapping[str, str]) -> bool:
        """Say whether the journal has it."""
        entry = {
            "MESSAGE": self._lines.format(record),
            "PRIORITY": JOURNAL_PRIORITIES.get(record.levelno, "<5>")[1],
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            **{FIELDS[name]: value for name, value in fields.items()},
        }
        # Not by sd_journal_sendv(3): it waits for as long as the journal reads nothing, and its binding holds
        # the lock of Python meanwhile.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.settimeout(self._entry_limit_s)
            try:
                journal.connect(str(JOURNAL_SOCKET))
                journal.send(b"".join(journal_field(name, value) for name, value in entry.items()))
            except (TimeoutError, BlockingIOError):
                self._entry_limit_s = 0.0
                return False
            except OSError:
                return False
        self._entry_limit_s = SEND_LIMIT_S
        return True


def journal_field(name: str, value: str) -> bytes:
    """Return a field in systemd's JOURNAL_NATIVE_PROTOCOL: with its size before it, if it has lines."""
    data = value.encode(errors="replace")
    if b"\n" in data:
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def is_journal(stream: TextIO) -> bool:
    """Say whether a stream goes to the journal; systemd.exec(5) has what $JOURNAL_STREAM is."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
