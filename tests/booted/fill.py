"""Run inside the booted system as root: fill what a process writes its log into. Usage: fill.py PID

Its standard error, and the socket on which the journal takes entries: until neither has room for a byte.
"""

import ctypes
import os
import socket
import sys

PIDFD_GETFD = 438  # linux/unistd.h, the same for all architectures
WORDS = b"<7>filler: " + b"." * 400 + b"\n"

libc = ctypes.CDLL(None, use_errno=True)
number = libc.syscall(PIDFD_GETFD, os.pidfd_open(int(sys.argv[1])), 2, 0)
if number < 0:
    sys.exit(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
lines = socket.socket(fileno=number)
entries = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
entries.connect("/run/systemd/journal/socket")
for sink, words in ((lines, WORDS), (lines, b"\n"), (entries, b"MESSAGE=filler\n")):
    count = 0
    try:
        while True:
            sink.send(words, socket.MSG_DONTWAIT)
            count += 1
    except BlockingIOError:
        print(f"{count} times {len(words)} bytes", flush=True)
