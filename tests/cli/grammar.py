"""Answers held to a grammar, and the command that shows and checks grammars."""
import json
import os
import unittest

from json_schema import valid
from odmoe_cli import DATA, DEMO, CliTest, run

SCHEMAS = json.loads((DATA / "grammar" / "schemas.json").read_text())


class Generation(CliTest):
    def generate(self, schema, seed, limit=300):
        path = self.folder / "schema.json"
        path.write_text(json.dumps(schema))
        r = self.check_done(run("run", "-m", DEMO, "--ram", "64MiB", "-p", "In the beginning", "-n", limit, "--temp", 1,
                                "--top-k", 0, "--top-p", 1, "--min-p", 0, "--seed", seed, "--json-schema", path, "--json"))
        o = r.json()
        return o["text"], o["gen_tokens"] < limit

    def test_every_answer_that_ends_is_valid(self):
        """One seed a schema; ODMOE_SEEDS=20 takes as many, which is some minutes."""
        seeds, ended = int(os.environ.get("ODMOE_SEEDS", 1)), 0
        for seed in range(seeds):
            for i, case in enumerate(SCHEMAS):
                text, end = self.generate(case["schema"], i + 1000 * seed)
                if end:
                    self.assertTrue(valid(json.loads(text), case["schema"]), (case["schema"], text))
                ended += end
        self.assertGreater(ended, 40 * seeds)

    def test_what_the_limit_cuts_is_the_beginning_of_an_answer(self):
        text, end = self.generate({"type": "array", "items": {"const": "word"}, "minItems": 100}, 1, 50)
        self.assertFalse(end)
        self.assertRegex(text, r'\A\[ ?("word" ?, ?)+("[word]*"? ?)?\Z')

    def test_the_answer_ends_where_the_grammar_does(self):
        path = self.folder / "g.gbnf"
        path.write_text('root ::= "done" [.!]\n')
        r = self.check_done(run("run", "-m", DEMO, "--ram", "64MiB", "-p", "x", "--grammar", path, "--json"))
        self.assertRegex(r.json()["text"], r"\Adone[.!]\Z")
        self.assertLess(r.json()["gen_tokens"], 8)

    def test_in_a_chat_the_grammar_begins_behind_the_thinking(self):
        template, path = self.folder / "t.jinja", self.folder / "g.gbnf"
        path.write_text('root ::= "x"')
        ask = ("run", "-m", DEMO, "--ram", "64MiB", "-p", "Why?", "--chat", "--template", template, "--grammar", path, "-n", 20, "--json")
        template.write_text("{{ messages[0].content }}<think></think>\n")
        self.assertEqual(self.check_done(run(*ask)).json()["text"], "x")
        template.write_text("{{ messages[0].content }}</think><think>\n")
        r = self.check_done(run(*ask, "--show-reasoning")).json()
        self.assertEqual(r["text"], "")
        self.assertGreater(len(r["reasoning"]), 9)

    def test_the_same_answer_with_every_budget(self):
        path = self.folder / "s.json"
        path.write_text(json.dumps(SCHEMAS[36]["schema"]))
        texts = {self.check_done(run("run", "-m", DEMO, "--ram", ram, "-p", "A ship", "--json-schema", path, "-n", 60)).out
                 for ram in ("14MiB", "30MiB", "200MiB")}
        self.assertEqual(len(texts), 1)

    def test_what_is_wrong_is_said_before_the_model_is_opened(self):
        path = self.folder / "bad"
        path.write_text('{"type": "object", "properties": {"a": {"multipleOf": 3}}}')
        self.check_error(run("run", "-m", DEMO, "-p", "x", "--json-schema", path), 1, path, "properties.a.multipleOf")
        self.check_error(run("run", "-m", DEMO, "-p", "x", "--grammar", path), 1, path, "line 1, column 1")
        self.check_error(run("run", "-m", DEMO, "-p", "x", "--grammar", "missing.gbnf"), 1, "missing.gbnf")
        self.check_error(run("run", "-m", DEMO, "-p", "x", "--grammar", path, "--json-schema", path), 2, "--json-schema")
        self.check_error(run("run", "-m", DEMO, "-p", "x", "--grammar", path, "--ignore-eos"), 2, "--ignore-eos")

    def test_the_grammar_is_part_of_the_budget(self):
        path = self.folder / "g.gbnf"
        path.write_text('root ::= "a"')
        r = run("run", "-m", DEMO, "-p", "x", "--ram", "12MiB", "--grammar", path)
        self.check_error(r, 3, "too small", "--ram 14MiB")


class Command(CliTest):
    def test_a_printed_grammar_is_a_grammar(self):
        path, again = self.folder / "s.json", self.folder / "g.gbnf"
        path.write_text('{"type": "array", "items": {"enum": ["a", "\u00e9"]}}')
        printed = self.check_done(run("grammar", "--schema", path)).out
        self.assertTrue(printed.startswith("root ::= "), printed)
        again.write_text(printed)
        text = self.folder / "text"
        text.write_text('["a", "\u00e9"]\n')
        self.assertEqual(self.check_done(run("grammar", "--gbnf", again, "--check", text)).out, "accepted\n")

    def test_check_says_from_which_byte_on_a_text_is_not_accepted(self):
        grammar, text = self.folder / "g.gbnf", self.folder / "text"
        grammar.write_text('root ::= "yes" | "no"')
        text.write_text("yet")
        self.check_error(run("grammar", "--gbnf", grammar, "--check", text), 1, text, "byte 2")
        text.write_text("ye")
        self.check_error(run("grammar", "--gbnf", grammar, "--check", text), 1, text, "more is wanted")

    def test_tokens_need_a_model(self):
        grammar = self.folder / "g.gbnf"
        grammar.write_text('root ::= "a" <|im_end|>')
        self.check_error(run("grammar", "--gbnf", grammar), 1, "line 1, column 14")
        self.check_error(run("grammar"), 2, "--schema")
        self.check_error(run("grammar", "--batch", "--gbnf", grammar), 2, "--batch")

    def test_a_batch_answers_every_line(self):
        lines = [{"schema": {"type": "integer", "maximum": 9}, "text": "7"}, {"schema": {"type": "integer", "maximum": 9}, "text": "70"},
                 {"schema": {"properties": {"p": {"not": {}}}}, "text": ""}, {"gbnf": 'root ::= "a"+', "text": "aab"},
                 {"gbnf": "root ::=\n x", "text": ""}, {"gbnf": 'root ::= "\\x00"', "text": "\0"}, {"text": ""}]
        stdin = "".join(json.dumps(x) + "\n" for x in lines) + "{\n"
        r = self.check_done(run("grammar", "--batch", stdin=stdin.encode()))
        got = [json.loads(x) for x in r.out.splitlines()]
        self.assertEqual(got[0], {"accepted": True})
        self.assertEqual(got[1], {"accepted": False, "at": 1})
        self.assertEqual(got[2]["param"], "properties.p.not")
        self.assertEqual(got[3], {"accepted": False, "at": 2})
        self.assertEqual(got[4]["param"], "line 2, column 2")
        self.assertEqual(got[5], {"accepted": True})
        self.assertEqual([sorted(x) for x in got[6:]], [["error", "param"]] * 2)


if __name__ == "__main__":
    unittest.main()
