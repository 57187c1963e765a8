"""Where results go: files that are replaced or left alone, and a standard output that takes nothing."""
import os
import signal
import stat
import subprocess
import time
import unittest

from odmoe_cli import DATA, DEMO, PROGRAM, CliTest, run

CASE = DATA / "layer" / "tiny.safetensors"


class Files(CliTest):
    """`logits` writes its file itself, `layer` lets the library write it: both keep the same rules."""

    commands = (["logits", "-m", DEMO, "--tokens", "5,6"], ["layer", "--case", CASE])

    def check_refused(self, out, *words):
        for command in self.commands:
            self.check_error(run(*command, "--out", out), 1, out, *words)

    def test_a_link_stays_and_its_file_is_replaced(self):
        file, link = self.folder / "file", self.folder / "link"
        link.symlink_to("file")
        for command in self.commands:
            file.write_text("old")
            self.check_done(run(*command, "--out", link))
            self.assertTrue(link.is_symlink())
            self.assertGreater(file.stat().st_size, 100)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["file", "link"])

    def test_what_is_no_regular_file_is_left_as_it_is(self):
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        link = self.folder / "link"
        link.symlink_to("fifo")
        for out in (fifo, link):
            self.check_refused(out, "no regular file")
            self.assertTrue(stat.S_ISFIFO(out.stat().st_mode))
        self.check_refused(self.folder, "no regular file")

    def test_a_link_to_nothing_is_refused(self):
        link = self.folder / "link"
        link.symlink_to("nothing")
        self.check_refused(link)
        self.assertEqual([p.name for p in self.folder.iterdir()], ["link"])

    def test_an_interrupted_command_leaves_nothing(self):
        ids = ",".join(["5"] * 1500)
        for end in (signal.SIGINT, signal.SIGTERM):
            p = subprocess.Popen([PROGRAM, "logits", "-m", DEMO, "--tokens", ids, "--kernels", "ref", "--layers", "--greedy", "500",
                                  "--out", self.folder / "out"])
            limit = time.monotonic() + 60
            while not list(self.folder.iterdir()) and time.monotonic() < limit:
                time.sleep(0.01)
            self.assertTrue(list(self.folder.iterdir()))
            time.sleep(0.05)
            p.send_signal(end)
            self.assertEqual(p.wait(60), -end)
            self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
