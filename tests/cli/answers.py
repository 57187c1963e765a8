"""Answers taken apart: reasoning, calls of tools, and what a conversation may take of the memory budget."""
import json
import os
import pathlib
import re
import subprocess
import unittest

from odmoe_cli import DEMO, PROGRAM, CliTest, run

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 8}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"], "additionalProperties": False}}}]


class Case(CliTest):
    def file(self, name, text):
        path = self.folder / name
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return path

    def thinking(self):
        """A template that opens the reasoning unless told not to."""
        return self.file("thinking.jinja", TURNS + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}")

    def plain(self):
        """One that shows tools, and has no reasoning."""
        return self.file("plain.jinja", "{{ tools | tojson if tools }}" + TURNS + "<think>\n\n</think>\n\n")


class Answers(Case):
    def ask(self, *options, n=20):
        return run("run", "-m", DEMO, "--ram", "24MiB", "--chat", "-p", "What is a river?", "-n", n, "--temp", "0", *options)

    def test_reasoning_is_kept_out_of_standard_output_unless_asked_for(self):
        template = self.thinking()
        hidden = self.check_done(self.ask("--template", template))
        self.assertEqual(hidden.out, "")
        shown = self.check_done(self.ask("--template", template, "--show-reasoning"))
        self.assertGreater(len(shown.out), 20)
        answer = self.check_done(self.ask("--template", template, "--reasoning", "off"))
        self.assertGreater(len(answer.out), 20)
        self.assertEqual(answer.out, self.check_done(self.ask("--template", template, "--template-kwargs", '{"enable_thinking": false}')).out)

    def test_json_has_reasoning_and_calls(self):
        r = self.check_done(self.ask("--template", self.thinking(), "--show-reasoning", "--json")).json()
        self.assertEqual(r["text"], "")
        self.assertGreater(len(r["reasoning"]), 20)

    def test_a_level_that_the_template_does_not_know_is_an_error(self):
        self.check_error(self.ask("--template", self.thinking(), "--reasoning", "low"), 1, "--reasoning low", "off on")
        self.check_error(self.ask("--reasoning", "on"), 1, "no keyword")

    def test_a_call_is_printed_as_a_line_of_json(self):
        tools = self.file("tools.json", TOOLS)
        for choice in ("required", "get_weather"):
            r = self.check_done(self.ask("--template", self.plain(), "--tools", tools, "--tool-choice", choice, "--seed", "3", n=200))
            lines = r.out.splitlines()
            if choice != "required":  # a named tool is called once
                self.assertEqual(len(lines), 1, r.out)
            for line in lines[:1]:
                call = json.loads(line)
                self.assertEqual(call["name"], "get_weather")
                self.assertEqual(call["arguments"].keys(), {"city", "unit"})
                self.assertIn(call["arguments"]["unit"], ("celsius", "fahrenheit"))
        r = self.check_done(self.ask("--template", self.plain(), "--tools", tools, "--tool-choice", "required", "--json", n=200)).json()
        self.assertEqual(r["tool_calls"][0]["name"], "get_weather")

    def test_with_a_grammar_calls_are_still_looked_for(self):
        grammar = self.file("g.gbnf", 'root ::= "Well:\\n<tool_call>\\n{\\"name\\": \\"get_weather\\", \\"arguments\\": {}}\\n</tool_call>"')
        r = self.check_done(self.ask("--template", self.plain(), "--tools", self.file("t.json", TOOLS), "--grammar", grammar, n=200))
        self.assertEqual(r.out, 'Well:\n{"name": "get_weather", "arguments": {}}\n')

    def test_tools_that_are_none_are_refused(self):
        self.check_error(self.ask("--tools", self.file("t.json", "{}")), 1, "t.json", "list")
        self.check_error(self.ask("--tools", self.file("t.json", "[")), 1, "t.json", "line 1")
        self.check_error(self.ask("--tools", self.file("t.json", TOOLS), "--tool-choice", "f"), 1, "no tool named f")
        self.check_error(self.ask("--tool-choice", "required"), 2, "--tools FILE")
        self.check_error(run("run", "-m", DEMO, "-p", "x", "--tools", self.file("t.json", TOOLS)), 2, "--chat")

    def test_ten_megabytes_of_messages_are_refused_within_the_budget(self):
        text = self.file("long.txt", "All work and no play. " * 480000)
        r = run("run", "-m", DEMO, "--ram", "32MiB", "--chat", "-f", text, "-n", "1")
        self.check_error(r, 1, "long.txt", "share of the memory budget", "--ram")
        p = subprocess.Popen([PROGRAM, "chat", "-m", DEMO, "--ram", "32MiB", "-n", "1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        try:  # 10 MB in messages, of which none fits in the context
            for _ in range(500):
                p.stdin.write(b"All work and no play. " * 950 + b"\n")
            p.stdin.close()
        except BrokenPipeError:
            pass
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        if b"__asan_init" not in pathlib.Path(PROGRAM).read_bytes():  # which takes memory of its own
            self.assertLess(usage.ru_maxrss << 10, 64 << 20)

    def test_what_conversations_may_take_is_part_of_the_budget(self):
        plain = run("run", "-m", DEMO, "--ram", "1MiB", "-p", "x")
        chat = run("run", "-m", DEMO, "--ram", "1MiB", "--chat", "-p", "x")
        other = [int(re.search(r"other (\d+)", r.err)[1]) for r in (plain, chat)]
        self.assertEqual(other[1] - other[0], 1)


class Terminals(Case):
    def test_reasoning_is_dimmed_and_the_answer_is_not(self):
        t = self.terminal("run", "-m", DEMO, "--chat", "-p", "What is a river?", "-n", "12", "--temp", "0", "--template", self.thinking())
        self.assertEqual(t.end(), 0)
        self.assertRegex(t.shown, "\x1b\\[2m[^\x1b]{10,}\x1b\\[22m")

    def test_in_a_chat_the_result_of_a_call_is_typed(self):
        t = self.terminal("chat", "-m", DEMO, "-n", "200", "--temp", "0", "--template", self.plain(), "--tools",
                          self.file("t.json", TOOLS), "--tool-choice", "required")
        t.wait_for_prompt()
        t.type("Is it warm in Rome?\n")
        t.wait_for('"name": "get_weather"[\\s\\S]*tok/s')
        t.wait_for("Type what the tool gives")
        t.type("/exit\n")
        self.assertEqual(t.end(), 0)


if __name__ == "__main__":
    unittest.main()
