"""Where results go: files that are replaced or left alone, and a standard output that takes nothing."""
import os
import resource
import signal
import stat
import subprocess
import unittest

from odmoe_cli import DATA, DEMO, PATIENCE, PROGRAM, CliTest, run

CASE = DATA / "layer" / "tiny.safetensors"
HELD_FILES = os.environ["HELD_FILES"]  # held_files.c


def knows_nameless_files(folder):
    """Does the file system of the folder know files that have no name yet? Some that containers have do not."""
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600))
    except OSError:
        return False
    return True


class Files(CliTest):
    """`logits` writes its file piece by piece, `layer` when all is computed: both keep the same rules."""

    commands = (["logits", "-m", DEMO, "--tokens", "5,6"], ["layer", "--case", CASE])

    def check_refused(self, out, *words):
        for command in self.commands:
            self.check_error(run(*command, "--out", out), 1, out, *words)

    def test_a_link_stays_and_its_file_is_replaced(self):
        file, link = self.folder / "file", self.folder / "link"
        link.symlink_to("file")
        for command in self.commands:
            file.write_text("old")
            file.chmod(0o640)
            self.check_done(run(*command, "--out", link))
            self.assertTrue(link.is_symlink())
            self.assertGreater(file.stat().st_size, 100)
            self.assertEqual(file.stat().st_mode & 0o777, 0o640)
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

    def start_held(self, command, **settings):
        """The program, stopped where its file is complete and has not got its name yet."""
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        env = {**os.environ, "LD_PRELOAD": HELD_FILES, "HOLD_FSYNC": "1", "ASAN_OPTIONS": sanitizer, **settings}
        p = subprocess.Popen([PROGRAM, *map(str, command), "--out", self.folder / "out"], env=env, stderr=subprocess.PIPE, text=True)
        self.addCleanup(p.stderr.close)
        self.addCleanup(p.kill)
        self.assertEqual(p.stderr.readline(), "held\n")
        return p

    def test_a_signal_leaves_nothing_whatever_the_file_system_knows(self):
        nameless = knows_nameless_files(self.folder)
        for command in self.commands:
            for settings in ({}, {"NO_NAMELESS": "1"}):
                for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    with self.subTest(command=command[0], end=end, **settings):
                        p = self.start_held(command, **settings)
                        self.assertEqual(len(list(self.folder.iterdir())), len(settings) if nameless else 1)
                        p.send_signal(end)
                        self.assertEqual(p.wait(PATIENCE), -end)
                        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_killed_program_leaves_nothing_where_files_need_no_name(self):
        if not knows_nameless_files(self.folder):
            self.skipTest("this file system knows no files without names")
        for command in self.commands:
            p = self.start_held(command)
            p.kill()
            p.wait(PATIENCE)
            self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_limit_of_a_files_size_is_an_error_and_leaves_what_was_there(self):
        """With the signal that the system sends then as it is by default: it would end the program."""
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))

        for out, there in ((self.folder / "out", []), (self.folder / "old", ["old"])):
            for command in self.commands:
                for name in there:
                    out.write_text(name)
                p = subprocess.run([PROGRAM, *map(str, command), "--out", out], preexec_fn=limit, capture_output=True, text=True)
                self.assertEqual((p.returncode, p.stderr), (1, f"odmoe: {out}: cannot be written: File too large\n"))
                self.assertEqual([p.name for p in self.folder.iterdir()], there)
                self.assertEqual([p.read_text() for p in self.folder.iterdir()], there)


class StandardOutput(CliTest):
    def run_into(self, output, *arguments, **options):
        """The program with its standard output there; a signal of a closed pipe is ignored, as many callers have it."""
        p = subprocess.run([PROGRAM, *map(str, arguments)], stdout=output, stderr=subprocess.PIPE, restore_signals=False,
                           preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN), timeout=PATIENCE, **options)
        return p.returncode, p.stderr.decode()

    def closed_pipe(self):
        reader, writer = os.pipe()
        os.close(reader)
        return os.fdopen(writer, "wb")

    commands = (["--help"], ["--version"], ["run", "--help"], ["inspect", DEMO], ["inspect", DEMO, "--json"], ["plan", "-m", DEMO],
                ["tokenize", "-m", DEMO, "a"], ["detokenize", "-m", DEMO, "5"], ["run", "-m", DEMO, "-p", "a", "-n", "2", "--json"])

    def test_a_full_disk_is_an_error_of_every_command(self):
        for command in self.commands:
            with open("/dev/full", "wb") as full:
                status, err = self.run_into(full, *command)
            self.assertEqual((status, err), (1, "odmoe: standard output: No space left on device\n"), command)

    def test_a_closed_pipe_is_an_error_of_every_command(self):
        for command in self.commands:
            with self.closed_pipe() as pipe:
                status, err = self.run_into(pipe, *command)
            self.assertEqual((status, err), (1, "odmoe: standard output: Broken pipe\n"), command)

    def test_run_stops_when_nobody_takes_its_text(self):
        stats = self.folder / "stats"
        with self.closed_pipe() as pipe:
            status, err = self.run_into(pipe, "run", "-m", DEMO, "-p", "In the beginning", "--ignore-eos", "-n", "100000",
                                        "--kernels", "ref", "--stats", stats, "-v")
        self.assertEqual((status, err), (1, "odmoe: standard output: Broken pipe\n"))
        self.assertFalse(stats.exists())

    def test_the_summary_begins_a_line_where_it_follows_the_text(self):
        command = ["run", "-m", DEMO, "-p", "And God said, Let there be", "-n", "4", "--temp", "0", "--kernels", "ref",
                   "--ignore-eos"]
        text = self.check_done(run(*command)).out
        self.assertFalse(text.endswith("\n"))
        together = subprocess.run([PROGRAM, *command, "-v"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        self.assertTrue(together.startswith(text + "\n4 tokens at "), together)
        apart = run(*command, "-v")
        self.assertEqual(apart.out, text)
        self.assertTrue(apart.err.startswith("4 tokens at "))

    def test_chat_ends_when_nobody_takes_its_answers(self):
        with open("/dev/full", "wb") as full:
            status, err = self.run_into(full, "chat", "-m", DEMO, "-n", "4", input=b"What is a river?\n" * 3)
        self.assertEqual((status, err), (1, "odmoe: standard output: No space left on device\n"))


if __name__ == "__main__":
    unittest.main()
