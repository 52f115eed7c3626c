#!/usr/bin/env python3
"""A process that locks a file as it is told: lock_user.py PATH. One command per line of standard input, one answer per
line of standard output: what the call returned, or the name of its error; before them all, that it is ready. A signal
USR1 ends a call that waits.

  set|wait|test KIND TYPE FIRST LENGTH   KIND process or open-file (fcntl), TYPE read, write or unlock
  flock MODE [now]                       MODE shared, exclusive or unlock
  open|close                             another descriptor of the same file
  count KIND TIMES                       adds 1 to the number in the file, so many times, each under a lock (or: flock)
"""

import errno
import fcntl
import os
import signal
import struct
import sys

FLOCK = "hhqqi4x"  # struct flock
COMMANDS = {"process": {"test": 5, "set": fcntl.F_SETLK, "wait": fcntl.F_SETLKW},
            "open-file": {"test": 36, "set": 37, "wait": 38}}
TYPES = {"read": fcntl.F_RDLCK, "write": fcntl.F_WRLCK, "unlock": fcntl.F_UNLCK}
MODES = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX, "unlock": fcntl.LOCK_UN}


class User:
    def __init__(self, path):
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR)
        self.others = []

    def record(self, how, kind, lock_type, first, length):
        wanted = struct.pack(FLOCK, TYPES[lock_type], os.SEEK_SET, int(first), int(length), 0)
        got_type, _, first, length, pid = struct.unpack(FLOCK, fcntl.fcntl(self.descriptor, COMMANDS[kind][how], wanted))
        if how != "test":
            return "ok"
        if got_type == fcntl.F_UNLCK:
            return "free"
        return f"{'write' if got_type == fcntl.F_WRLCK else 'read'} {first} {length} {pid}"

    def flock(self, mode, now=""):
        fcntl.flock(self.descriptor, MODES[mode] | (fcntl.LOCK_NB if now else 0))
        return "ok"

    def lock_all(self, kind, locked):
        if kind == "flock":
            self.flock("exclusive" if locked else "unlock")
        else:
            self.record("wait", kind, "write" if locked else "unlock", 0, 0)

    def count(self, kind, times):
        for _ in range(int(times)):
            self.lock_all(kind, True)
            number = int(os.pread(self.descriptor, 100, 0) or b"0")
            os.pwrite(self.descriptor, b"%d" % (number + 1), 0)
            self.lock_all(kind, False)
        return "ok"

    def run(self, command, *words):
        if command in ("set", "wait", "test"):
            return self.record(command, *words)
        if command == "open":
            self.others.append(os.open(self.path, os.O_RDONLY))
            return "ok"
        if command == "close":
            os.close(self.others.pop())
            return "ok"
        return {"flock": self.flock, "count": self.count}[command](*words)


def interrupted(*_):
    raise InterruptedError(errno.EINTR, "signal")


def main():
    signal.signal(signal.SIGUSR1, interrupted)
    user = User(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            answer = user.run(*line.split())
        except OSError as error:
            answer = "EDEADLK" if error.errno == errno.EDEADLK else errno.errorcode[error.errno]
        print(answer, flush=True)


if __name__ == "__main__":
    main()
