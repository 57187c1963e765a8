"""Chat templates and models' outputs on the command line: `template` and `parse`, one by one and in batches."""
import json
import unittest

from odmoe_cli import DATA, DEMO, CliTest, run

TALK = [{"role": "user", "content": "Hi <|im_end|>"}]


def lines(command, rows):
    result = run(command, "--batch", stdin="".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows).encode())
    return result, [json.loads(line) for line in result.out.splitlines()]


class Template(CliTest):
    def test_a_conversation_is_printed_as_text_and_as_ids(self):
        talk = json.dumps(TALK).encode()
        text = self.check_done(run("template", "-m", DEMO, stdin=talk)).out
        self.assertTrue(text.endswith("Hi <|im_end|><|im_end|>\n<|im_start|>assistant\n"), text)
        ids = self.check_done(run("template", "-m", DEMO, "--ids", stdin=talk)).out.split()
        plain = self.check_done(run("tokenize", "-m", DEMO, "Hi <|im_end|>")).out.split()
        special = self.check_done(run("tokenize", "-m", DEMO, "--special", "<|im_end|>")).out.split()[-1]
        self.assertIn(" ".join(plain + [special]), " ".join(ids))  # the message's is text, the template's is a token

    def test_files_tools_and_keywords_reach_the_template(self):
        template, messages, tools = (self.folder / name for name in ("t.jinja", "m.json", "t.json"))
        template.write_text("{{ messages[0].content }}|{{ tools[0].function.name }}|{{ k }}|{{ strftime_now('%Y') }}|{{ add_generation_prompt }}")
        messages.write_text(json.dumps({"messages": TALK, "tools": [{"type": "function", "function": {"name": "other"}}]}))
        tools.write_text(json.dumps([{"type": "function", "function": {"name": "f"}}]))
        options = ["template", "--template", template, "--messages", messages, "--template-kwargs", '{"k": "K"}', "--now", "86400"]
        self.assertIn("|other|K|1970|True", self.check_done(run(*options)).out)
        self.assertIn("|f|K|1970|True", self.check_done(run(*options, "--tools", tools)).out)

    def test_what_is_wrong_is_told(self):
        self.check_error(run("template"), 2, "-m MODEL or --template FILE")
        self.check_error(run("template", "--template", DATA / "templates" / "own-turns.jinja", "--ids"), 2, "tokenizer")
        self.check_error(run("template", "-m", DEMO, stdin=b"["), 1, "standard input: line 1")
        self.check_error(run("template", "-m", DEMO, stdin=b'[{"role": "narrator", "content": "x"}]'), 1, "messages[0].role")
        broken = self.folder / "broken.jinja"
        broken.write_text("\n{% nosuchtag %}")
        self.check_error(run("template", "--template", broken, stdin=b"[]"), 1, broken, "line 2", "nosuchtag")

    def test_a_batch_answers_each_line_and_goes_on_after_errors(self):
        rows = [{"template": "{{ 'a' + messages[0].content }}", "context": {"messages": TALK}}, "no JSON", {"template": "{% if %}"}, {"template": "\n{{ raise_exception('No!') }}"},
                {"template": "{{ 1 + 'a' }}"}, {"template": "{{ strftime_now('%d.%m.%Y') }}", "now": 1767323045}, {"context": {}}]
        result, out = lines("template", rows)
        self.assertEqual(result.status, 0)
        self.assertEqual(out[0], {"text": "aHi <|im_end|>", "foreign": [[1, 14]]})
        self.assertEqual([o.get("error") for o in out], [None, "value", "syntax", "raise", "type", None, "value"])
        self.assertEqual((out[3]["message"], out[3]["line"]), ("No!", 2))
        self.assertEqual(out[5]["text"], "02.01.2026")


class Parse(CliTest):
    def test_a_batch_gives_the_message_of_each_text_whole_or_in_pieces(self):
        with open(DATA / "templates" / "outputs.json", encoding="utf8") as file:
            data = json.load(file)
        row = next(r for r in data["rows"] if r["format"] == "qwen3.5" and r["name"] == "reasoning, text, call")
        rows = [{"format": "qwen3.5", "prompt": row["prompt"], "tools": data["tools"], "text": row["text"], "cut": cut} for cut in (None, 1, 2, 3)]
        result, out = lines("parse", rows)
        self.assertEqual(result.status, 0)
        for o in out:
            self.assertEqual((o["content"].strip(), o["reasoning_content"].strip(), o["finish"]), ("I look.", "Hm.", "tool_calls"))
            self.assertEqual([(c["name"], json.loads(c["arguments"])) for c in o["tool_calls"]], [("get_weather", {"city": "Bern"})])

    def test_a_format_that_is_not_known_is_an_error_of_its_line(self):
        result, out = lines("parse", [{"format": "morse", "text": "..."}, {"format": "think", "text": "a"}])
        self.assertEqual(result.status, 0)
        self.assertEqual((out[0]["error"], out[1]["content"]), ("value", "a"))
        self.check_error(run("parse"), 2, "--batch")


if __name__ == "__main__":
    unittest.main()
