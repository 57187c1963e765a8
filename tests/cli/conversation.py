"""Conversations: at a terminal and through a pipe."""
import fcntl
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import termios
import unittest
from unittest import mock

from odmoe_cli import DEMO, PATIENCE, PROGRAM, CliTest, Result, ShellTerminal, run, wait_until_asleep


class Chat(CliTest):
    def chat(self, *options):
        terminal = self.terminal("chat", "-m", DEMO, "-n", "16", "--temp", "0", *options)
        terminal.wait_for_prompt()
        return terminal

    def test_help_reset_and_exit(self):
        terminal = self.chat()
        terminal.type("/help\n")
        terminal.wait_for("/reset ")
        terminal.type("/reset\n/exit\n")
        self.assertEqual(terminal.end(), 0)

    def test_ctrl_d_ends_it(self):
        terminal = self.chat()
        terminal.type("\x04")
        self.assertEqual(terminal.end(), 0)

    def test_a_question_is_answered_and_the_next_one_asked_for(self):
        terminal = self.chat()
        terminal.type("What is a river?\n")
        terminal.wait_for(" tok/s")
        terminal.type("/exit\n")
        self.assertEqual(terminal.end(), 0)

    def test_letters_beyond_ascii_are_shown_and_sent_whatever_the_locale(self):
        message = "é€😀x"
        piped = self.check_done(run("chat", "-m", DEMO, "-n", "16", "--temp", "0", stdin=f"{message}\n".encode())).out
        for locale in ("C.UTF-8", "C", "no_SUCH.locale"):
            with mock.patch.dict(os.environ, LC_ALL=locale):
                terminal = self.chat()
            terminal.type(f"{message}\n")
            terminal.wait_for(" tok/s")
            terminal.type("/exit\n")
            self.assertEqual(terminal.end(), 0)
            self.assertIn(message, terminal.shown)
            self.assertIn(piped, terminal.shown.replace("\r\n", "\n"))

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        terminal = self.terminal("chat", "-m", DEMO, "--temp", "1", "--kernels", "ref")
        terminal.wait_for_prompt()
        terminal.type("Tell me everything about rivers.\n")
        terminal.wait_for(r"rivers\.\r\n[\s\S]*[a-z]{3}")  # it reads the prompt, or has begun to answer
        terminal.type("\x03")
        terminal.wait_for_prompt()
        terminal.type("/help\n")
        terminal.wait_for("/exit ")
        terminal.type("/exit\n")
        self.assertEqual(terminal.end(), 0)

    def shell(self, script):
        terminal = ShellTerminal(script, "chat", "-m", DEMO, "-n", "16", "--temp", "0")
        self.addCleanup(terminal.kill)
        terminal.wait_for_prompt()
        return terminal

    def check_line_mode(self, shown):
        """What stty says of a terminal that shows what is typed, line by line."""
        words = re.split(r"[\s;]+", shown)
        self.assertIn("echo", words)
        self.assertIn("icanon", words)

    def test_a_signal_at_the_prompt_leaves_the_terminal_as_it_was(self):
        """It is for the program alone: the script that runs it goes on."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            terminal = self.shell("""sh -c 'echo "pid $$"; exec "$@"' sh "$@"; echo "status $?"; stty -a""")
            os.kill(int(re.search(r"pid (\d+)", terminal.shown)[1]), number)
            self.assertEqual(terminal.end(), 0)
            after = terminal.shown.split("status ")[1]
            self.assertEqual(int(after.split()[0]), 128 + number)
            self.check_line_mode(after)

    def test_a_line_goes_on_where_it_was_stopped(self):
        terminal = self.shell('set -m; "$@"; stty -a; echo "end of modes"; fg')
        terminal.type("/he")
        terminal.wait_for("> /he")
        terminal.type("\x1a")
        terminal.wait_for(r"end of modes[\s\S]*> /he")
        self.check_line_mode(terminal.shown.split("end of modes")[0])
        terminal.type("lp\n")
        terminal.wait_for("/reset ")
        terminal.type("/exit\n")
        self.assertEqual(terminal.end(), 0)

    def test_the_editor_knows_how_wide_the_window_has_become(self):
        terminal = self.chat()
        fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
        terminal.type("a" * 30 + "\x01b")
        terminal.wait_for(r"\x1b\[A")  # the line has two rows, and its beginning is in the first
        terminal.type("\x03")
        terminal.wait_for(r"\n> $")
        terminal.type("/exit\n")
        self.assertEqual(terminal.end(), 0)

    def test_ctrl_c_at_the_prompt_drops_what_was_typed(self):
        terminal = self.chat()
        terminal.type("never sent")
        terminal.wait_for("never sent")
        terminal.type("\x03")
        terminal.wait_for(r"never sent[\s\S]*\n> ")
        terminal.type("/exit\n")
        self.assertEqual(terminal.end(), 0)
        self.assertNotIn(" tok/s", terminal.shown)

    def model_with(self, template):
        """The demo model with another chat template, padded to the length of its own."""
        model = bytearray(pathlib.Path(DEMO).read_bytes())
        key = b"tokenizer.chat_template"
        length = model.index(key) + len(key) + 4  # behind the value's type
        text = length + 8
        end = text + struct.unpack_from("<Q", model, length)[0]
        self.assertLessEqual(len(template), end - text)
        model[text:end] = template.ljust(end - text)
        path = self.folder / "other.gguf"
        path.write_bytes(model)
        return path

    def test_a_template_that_does_not_compile_is_told_with_line_and_feature_and_leaves_run_usable(self):
        path = self.model_with(b"{{ 'a' }}\n{% frobnicate %}")
        self.check_error(run("chat", "-m", path), 1, "line 2", "unknown tag 'frobnicate'", "`run` without --chat")
        self.check_error(run("run", "-m", path, "--chat", "-p", "Hello", "-n", "1"), 1, "line 2", "frobnicate")
        self.check_done(run("run", "-m", path, "-p", "Hello", "-n", "1"))

    def test_what_a_template_raises_reaches_the_user_in_its_own_words(self):
        path = self.model_with(b"{{ raise_exception('Only on Sundays!') }}")
        self.check_error(run("run", "-m", path, "--chat", "-p", "Hello", "-n", "1"), 1, "odmoe: Only on Sundays!\n")

    def test_a_template_from_a_file_goes_before_the_models_own(self):
        template = self.folder / "echo.jinja"
        template.write_text("{{ messages[0].content }}{{ tail }}")
        plain = self.check_done(run("run", "-m", DEMO, "-p", "What is a river?", "-n", "8", "--temp", "0")).out
        options = ["run", "-m", DEMO, "--chat", "--template", template, "--template-kwargs", '{"tail": "river?"}', "-p", "What is a ", "-n", "8", "--temp", "0"]
        self.assertEqual(self.check_done(run(*options)).out, plain)
        self.check_error(run(*options[:3], *options[4:]), 2, "--chat")
        self.check_error(run(*options[:6], "--template-kwargs", "[1]", "-p", "x"), 2, "must be a JSON object")

    def test_piped_messages_are_answered_without_prompts(self):
        options = ["chat", "-m", DEMO, "-n", "8", "--temp", "0"]
        one = self.check_done(run(*options, stdin=b"What is a river?\n")).out
        self.assertTrue(one.endswith("\n"))
        again = self.check_done(run(*options, stdin=b"What is a river?\n/reset\nWhat is a river?\n/exit\nnever read\n")).out
        self.assertEqual(again, one + one)

    def test_lines_joined_by_backslash_or_quotes_are_one_message(self):
        options = ["chat", "-m", DEMO, "-n", "8", "--temp", "0"]
        joined = self.check_done(run(*options, stdin=b"What is\\\na river?\n")).out
        block = self.check_done(run(*options, stdin=b'"""What is\na river?"""\n')).out
        self.assertEqual(joined, block)
        self.assertEqual(joined.count("\n"), run(*options, stdin=b"What is a river?\n").out.count("\n"))

    def test_text_behind_a_block_is_part_of_the_message(self):
        options = ["chat", "-m", DEMO, "-n", "8", "--temp", "0"]
        plain = self.check_done(run(*options, stdin=b"What is\\\na river?\\\nA long one\n")).out
        for message in (b'"""What is\na""" river?\\\nA long one\n', b'"""\nWhat is\na river?\n"""A long one\n'):
            self.assertEqual(self.check_done(run(*options, stdin=message)).out, plain)

    def test_a_message_with_a_zero_byte_is_refused_whole(self):
        for message in (b"What\0 is a river?\n", b'"""\nWhat is\n\0"""', b'"""What\0\nis\na river?\n"""\n'):
            result = run("chat", "-m", DEMO, stdin=message)
            self.assertEqual(result.out, "")
            self.assertRegex(result.err, r"\Aodmoe: [^\n]*zero byte[^\n]*\n\Z")

    def test_ctrl_c_while_a_pipe_is_waited_for_ends_it_and_sends_nothing(self):
        options = ["chat", "-m", DEMO, "-n", "8", "--temp", "0"]
        answer = self.check_done(run(*options, stdin=b"What is a river?\n")).out
        for half in (b"", b"half a line", b"half a message\\\n", b'"""half\na'):
            p = subprocess.Popen([PROGRAM, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            p.stdin.write(b"What is a river?\n" + half)
            p.stdin.flush()
            self.assertEqual(p.stdout.read(len(answer)), answer.encode())
            wait_until_asleep(p.pid)  # behind the answer there is nothing else to wait for
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.wait(PATIENCE), 130)
            self.assertEqual(p.communicate(), (b"", b""))

    def test_an_input_that_cannot_be_read_is_an_error(self):
        folder = os.open(self.folder, os.O_RDONLY)
        p = subprocess.run([PROGRAM, "chat", "-m", DEMO], stdin=folder, capture_output=True, timeout=PATIENCE)
        os.close(folder)
        self.check_error(Result(p.returncode, p.stdout.decode(), p.stderr.decode()), 1, "standard input", "Is a directory")

    def test_a_message_without_an_answer_is_told_to_scripts_by_the_status(self):
        options = ["chat", "-m", DEMO, "-c", "64", "-n", "8", "--temp", "0"]
        answer = self.check_done(run(*options, stdin=b"What is a river?\n")).out
        for bad in (b"the " * 100, b"zero\0"):
            result = run(*options, stdin=bad + b"\nWhat is a river?\n/exit\n")
            self.assertEqual((result.status, result.out), (1, answer))
            self.assertRegex(result.err, r"\Aodmoe: [^\n]+\n\Z")

    def test_a_person_has_seen_what_failed(self):
        terminal = self.chat("-c", "64")
        terminal.type("the " * 100 + "\n")
        terminal.wait_for("odmoe: ")
        terminal.type("/exit\n")
        self.assertEqual(terminal.end(), 0)

    def test_experts_that_cannot_be_read_fail_the_message(self):
        model = shutil.copy(DEMO, self.folder / "model.gguf")
        options = ["chat", "-m", model, "--ram", "9MiB", "-c", "256", "-n", "4", "--temp", "0"]
        answer = self.check_done(run(*options, stdin=b"What is a river?\n")).out
        p = subprocess.Popen([PROGRAM, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdin.write(b"What is a river?\n")
        p.stdin.flush()
        self.assertEqual(p.stdout.read(len(answer)), answer.encode())
        os.truncate(model, 3000000)
        err = p.communicate(b"Tell me about Moses and the children of Israel.\n", timeout=PATIENCE)[1].decode()
        self.assertEqual(p.returncode, 1, err)
        self.assertRegex(err, r"\Aodmoe: [^\n]+\n\Z")

    def test_reset_forgets_random_numbers_and_repeated_tokens_too(self):
        for sampling in (["--temp", "1", "--seed", "7"], ["--temp", "0", "--repeat-penalty", "1.8"]):
            options = ["chat", "-m", DEMO, "-n", "12", *sampling]
            one = self.check_done(run(*options, stdin=b"What is a river?\n")).out
            again = self.check_done(run(*options, stdin=b"What is a river?\n/reset\nWhat is a river?\n")).out
            self.assertEqual(again, one + one)

    def test_line_ends_from_windows_are_line_ends(self):
        options = ["chat", "-m", DEMO, "-n", "8", "--temp", "0"]
        messages = b'What is\\\na river?\n/reset\n"""\nWhat is\na lake?\n"""\n/exit\nnever read\n'
        out = self.check_done(run(*options, stdin=messages)).out
        self.assertEqual(self.check_done(run(*options, stdin=messages.replace(b"\n", b"\r\n"))).out, out)

    def test_a_question_is_put_into_the_template(self):
        o = self.check_done(run("run", "-m", DEMO, "--chat", "-p", "What is a river?", "-n", "4", "--json")).json()
        plain = len(run("tokenize", "-m", DEMO, "What is a river?").out.split())
        self.assertGreater(o["prompt_tokens"], plain + 3)


if __name__ == "__main__":
    unittest.main()
