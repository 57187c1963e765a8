"""Conversations: at a terminal and through a pipe."""
import os
import unittest
from unittest import mock

from odmoe_cli import DEMO, CliTest, run


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

    def test_a_question_is_put_into_the_template(self):
        o = self.check_done(run("run", "-m", DEMO, "--chat", "-p", "What is a river?", "-n", "4", "--json")).json()
        plain = len(run("tokenize", "-m", DEMO, "What is a river?").out.split())
        self.assertGreater(o["prompt_tokens"], plain + 3)


if __name__ == "__main__":
    unittest.main()
