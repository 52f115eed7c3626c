#!/usr/bin/env python3
"""Checks how a directory behaves: suite.py DIRECTORY [--has FEATURE]... [--only PART-OF-A-NAME].

Runs as root, on any filesystem, which is how the suite itself is checked (ext4, tmpfs). The closing line is
"N passed, N failed"; exit status 0 means that none failed. Tests of what Linux filesystems have beyond POSIX run for the
features that are named (see FEATURES).
"""

import argparse
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness  # noqa: E402
import contents  # noqa: E402,F401
import directories  # noqa: E402,F401
import exercise  # noqa: E402,F401
import linux  # noqa: E402,F401
import locks  # noqa: E402,F401
import names  # noqa: E402,F401
import paths  # noqa: E402,F401
import rights  # noqa: E402,F401
import times  # noqa: E402,F401

FEATURES = {
    "acl": "POSIX access control lists",
    "flags": "chattr +i and +a",
    "handles": "open_by_handle_at",
}


def check_directory(directory, features, only=""):
    """Runs the suite in a folder within `directory`; returns it."""
    os.umask(0)
    work = tempfile.mkdtemp(prefix="posix-", dir=directory)
    os.chmod(work, 0o755)
    suite = harness.Suite(work, features)
    suite.run(only)
    os.rmdir(work)
    return suite


def report(suite):
    for line in suite.errors + suite.failures:
        print(f"not ok {line}")
    print(f"{suite.passed} passed, {len(suite.failures) + len(suite.errors)} failed")
    return 1 if suite.failures or suite.errors or not suite.passed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--has", action="append", default=[], choices=sorted(FEATURES), metavar="FEATURE",
                        help="; ".join(f"{name}: {what}" for name, what in FEATURES.items()))
    parser.add_argument("--only", default="", help="only tests with this in their name")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("suite.py: needs root, for it acts as other users too")
    sys.exit(report(check_directory(arguments.directory, set(arguments.has), arguments.only)))


if __name__ == "__main__":
    main()
