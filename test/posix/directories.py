"""Listing directories: readdir, seekdir, changes meanwhile, many names."""

import ctypes
import os
import random

from harness import LIBC, NAME_MAX, TYPES, create, kind_of, make, remove, test

LIBC.opendir.restype = ctypes.c_void_p
LIBC.readdir.restype = ctypes.c_void_p
LIBC.telldir.restype = ctypes.c_long
DIRENT_NAME = 19  # d_ino, d_off, d_reclen, d_type
TYPE_NUMBERS = {"fifo": 1, "char": 2, "dir": 4, "block": 6, "regular": 8, "symlink": 10, "socket": 12}


class Stream:
    """opendir(3) and what belongs to it."""

    def __init__(self, path):
        self.handle = ctypes.c_void_p(LIBC.opendir(os.fsencode(path)))
        if not self.handle.value:
            raise OSError(ctypes.get_errno(), "opendir")

    def read(self):
        """(name, inode, type) or None."""
        entry = LIBC.readdir(self.handle)
        if not entry:
            return None
        name = os.fsdecode(ctypes.string_at(entry + DIRENT_NAME))
        return name, ctypes.c_uint64.from_address(entry).value, ctypes.c_uint8.from_address(entry + 18).value

    def rest(self):
        return [entry[0] for entry in iter(self.read, None)]

    def tell(self):
        return LIBC.telldir(self.handle)

    def seek(self, place):
        LIBC.seekdir(self.handle, ctypes.c_long(place))

    def rewind(self):
        LIBC.rewinddir(self.handle)

    def close(self):
        LIBC.closedir(self.handle)


@test
def types_and_inodes(t):
    for kind in TYPES:
        make(kind, t.path(kind))
    stream = Stream(t.dir)
    found = {name: (inode, number) for name, inode, number in iter(stream.read, None)}
    stream.close()
    t.equal("names", sorted(found), sorted(TYPES + (".", "..")))
    for kind in TYPES:
        inode, number = found[kind]
        t.equal(f"inode of a {kind}", inode, os.lstat(t.path(kind)).st_ino)
        t.check(number in (0, TYPE_NUMBERS[kind]), f"type of a {kind} is {number}")
    t.equal("inode of .", found["."][0], os.stat(t.dir).st_ino)
    t.equal("inode of ..", found[".."][0], os.stat(t.path("..")).st_ino)


@test
def places_are_kept(t):
    names = {f"name-{number:04}" for number in range(1500)}
    for name in names:
        create(t.path(name))
    stream = Stream(t.dir)
    order, places = [], []
    while True:
        places.append(stream.tell())
        entry = stream.read()
        if entry is None:
            break
        order.append(entry[0])
    t.equal("each name once", sorted(order), sorted(names | {".", ".."}))
    choose = random.Random(6)
    for _ in range(60):
        index = choose.randrange(len(order))
        stream.seek(places[index])
        entry = stream.read()
        t.equal(f"name at place {index}", entry and entry[0], order[index])
    stream.seek(places[700])
    t.equal("the rest", stream.rest(), order[700:])
    stream.rewind()
    t.equal("all again", stream.rest(), order)
    # Places survive changes elsewhere, and other streams know them.
    kept = order[1000:]
    for name in order[:1000]:
        if name not in (".", ".."):
            os.unlink(t.path(name))
    other = Stream(t.dir)
    other.seek(places[1000])
    rest = other.rest()
    t.equal("the rest when names before it are gone", [name for name in rest if name not in (".", "..")],
            [name for name in kept if name not in (".", "..")])
    other.close()
    stream.close()


@test
def changes_while_listing(t):
    for number in range(2000):
        create(t.path(f"name-{number}"))
    stream = Stream(t.dir)
    seen = [stream.read()[0] for _ in range(500)]
    gone = [f"name-{number}" for number in range(2000) if f"name-{number}" not in seen][:200]
    for name in gone:
        os.unlink(t.path(name))
    for number in range(200):
        create(t.path(f"new-{number}"))
    rest = stream.rest()
    stream.close()
    t.equal("no name twice", len(set(seen + rest)), len(seen + rest))
    old = {f"name-{number}" for number in range(2000)} - set(gone)
    t.equal("names that stayed and are not listed", sorted(old - set(seen + rest)), [])
    # Removing each name as it is listed leaves none.
    stream = Stream(t.dir)
    for name, *_ in iter(stream.read, None):
        if name not in (".", ".."):
            os.unlink(t.path(name))
    stream.close()
    t.equal("names left", os.listdir(t.dir), [])
    t.expect("ok", os.rmdir, t.dir)
    os.mkdir(t.dir)


@test
def rewinding_shows_changes(t):
    create(t.path("one"))
    stream = Stream(t.dir)
    t.equal("names", sorted(stream.rest()), [".", "..", "one"])
    create(t.path("two"))
    os.unlink(t.path("one"))
    stream.rewind()
    t.equal("names after rewinding", sorted(stream.rest()), [".", "..", "two"])
    stream.close()


@test
def names_of_all_lengths_and_bytes(t):
    names = {"n" * length for length in range(1, NAME_MAX + 1)}
    names |= {os.fsdecode(bytes([value])) for value in range(1, 256) if value not in b"/."}
    names |= {os.fsdecode(bytes([value]) * NAME_MAX) for value in range(128, 256)} | {"...", ".hidden", " ", "-"}
    for name in sorted(names):
        create(t.path(name))
    t.equal("names", sorted(os.listdir(t.dir)), sorted(names))
    for name in sorted(names):
        t.equal("type", kind_of(t.path(name)), "regular")
        os.unlink(t.path(name))
    t.equal("names left", os.listdir(t.dir), [])


@test
def names_that_differ_in_case(t):
    for name in ("name", "Name", "NAME", "n\u00e4me", "na\u0308me"):
        t.expect("ok", os.mkdir, t.path(name))
    t.equal("names", len(os.listdir(t.dir)), 5)
    for name in os.listdir(t.dir):
        remove("dir", t.path(name))


@test
def random_changes(t):
    """A folder and its model, through growing and shrinking."""
    choose = random.Random(7)
    model = {}
    for _ in range(6000):
        grow = choose.random() < (0.65 if len(model) < 1500 else 0.35)
        if grow or not model:
            name = choose.choice("abcdefgh") * choose.randrange(1, 60) + str(choose.randrange(100_000))
            if name in model:
                continue
            kind = choose.choice(("regular", "regular", "dir", "symlink", "fifo"))
            make(kind, t.path(name))
            model[name] = kind
        elif choose.random() < 0.3:
            old = choose.choice(list(model))
            new = f"moved-{choose.randrange(1_000_000)}"
            if new not in model:
                os.rename(t.path(old), t.path(new))
                model[new] = model.pop(old)
        else:
            name = choose.choice(list(model))
            remove(model.pop(name), t.path(name))
    t.equal("names", sorted(os.listdir(t.dir)), sorted(model))
    for name, kind in model.items():
        t.equal(f"type of {name}", kind_of(t.path(name)), kind)
    t.equal("links", os.stat(t.dir).st_nlink, 2 + list(model.values()).count("dir"))
