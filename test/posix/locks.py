"""Record locks and whole-file locks between processes."""

import fcntl
import os
import signal
import struct

from harness import create, test

FORMAT = "hhqqi4x"  # struct flock


def lock(fd, command, kind, start, length):
    """Returns the answer's (type, start, length, pid)."""
    answer = fcntl.fcntl(fd, command, struct.pack(FORMAT, kind, os.SEEK_SET, start, length, 0))
    kind, _, start, length, pid = struct.unpack(FORMAT, answer)
    return kind, start, length, pid


def lock_by_path(path, flags, kind, start, length):
    fd = os.open(path, flags)
    try:
        return lock(fd, fcntl.F_SETLK, kind, start, length)
    finally:
        os.close(fd)


def query_by_path(path, kind, start, length):
    fd = os.open(path, os.O_RDWR)
    try:
        return lock(fd, 5, kind, start, length)  # F_GETLK
    finally:
        os.close(fd)


def flock_by_path(path, how):
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    finally:
        os.close(fd)


@test
def record_locks(t):
    path = t.path("file")
    create(path, mode=0o666)
    os.chmod(path, 0o666)
    fd = os.open(path, os.O_RDWR)
    for mine in (fcntl.F_RDLCK, fcntl.F_WRLCK):
        lock(fd, fcntl.F_SETLK, mine, 100, 50)
        for theirs in (fcntl.F_RDLCK, fcntl.F_WRLCK):
            conflict = mine == fcntl.F_WRLCK or theirs == fcntl.F_WRLCK
            for start, length in ((100, 50), (149, 1), (0, 101), (0, 0), (120, 10)):
                t.expect("EAGAIN|EACCES" if conflict else "ok", lock_by_path, path, os.O_RDWR, theirs, start, length,
                         who="alice")
                answer = t.expect("ok", query_by_path, path, theirs, start, length, who="alice")
                t.equal("who holds it", answer[0], mine if conflict else fcntl.F_UNLCK)
                if conflict:
                    t.equal("what is held", answer[1:], (100, 50, os.getpid()))
            for start, length in ((0, 100), (150, 0), (150, 1)):
                t.expect("ok", lock_by_path, path, os.O_RDWR, theirs, start, length, who="alice")
        lock(fd, fcntl.F_SETLK, fcntl.F_UNLCK, 120, 10)
        t.expect("ok", lock_by_path, path, os.O_RDWR, fcntl.F_WRLCK, 120, 10, who="alice")
        lock(fd, fcntl.F_SETLK, fcntl.F_UNLCK, 0, 0)
        t.expect("ok", lock_by_path, path, os.O_RDWR, fcntl.F_WRLCK, 0, 0, who="alice")
    t.expect("EINVAL", lock, fd, fcntl.F_SETLK, fcntl.F_WRLCK, -1, 5)
    t.expect("EINVAL", lock, fd, fcntl.F_SETLK, 77, 0, 5)
    t.expect("EBADF", lock_by_path, path, os.O_RDONLY, fcntl.F_WRLCK, 0, 1)
    t.expect("EBADF", lock_by_path, path, os.O_WRONLY, fcntl.F_RDLCK, 0, 1)
    # Closing any descriptor of the file lets go of all.
    lock(fd, fcntl.F_SETLK, fcntl.F_WRLCK, 0, 0)
    os.close(os.open(path, os.O_RDONLY))
    t.expect("ok", lock_by_path, path, os.O_RDWR, fcntl.F_WRLCK, 0, 0, who="alice")
    os.close(fd)


@test
def waiting_for_a_record_lock(t):
    path = t.path("file")
    create(path)
    fd = os.open(path, os.O_RDWR)
    lock(fd, fcntl.F_SETLK, fcntl.F_WRLCK, 0, 10)
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        own = os.open(path, os.O_RDWR)
        os.write(ready[1], b"r")
        lock(own, fcntl.F_SETLKW, fcntl.F_WRLCK, 0, 10)
        os.write(done[1], b"d")
        os._exit(0)
    os.read(ready[0], 1)
    os.set_blocking(done[0], False)
    t.expect("EAGAIN", os.read, done[0], 1)
    lock(fd, fcntl.F_SETLK, fcntl.F_UNLCK, 0, 10)
    os.set_blocking(done[0], True)
    t.equal("the lock is handed over", os.read(done[0], 1), b"d")
    os.waitpid(pid, 0)
    for each in ready + done + (fd,):
        os.close(each)


@test
def deadlock_is_refused(t):
    path = t.path("file")
    create(path)
    fd = os.open(path, os.O_RDWR)
    lock(fd, fcntl.F_SETLK, fcntl.F_WRLCK, 0, 1)
    ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        own = os.open(path, os.O_RDWR)
        lock(own, fcntl.F_SETLK, fcntl.F_WRLCK, 1, 1)
        os.write(ready[1], b"r")
        try:
            lock(own, fcntl.F_SETLKW, fcntl.F_WRLCK, 0, 1)
        except OSError:
            pass
        os._exit(0)
    os.read(ready[0], 1)
    # Whichever comes second is refused; the other gets its lock when the refused one ends or lets go.
    t.expect("EDEADLK|ok", lock, fd, fcntl.F_SETLKW, fcntl.F_WRLCK, 1, 1)
    os.close(fd)
    os.waitpid(pid, 0)
    for each in ready:
        os.close(each)


@test
def whole_file_locks(t):
    path = t.path("file")
    create(path)
    for mine, theirs in ((fcntl.LOCK_SH, fcntl.LOCK_SH), (fcntl.LOCK_SH, fcntl.LOCK_EX), (fcntl.LOCK_EX, fcntl.LOCK_SH),
                         (fcntl.LOCK_EX, fcntl.LOCK_EX)):
        fd = os.open(path, os.O_RDONLY)
        fcntl.flock(fd, mine)
        wanted = "ok" if mine == theirs == fcntl.LOCK_SH else "EAGAIN"
        t.expect(wanted, flock_by_path, path, theirs)
        t.expect(wanted, flock_by_path, path, theirs, who="alice")
        other = os.dup(fd)
        os.close(fd)
        t.expect(wanted, flock_by_path, path, theirs, who="alice")  # the duplicate still holds it
        fcntl.flock(other, fcntl.LOCK_UN)
        t.expect("ok", flock_by_path, path, theirs, who="alice")
        os.close(other)


@test
def death_lets_go(t):
    path = t.path("file")
    create(path)
    ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        own = os.open(path, os.O_RDWR)
        lock(own, fcntl.F_SETLK, fcntl.F_WRLCK, 0, 0)
        os.write(ready[1], b"r")
        signal.pause()
    os.read(ready[0], 1)
    t.expect("EAGAIN|EACCES", lock_by_path, path, os.O_RDWR, fcntl.F_WRLCK, 0, 0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    t.expect("ok", lock_by_path, path, os.O_RDWR, fcntl.F_WRLCK, 0, 0)
    for each in ready:
        os.close(each)
