"""What the tests of the program share: running it, a terminal to run it in, and small model files."""
import json
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest

PROGRAM = os.environ["ODMOE"]
SOURCE = pathlib.Path(os.environ["ODMOE_SOURCE"])
DATA = pathlib.Path(os.environ["ODMOE_TEST_DATA"])
DEMO = str(SOURCE / "models" / "demo.gguf")
PLAIN = {**os.environ, "LC_ALL": "C"}  # bash complains of a locale that is not installed
PATIENCE = 600  # seconds for what must come: a slow, busy machine is no error


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def json(self):
        return json.loads(self.out)


def run(*arguments, stdin=b""):
    p = subprocess.run([PROGRAM, *map(str, arguments)], input=stdin, capture_output=True, timeout=PATIENCE)
    return Result(p.returncode, p.stdout.decode(), p.stderr.decode())


class Terminal:
    """The program on a pseudo terminal; `shown` collects what a person would see."""

    def __init__(self, *arguments):
        self.shown = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(PROGRAM, [PROGRAM, *map(str, arguments)])

    def read(self, seconds=0.1):
        """More output into `shown`; False when the program is gone."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            piece = os.read(self.fd, 65536)
        except OSError:
            return False
        self.shown += piece.decode(errors="replace")
        return bool(piece)

    def wait_for(self, pattern):
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, self.shown):
            if not self.read() or time.monotonic() > end:
                raise AssertionError(f"{pattern!r} never came; shown: {self.shown!r}")

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def wait_for_prompt(self):
        """Until the line editor reads: keys typed before are the terminal's own affair, and Ctrl-D would be lost."""
        self.wait_for("> ")
        end = time.monotonic() + PATIENCE
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            if not self.read(0.01) or time.monotonic() > end:
                raise AssertionError(f"nobody reads; shown: {self.shown!r}")

    def end(self):
        """Wait for the program's end; its exit status."""
        end = time.monotonic() + PATIENCE
        while self.read(1):
            if time.monotonic() > end:
                raise AssertionError(f"does not end; shown: {self.shown!r}")
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def kill(self):
        """After a test that failed half-way."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.end()
        os.close(self.fd)


class ShellTerminal(Terminal):
    """A shell script on a terminal, with the program as "$@": the terminal outlives the program."""

    def __init__(self, script, *arguments):
        self.shown = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # ignored where the tests run in the background
            os.execv("/bin/sh", ["sh", "-c", script, "sh", PROGRAM, *map(str, arguments)])


class CliTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="odmoe-cli-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def terminal(self, *arguments):
        terminal = Terminal(*arguments)
        self.addCleanup(terminal.kill)
        return terminal

    def check_error(self, result, status, *words):
        """One line on stderr that begins "odmoe: " and says each of the words; nothing on stdout."""
        self.assertEqual(result.status, status, result.err)
        self.assertRegex(result.err, r"\Aodmoe: [^\n]+\n\Z")
        self.assertEqual(result.out, "")
        for word in words:
            self.assertIn(str(word), result.err)

    def check_done(self, result):
        self.assertEqual(result.status, 0, result.err)
        return result


def wait_until_asleep(pid):
    """Until the process computes nothing and waits, for input or another's signal."""
    end = time.monotonic() + PATIENCE
    while (state := pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]) != "S":
        if state == "Z" or time.monotonic() > end:
            raise AssertionError(f"the process waits for nothing, its state is {state}")
        time.sleep(0.01)


def write_gguf(path, metadata):
    """A GGUF file without tensors: strings, and integers as uint32."""
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    data = struct.pack("<4sIQQ", b"GGUF", 3, 0, len(metadata))
    for key, value in metadata.items():
        data += text(key)
        data += struct.pack("<I", 8) + text(value) if isinstance(value, str) else struct.pack("<II", 4, value)
    path.write_bytes(data)


def read_safetensors(path):
    """{name: (shape, flat list of values)} of a file's F32, I32 and I64 tensors."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    tensors = {}
    for name, t in header.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            code = {"F32": "f", "I32": "i", "I64": "q"}[t["dtype"]]
            count = (end - begin) // struct.calcsize(f"<{code}")
            tensors[name] = (t["shape"], list(struct.unpack_from(f"<{count}{code}", data, 8 + length + begin)))
    return tensors
