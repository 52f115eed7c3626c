"""One file under random operations of every kind that changes or reads contents, and a model of it in memory.

Writes, reads, appends, mapped writes and reads, truncation, holes, zeroing, allocation, copying within the file, direct
and synchronous transfers, reopening, dropping cached pages, data and hole seeking; after each, what is read is compared.
"""

import errno
import fcntl
import mmap
import os
import random

from harness import libc, test

LARGEST = 700_000
KEEP_SIZE, PUNCH, ZERO = 1, 2, 16
DIRECT_UNIT = 4096


class Exercise:
    def __init__(self, t, path, seed):
        self.t, self.path = t, path
        self.choose = random.Random(seed)
        self.model = bytearray()
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.direct = self.open_direct()
        self.memory = mmap.mmap(-1, 1 << 20)
        self.done = []
        self.operations = [self.write, self.write, self.append, self.read, self.read, self.read_mapped,
                           self.write_mapped, self.truncate, self.punch, self.zero, self.allocate, self.copy,
                           self.write_directly, self.read_directly, self.sync, self.drop, self.reopen, self.seek]

    def open_direct(self):
        try:
            return os.open(self.path, os.O_RDWR | os.O_DIRECT)
        except OSError:
            return None

    def place(self, within):
        """An offset, often at or near a block's edge."""
        offset = self.choose.randrange(max(1, within))
        kind = self.choose.randrange(4)
        if kind == 0:
            offset &= ~4095
        elif kind == 1:
            offset = max(0, (offset & ~4095) + self.choose.choice((-1, 1)))
        return offset

    def length(self):
        return self.choose.choice((1, 100, 511, 4096, 4097, 8192, self.choose.randrange(1, 70_000)))

    def patch(self, offset, data):
        if offset > len(self.model):
            self.model.extend(bytes(offset - len(self.model)))
        self.model[offset:offset + len(data)] = data

    def compare(self, what, offset, data, length):
        wanted = bytes(self.model[offset:offset + length])
        if data == wanted:
            self.t.passed += 1
            return
        at = next((i for i, (a, b) in enumerate(zip(data, wanted)) if a != b), min(len(data), len(wanted)))
        raise AssertionError(f"{what} at {offset}: {len(data)} bytes, expected {len(wanted)}; first difference at "
                             f"{offset + at}; last operations: {self.done[-12:]}")

    def write(self):
        offset, data = self.place(LARGEST), self.choose.randbytes(self.length())
        os.pwrite(self.fd, data, offset)
        self.patch(offset, data)
        return offset, len(data)

    def append(self):
        data = self.choose.randbytes(self.length())
        if len(self.model) + len(data) > LARGEST:
            return None
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, data)
        os.close(fd)
        self.patch(len(self.model), data)
        return len(data)

    def read(self):
        offset, length = self.place(len(self.model) + 5000), self.length()
        self.compare("read", offset, os.pread(self.fd, length, offset), length)
        return offset, length

    def mapped(self):
        page = self.place(len(self.model)) & ~4095
        return page, min(self.length(), len(self.model) - page)

    def read_mapped(self):
        if not self.model:
            return None
        page, length = self.mapped()
        with mmap.mmap(self.fd, length, prot=mmap.PROT_READ, offset=page) as shared:
            self.compare("mapped", page, shared[:], length)
        return page, length

    def write_mapped(self):
        if not self.model:
            return None
        page, length = self.mapped()
        start = self.choose.randrange(length)
        data = self.choose.randbytes(self.choose.randrange(1, length - start + 1))
        with mmap.mmap(self.fd, length, offset=page) as shared:
            shared[start:start + len(data)] = data
            if self.choose.random() < 0.3:
                shared.flush()
        self.patch(page + start, data)
        return page + start, len(data)

    def truncate(self):
        size = self.place(LARGEST if self.choose.random() < 0.7 else 6000)
        os.ftruncate(self.fd, size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))
        return size

    def fallocate(self, mode, offset, length):
        try:
            libc("fallocate", self.fd, mode, offset, length)
            return True
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return False

    def punch(self):
        offset, length = self.place(LARGEST), self.length()
        if self.fallocate(PUNCH | KEEP_SIZE, offset, length):
            end = min(offset + length, len(self.model))
            if end > offset:
                self.model[offset:end] = bytes(end - offset)
        return offset, length

    def zero(self):
        offset, length = self.place(LARGEST), self.length()
        keep = self.choose.choice((0, KEEP_SIZE))
        if self.fallocate(ZERO | keep, offset, length):
            end = offset + length if not keep else min(offset + length, len(self.model))
            if end > offset:
                self.patch(offset, bytes(end - offset))
        return offset, length, keep

    def allocate(self):
        offset, length = self.place(LARGEST), self.length()
        keep = self.choose.choice((0, KEEP_SIZE))
        self.fallocate(keep, offset, length)
        if not keep and offset + length > len(self.model):
            self.model.extend(bytes(offset + length - len(self.model)))
        return offset, length, keep

    def copy(self):
        if len(self.model) < 2:
            return None
        source, length = self.choose.randrange(len(self.model)), self.length()
        target = self.place(LARGEST)
        length = min(length, len(self.model) - source)
        if target < source + length and source < target + length:
            return None
        data = bytes(self.model[source:source + length])
        copied = 0
        while copied < length:
            copied += os.copy_file_range(self.fd, self.fd, length - copied, source + copied, target + copied)
        self.patch(target, data)
        return source, target, length

    def direct_piece(self):
        offset = self.place(LARGEST) & ~(DIRECT_UNIT - 1)
        return offset, DIRECT_UNIT * self.choose.randrange(1, 20)

    def write_directly(self):
        if self.direct is None:
            return None
        offset, length = self.direct_piece()
        self.memory[:length] = self.choose.randbytes(length)
        os.pwritev(self.direct, [memoryview(self.memory)[:length]], offset)
        self.patch(offset, self.memory[:length])
        return offset, length

    def read_directly(self):
        if self.direct is None:
            return None
        offset, length = self.direct_piece()
        got = os.preadv(self.direct, [memoryview(self.memory)[:length]], offset)
        self.compare("direct read", offset, self.memory[:got], length)
        return offset, length

    def sync(self):
        self.choose.choice((os.fsync, os.fdatasync))(self.fd)

    def drop(self):
        os.fsync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def reopen(self):
        os.close(self.fd)
        flags = self.choose.choice((0, os.O_SYNC, os.O_NOATIME))
        self.fd = os.open(self.path, os.O_RDWR | flags)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, 0)
        return flags

    def seek(self):
        """What is said to be a hole has zeros."""
        offset = 0
        while offset < len(self.model):
            try:
                data = os.lseek(self.fd, offset, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                data = len(self.model)
            assert not any(self.model[offset:data]), f"a hole from {offset} to {data} has data; {self.done[-12:]}"
            if data >= len(self.model):
                break
            offset = os.lseek(self.fd, data, os.SEEK_HOLE)
            assert data < offset <= len(self.model), f"data from {data} to {offset}"
        self.t.passed += 1

    def run(self, steps):
        for _ in range(steps):
            operation = self.choose.choice(self.operations)
            self.done.append(operation.__name__)
            arguments = operation()
            self.done[-1] += f"{arguments}"
            size = os.fstat(self.fd).st_size
            assert size == len(self.model), f"size {size}, expected {len(self.model)}; {self.done[-12:]}"
        self.compare("everything", 0, os.pread(self.fd, LARGEST * 2, 0), LARGEST * 2)
        self.drop()
        self.compare("everything again", 0, os.pread(self.fd, LARGEST * 2, 0), LARGEST * 2)

    def close(self):
        os.close(self.fd)
        if self.direct is not None:
            os.close(self.direct)
        self.memory.close()


@test
def contents_at_random(t):
    for seed in range(int(os.environ.get("CORRAL_POSIX_SEEDS", "4"))):
        exercise = Exercise(t, t.path(f"file-{seed}"), seed)
        try:
            exercise.run(1500)
        except AssertionError as error:
            t.check(False, f"seed {seed}: {error}")
        finally:
            exercise.close()
