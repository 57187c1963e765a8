"""A corpus holds the inputs as they were put in, in an order of its own, and a damaged one is refused."""
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = sys.argv.pop(1)
sys.path.insert(0, os.path.dirname(TOOL))
import corpus  # the tool's own functions, where starting it each time would take long
DRIVER = os.environ["FUZZER"]  # a fuzz target that was linked with driver.c


class Corpus(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.folder = pathlib.Path(temp.name)
        self.corpus = self.folder / "t.corpus"

    def tool(self, *args, status=0):
        p = subprocess.run([sys.executable, TOOL, *map(str, args)], capture_output=True, text=True)
        self.assertEqual(p.returncode, status, p.stderr)
        return p.stdout if not status else p.stderr

    def add(self, files):
        for name, data in files.items():
            (self.folder / name).write_bytes(data)
        self.tool("add", self.corpus, *(self.folder / name for name in files))

    def names(self):
        return [line.split()[0] for line in self.tool("list", self.corpus).splitlines()]

    def unpacked(self):
        out = self.folder / "out"
        self.tool("unpack", self.corpus, out)
        return {p.name: p.read_bytes() for p in out.iterdir()}

    def driver(self, *args):
        return subprocess.run([DRIVER, *map(str, args)], capture_output=True, text=True)

    def test_inputs_come_out_as_they_went_in(self):
        found = bytes(range(256))
        files = {"a-story": b"", "other": b"{}", hashlib.sha1(found).hexdigest(): found}
        self.add(files)
        self.assertEqual(self.unpacked(), files)
        self.assertIn("3 inputs and 5 mutations", self.driver(self.corpus, 5).stdout)

    def test_the_order_is_that_of_the_names_whatever_came_first(self):
        self.add({"b": b"1", "c": b"2"})
        self.add({"a": b"3"})
        self.assertEqual(self.names(), ["a", "b", "c"])

    def test_a_name_stands_for_one_input_and_the_same_bytes_found_twice_are_kept_once(self):
        found = b"found"
        self.add({hashlib.sha1(found).hexdigest(): found})
        self.add({hashlib.sha1(found).hexdigest(): found, "story": b"old"})
        self.add({"story": b"new"})
        self.assertEqual(self.unpacked(), {hashlib.sha1(found).hexdigest(): found, "story": b"new"})
        self.add({"it-crashed": found})
        self.assertEqual(self.names(), ["it-crashed", "story"])

    def test_merge_takes_what_the_fuzzer_adds(self):
        self.add({"a": b"1"})
        fuzzer = self.folder / "fuzzer"  # as libFuzzer merges: into its first folder
        fuzzer.write_text('#!/bin/sh\ntest "$1" = -merge=1 && test -f "$2/a" && cp "$3"/* "$2"/\n')
        fuzzer.chmod(0o755)
        more = self.folder / "more"
        more.mkdir()
        name = hashlib.sha1(b"2").hexdigest()
        (more / name).write_bytes(b"2")
        self.tool("merge", self.corpus, fuzzer, more)
        self.assertEqual(self.unpacked(), {"a": b"1", name: b"2"})

    def test_what_is_no_corpus_is_refused_by_the_tool_and_the_driver(self):
        self.add({"a": b"12345", "b": b"678"})
        whole = self.corpus.read_bytes()
        ends = [15, 15 + 8 + 1 + 5]  # whole inputs: fewer of them, but none damaged
        for n in range(len(whole)):
            if n not in ends:
                self.corpus.write_bytes(whole[:n])
                self.assertRaisesRegex(ValueError, "t.corpus", corpus.load, self.corpus)
                self.assertEqual(self.driver(self.corpus, 0).returncode, 2, n)
        self.assertIn("t.corpus", self.tool("list", self.corpus, status=1))
        self.assertEqual(self.driver(self.folder, 0).returncode, 2)
        self.assertEqual(self.driver(self.folder / "nothing", 0).returncode, 2)

    def test_an_input_longer_than_the_driver_takes_is_refused(self):
        (self.folder / "long").write_bytes(bytes(65537))
        self.assertIn("65536", self.tool("add", self.corpus, self.folder / "long", status=1))


unittest.main()
