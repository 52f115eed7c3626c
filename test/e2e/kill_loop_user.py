#!/usr/bin/env python3
"""A host's users in the kill loop: kill_loop_user.py NODE ROOT BOARD NOTES SEED. Works on the mount at ROOT in several
ways at the same time, through whatever errors the node's deaths give, and looks after each of them whether what was
synced is there and nothing else is. BOARD is the file by which it and the loop tell each other of what they do (Board),
NOTES where it writes what must not be, and calls that took long. Ends when the board says so, after a last look."""

import contextlib
import errno
import fcntl
import hashlib
import json
import mmap
import os
import random
import struct
import sys
import threading
import time
import zlib

NODES = 5
KINDS = ("append", "append-shared", "replace", "in-place", "names", "count", "read")
# What the loss of a node's life, of its disk or of its mount gives to those that use it.
ERRORS_OF_LOSS = {errno.EIO, errno.ENOTCONN, errno.ECONNABORTED, errno.ESTALE, errno.ESHUTDOWN}
BLOCK = 4096
RECORD = 128
# Calls that took so long are noted.
LONG_SECONDS = 3
# A life that was lost before a read ended is known of as lost by then.
LOSS_KNOWN_SECONDS = 30


class Board:
    """Memory that the loop and all users share; each number has one writer. By node: whether it is to rest, to end, and
    how many lives it has lost; by kind of work: whether it rests, when its present call began (0: none), how many steps
    were done, and up to where it is synced."""

    NODE_NUMBERS, KIND_NUMBERS = 4, 5
    PER_NODE = NODE_NUMBERS + KIND_NUMBERS * len(KINDS)

    def __init__(self, path):
        with open(path, "r+b") as file:
            self.numbers = memoryview(mmap.mmap(file.fileno(), 8 * self.PER_NODE * NODES)).cast("d")

    @classmethod
    def make(cls, path):
        with open(path, "wb") as file:
            file.truncate(8 * cls.PER_NODE * NODES)
        return cls(path)

    def _property(self, node, place, value):
        index = node * self.PER_NODE + place
        if value is not None:
            self.numbers[index] = value
        return self.numbers[index]

    def rest(self, node, value=None):
        return self._property(node, 0, value)

    def end(self, node, value=None):
        return self._property(node, 1, value)

    def losses(self, node, value=None):
        return self._property(node, 2, value)

    def _of_kind(self, node, kind, place, value):
        return self._property(node, self.NODE_NUMBERS + KINDS.index(kind) * self.KIND_NUMBERS + place, value)

    def resting(self, node, kind, value=None):
        return self._of_kind(node, kind, 0, value)

    def began(self, node, kind, value=None):
        return self._of_kind(node, kind, 1, value)

    def steps(self, node, kind, value=None):
        return self._of_kind(node, kind, 2, value)

    def synced(self, node, kind, value=None):
        return self._of_kind(node, kind, 3, value)


class Notes:
    """Lines of JSON, appended to a file of this host."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, **what):
        os.write(self.file, (json.dumps(what) + "\n").encode())


class Wrong(Exception):
    """Something that must not be."""


class Stale(Exception):
    """Something older than what was synced before; a standing process' kernel may show that (see docs/limits.md)."""


def payload(name, version, index):
    seed = hashlib.sha256(f"{name} {version} {index}".encode()).digest()
    return (seed * (BLOCK // len(seed)))[:BLOCK - 32]


def block(name, version, index):
    """A block that says of which file and version it is, and whether it is whole."""
    data = payload(name, version, index)
    return struct.pack(">QQII", version, index, zlib.crc32(name.encode()), zlib.crc32(data)) + bytes(8) + data


def contents(name, version, blocks):
    return b"".join(block(name, version, index) for index in range(blocks))


def versions_of(name, data):
    """The versions of the blocks; Wrong if any byte is another than was written."""
    if len(data) % BLOCK != 0:
        raise Wrong(f"{name} has {len(data)} bytes, which is no whole number of blocks")
    versions = []
    for index in range(len(data) // BLOCK):
        found = data[index * BLOCK:(index + 1) * BLOCK]
        version = struct.unpack(">Q", found[:8])[0]
        if found != block(name, version, index):
            raise Wrong(f"{name}: block {index}, by its head of version {version}, is not what was written: "
                        f"{found[:48].hex()}")
        versions.append(version)
    return versions


def record(node, number):
    text = f"{node} {number} "
    text += f"{zlib.crc32(text.encode()):08x} "
    return text.ljust(RECORD - 1, ".").encode() + b"\n"


def records_of(name, data):
    """The numbers of each node's records, in their order in the file."""
    if len(data) % RECORD != 0:
        raise Wrong(f"{name} has {len(data)} bytes, which is no whole number of records: ends with {data[-RECORD:]!r}")
    numbers = {}
    for at in range(0, len(data), RECORD):
        found = data[at:at + RECORD]
        words = found.split(b" ")
        if len(words) < 3 or not words[0].isdigit() or not words[1].isdigit() or \
                found != record(int(words[0]), int(words[1])):
            raise Wrong(f"{name}: what stands at {at} was never written: {found!r}")
        numbers.setdefault(int(words[0]), []).append(int(words[1]))
    return numbers


def read_all(descriptor):
    parts = []
    while part := os.pread(descriptor, 1 << 20, sum(map(len, parts))):
        parts.append(part)
    return b"".join(parts)


class Work:
    """One kind of work of one host. open() looks what is there, step() works on; both may fail with the errors of a
    loss, after which all is closed and opened again."""

    kind = ""
    slowest_pause = 0.1

    def __init__(self, user):
        self.user = user
        self.node = user.node
        self.random = random.Random(f"{user.seed} {user.node} {self.kind}")
        self.folder = None
        self.descriptors = []

    def open_file(self, name, flags):
        descriptor = os.open(name, flags, 0o644, dir_fd=self.folder)
        self.descriptors.append(descriptor)
        return descriptor

    def close_file(self, descriptor):
        self.descriptors.remove(descriptor)
        os.close(descriptor)

    def read_file(self, name):
        descriptor = self.open_file(name, os.O_RDONLY)
        data = read_all(descriptor)
        self.close_file(descriptor)
        return data

    def close(self):
        for descriptor in self.descriptors:
            with contextlib.suppress(OSError):  # closed all the same
                os.close(descriptor)
        self.descriptors = []

    def begin(self):
        """Where nothing is mounted there is no such folder."""
        self.folder = os.open(os.path.join(self.user.root, "work"), os.O_RDONLY | os.O_DIRECTORY)
        self.descriptors.append(self.folder)
        self.open()

    def synced(self, value=None):
        return int(self.user.board.synced(self.node, self.kind, value))

    def found(self, what, first, last):
        """`what` must lie between what was synced and what was tried last."""
        if not first <= what <= last:
            raise Wrong(f"{self.kind} of node {self.node}: {what} is there, {first} was synced, {last} was tried last")

    def open(self):
        raise NotImplementedError

    def step(self):
        raise NotImplementedError

    def look(self):
        """What is to be seen again at the end."""
        self.open()


class Append(Work):
    """Records to a log, now and then synced."""

    kind = "append"
    shared = False

    def __init__(self, user):
        super().__init__(user)
        self.next = 0
        self.name = "log-of-all" if self.shared else f"log-{self.node}"

    def open(self):
        self.file = self.open_file(self.name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        numbers = records_of(self.name, read_all(self.file)).get(self.node, [])
        if numbers != list(range(len(numbers))):
            wrong = next(place for place, number in enumerate(numbers) if place != number)
            raise Wrong(f"{self.name}: record {wrong} of node {self.node} is {numbers[wrong]}")
        self.found(len(numbers), self.synced(), self.next)
        self.next = len(numbers)
        # What survived stays from now on.
        self.sync()

    def sync(self):
        os.fsync(self.file)
        self.synced(self.next)

    def step(self):
        for _ in range(self.random.randint(1, 5)):
            self.next += 1
            written = os.write(self.file, record(self.node, self.next - 1))
            if written != RECORD:
                raise Wrong(f"{self.name}: {written} bytes of a record were written")
        self.sync()


class AppendShared(Append):
    kind = "append-shared"
    shared = True


class Replace(Work):
    """A file that is replaced as a whole by one under another name."""

    kind = "replace"

    def __init__(self, user):
        super().__init__(user)
        self.version = 0
        self.name = f"replaced-{self.node}"

    def open(self):
        try:
            versions = versions_of(self.name, self.read_file(self.name))
        except FileNotFoundError:
            versions = [0]
        if len(set(versions)) != 1:
            raise Wrong(f"{self.name} has blocks of versions {sorted(set(versions))}")
        self.found(versions[0], self.synced(), self.version)
        self.version = versions[0]
        os.fsync(self.folder)
        self.synced(self.version)

    def step(self):
        self.version += 1
        new = f"{self.name}.new"
        file = self.open_file(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        data = contents(self.name, self.version, self.random.randint(1, 40))
        done = 0
        while done < len(data):
            done += os.write(file, data[done:])
        os.fsync(file)
        self.close_file(file)
        os.rename(new, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        os.fsync(self.folder)
        self.synced(self.version)


class InPlace(Work):
    """A file of fixed size, rewritten as a whole."""

    kind = "in-place"
    BLOCKS = 16

    def __init__(self, user):
        super().__init__(user)
        self.version = 0
        self.name = f"rewritten-{self.node}"

    def open(self):
        self.file = self.open_file(self.name, os.O_RDWR | os.O_CREAT)
        versions = versions_of(self.name, read_all(self.file)) or [0]
        self.found(min(versions), self.synced(), self.version)
        self.found(max(versions), self.synced(), self.version)
        os.fsync(self.file)

    def step(self):
        self.version += 1
        if os.pwrite(self.file, contents(self.name, self.version, self.BLOCKS), 0) != self.BLOCKS * BLOCK:
            raise Wrong(f"{self.name}: only a part was written")
        os.fsync(self.file)
        self.synced(self.version)


class Names(Work):
    """Files made, renamed and removed in a folder that all share. After a loss the folder shows what it was after the
    last sync and the first so many operations since."""

    kind = "names"
    prefix_of = staticmethod(lambda node: f"name-{node}-")

    def __init__(self, user):
        super().__init__(user)
        self.prefix = self.prefix_of(self.node)
        self.next = 0
        self.states = [{}]  # name to contents: as synced last, then after each operation since

    def open(self):
        with contextlib.suppress(FileExistsError):
            os.mkdir("names", dir_fd=self.folder)
        self.names = self.open_file("names", os.O_RDONLY | os.O_DIRECTORY)
        there = {name: None for name in os.listdir(self.names) if name.startswith(self.prefix)}
        for name in there:
            descriptor = os.open(name, os.O_RDONLY, dir_fd=self.names)
            self.descriptors.append(descriptor)
            there[name] = read_all(descriptor).decode()
            self.close_file(descriptor)
        if not any(there == state for state in self.states):
            raise Wrong(f"the names of node {self.node} are {there}, where they should be one of {self.states}")
        self.states = [there]
        self.sync()

    def sync(self):
        os.fsync(self.names)
        self.states = [self.states[-1]]

    def step(self):
        for _ in range(self.random.randint(1, 6)):
            self.change()
        self.sync()

    def change(self):
        state = dict(self.states[-1])
        old = self.random.choice(sorted(state)) if state else None
        what = self.random.choice(("make", "make", "rename", "over", "unlink")) if old else "make"
        if what == "make" and len(state) < 40:
            name = f"{self.prefix}{self.next}"
            self.next += 1
            self.states += [{**state, name: ""}, {**state, name: name}]
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=self.names)
            self.descriptors.append(file)
            os.write(file, name.encode())
            self.close_file(file)
            return
        if old is None:
            return
        held = state.pop(old)
        if what in ("rename", "over"):
            new = self.random.choice(sorted(state)) if what == "over" and state else f"{self.prefix}{self.next}"
            self.next += 1
            self.states.append({**state, new: held})
            os.rename(old, new, src_dir_fd=self.names, dst_dir_fd=self.names)
        else:
            self.states.append(state)
            os.unlink(old, dir_fd=self.names)


class Count(Work):
    """A counter of all nodes in a file, changed under a lock."""

    kind = "count"

    def __init__(self, user):
        super().__init__(user)
        self.in_doubt = False

    def open(self):
        self.file = self.open_file("counter", os.O_RDWR | os.O_CREAT)
        self.check(locked=False)

    def read(self):
        text = os.pread(self.file, 1000, 0)
        if not text:
            return [0] * NODES
        numbers, _, crc = text.rpartition(b" ")
        if crc != b"%08x\n" % zlib.crc32(numbers):
            raise Wrong(f"the counter holds {text!r}")
        return [int(word) for word in numbers.split()]

    def check(self, locked):
        if not locked:
            fcntl.lockf(self.file, fcntl.LOCK_EX)
        numbers = self.read()
        own = numbers[self.node]
        self.found(own, self.synced(), self.synced() + (1 if self.in_doubt else 0))
        if not locked:
            fcntl.lockf(self.file, fcntl.LOCK_UN)
        self.synced(own)
        return numbers

    def step(self):
        fcntl.lockf(self.file, fcntl.LOCK_EX)
        numbers = self.check(locked=True)
        self.in_doubt = True
        numbers[self.node] += 1
        text = " ".join(f"{number:012d}" for number in numbers).encode()
        os.pwrite(self.file, text + b" %08x\n" % zlib.crc32(text), 0)
        os.fsync(self.file)
        self.synced(numbers[self.node])
        self.in_doubt = False
        fcntl.lockf(self.file, fcntl.LOCK_UN)


class Read(Work):
    """What others have synced is seen here."""

    kind = "read"

    def open(self):
        pass

    def step(self):
        other = self.random.randrange(NODES)
        board = self.user.board
        what = self.random.choice(("append", "append-shared", "replace", "in-place"))
        before = int(board.synced(other, what))
        name = {"append": f"log-{other}", "append-shared": "log-of-all", "replace": f"replaced-{other}",
                "in-place": f"rewritten-{other}"}[what]
        try:
            data = self.read_file(name)
        except FileNotFoundError:
            if before > 0:
                raise Stale(f"there is no {name}, of which {before} was synced") from None
            return
        if what.startswith("append"):
            oldest = len(records_of(name, data).get(other, []))
        else:
            oldest = min(versions_of(name, data), default=0)
        if oldest < before:
            raise Stale(f"{name} shows {oldest} of node {other} where {before} was synced before it was opened: "
                        f"{len(data)} bytes; {self.look_past_the_kernel(name)}")

    def look_past_the_kernel(self, name):
        """For whoever looks for the reason: whose memory it is that is old."""
        size = os.stat(name, dir_fd=self.folder).st_size
        direct = self.open_file(name, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, (max(size, 1) // BLOCK + 16) * BLOCK)
        asked = os.preadv(direct, [buffer], 0)
        self.close_file(direct)
        return (f"then stat said {size}, {asked} could be read past the kernel's pages, and "
                f"{len(self.read_file(name))} by way of them")


class User:
    def __init__(self, node, root, board, notes, seed):
        self.node = int(node)
        self.root = root
        self.board = Board(board)
        self.notes = Notes(notes)
        self.seed = seed

    def timed(self, work, call):
        """Runs a call, on the board as long as it runs."""
        began = time.monotonic()
        self.board.began(self.node, work.kind, began)
        try:
            return call()
        finally:
            took = time.monotonic() - began
            self.board.began(self.node, work.kind, 0)
            if took >= LONG_SECONDS:
                self.notes.write(what="long", node=self.node, kind=work.kind, began=began, took=took)

    def run(self, work):
        is_open = False
        draw = random.Random(f"{self.seed} {self.node} {work.kind} pauses")
        while not self.board.end(self.node):
            if self.board.rest(self.node):
                self.timed(work, work.close)
                is_open = False
                self.board.resting(self.node, work.kind, 1)
                time.sleep(0.05)
                continue
            self.board.resting(self.node, work.kind, 0)
            losses, began = self.board.losses(self.node), time.monotonic()
            try:
                self.timed(work, work.step if is_open else work.begin)
                is_open = True
                self.board.steps(self.node, work.kind, self.board.steps(self.node, work.kind) + 1)
            except Stale as stale:
                time.sleep(LOSS_KNOWN_SECONDS)
                if self.board.losses(self.node) == losses:
                    self.complain(work, f"{stale}, in a look at it that began at {began:.3f}")
            except OSError as error:
                # ENOENT: nothing is mounted.
                if error.errno not in ERRORS_OF_LOSS and not (error.errno == errno.ENOENT and not is_open):
                    self.complain(work, repr(error))
                self.timed(work, work.close)
                is_open = False
                time.sleep(0.2)
            time.sleep(draw.uniform(0, work.slowest_pause))
        self.timed(work, work.close)
        self.timed(work, work.begin)
        self.timed(work, work.close)

    def complain(self, work, what):
        self.notes.write(what="wrong", node=self.node, kind=work.kind, at=time.monotonic(), text=what)

    def guarded(self, work):
        try:
            self.run(work)
        except Exception as failure:  # told to the loop
            self.complain(work, f"{type(failure).__name__}: {failure}")


def main():
    user = User(*sys.argv[1:])
    threads = [threading.Thread(target=user.guarded, args=(kind(user),))
               for kind in (Append, AppendShared, Replace, InPlace, Names, Count, Read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
