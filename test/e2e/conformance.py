"""POSIX behaviour of a mounted volume: the suite in test/posix on it, then read-only, then full."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "posix"))

import fullness  # noqa: E402
import harness  # noqa: E402
import readonly  # noqa: E402
import suite  # noqa: E402
import support  # noqa: E402


class Conformance(support.MountedTest):
    def passes(self, result):
        print(f"{result.passed} assertions passed, {len(result.failures)} failed", file=sys.stderr)
        self.assertEqual(result.errors + result.failures, [])
        self.assertGreater(result.passed, 0)

    def setUp(self):
        os.umask(0)
        super().setUp()
        os.chmod(self.root, 0o755)

    def test_every_call(self):
        self.passes(suite.check_directory(self.root, set(suite.FEATURES)))
        self.assertEqual(os.listdir(self.root), [])

    def test_read_only(self):
        readonly.prepare(self.root)
        self.remount("-o", "ro")
        result = harness.Suite(self.root, set())
        readonly.check(result, self.root)
        self.passes(result)


class FullVolume(Conformance):
    VOLUME = {"size_mib": 40}
    test_every_call = test_read_only = None

    def test_full(self):
        result = harness.Suite(self.root, set())
        fullness.check(result, self.root)
        self.passes(result)


if __name__ == "__main__":
    support.main()
