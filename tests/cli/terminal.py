"""What a person at a terminal sees: progress, the summary, a hint and Ctrl-C; and what the shell completes."""
import subprocess
import unittest

from odmoe_cli import DEMO, PLAIN, PROGRAM, SOURCE, CliTest, ShellTerminal, run


def last_line(shown):
    return shown.replace("\r\n", "\n").rstrip("\n").split("\n")[-1]


class Run(CliTest):
    def test_scripts_get_the_text_and_nothing_else(self):
        result = self.check_done(run("run", "-m", DEMO, "-p", "In the beginning", "-n", "4"))
        self.assertEqual(result.err, "")

    def test_the_summary_begins_a_line_where_the_text_is_shown_too(self):
        command = ["run", "-m", DEMO, "-p", "And God said, Let there be", "-n", "4", "--temp", "0", "--ignore-eos"]
        text = self.check_done(run(*command)).out
        for script, shown in (('"$@"', text + "\n"), ('"$@" > file', "")):
            terminal = ShellTerminal(f"cd '{self.folder}'; " + script, *command)
            self.addCleanup(terminal.kill)
            self.assertEqual(terminal.end(), 0)
            before = terminal.shown.replace("\r\n", "\n").split("4 tokens at ")[0]
            self.assertEqual(before.split("\x1b[K")[-1], shown, script)

    def test_the_summary_is_one_line_that_says_what_it_cost(self):
        err = self.check_done(run("run", "-m", DEMO, "-p", "In the beginning", "-n", "4", "--ignore-eos", "-v")).err
        summary = err.split("\n")[0]
        for part in ("4 tokens at ", " tok/s", "budget ", " weights, ", " expert cache", "% of experts were in the cache",
                     "% of the time waiting for the disk"):
            self.assertIn(part, summary)

    def test_a_small_budget_gets_one_hint_that_works(self):
        options = ["-m", DEMO, "-c", "64", "-p", "In the beginning", "-n", "4", "--ignore-eos", "-v"]
        floor = run("plan", "-m", DEMO, "-c", "64", "--json").json()["floor_bytes"]
        lines = self.check_done(run("run", *options, "--ram", floor)).err.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn("hint: --ram ", lines[1])
        better = lines[1].split("--ram ")[1].split()[0]
        self.assertNotIn("hint", self.check_done(run("run", *options, "--ram", better)).err)

    def test_the_hint_to_hold_every_expert_holds_every_one(self):
        info = run("inspect", DEMO, "--json").json()
        for context, ram in (("256", "10MiB"), ("1000", "24MiB"), ("256", "30MiB")):
            options = ["-m", DEMO, "-c", context]
            err = self.check_done(run("run", *options, "--ram", ram, "-p", "In the beginning", "-n", "8", "--ignore-eos", "-v")).err
            self.assertIn("would hold every expert", err)
            better = err.split("hint: --ram ")[1].split()[0]
            o = self.check_done(run("plan", *options, "--ram", better, "--json")).json()
            self.assertEqual(o["cache_experts"], info["moe_layers"] * info["experts"])

    def test_a_terminal_shows_the_summary_after_the_text(self):
        terminal = self.terminal("run", "-m", DEMO, "-p", "In the beginning", "-n", "4", "--ignore-eos", "--ram", "1GiB")
        self.assertEqual(terminal.end(), 0)
        self.assertIn("4 tokens at ", last_line(terminal.shown))

    def test_a_budget_beyond_the_machine_is_warned_of(self):
        for command in (["run", "-p", "a", "-n", "1"], ["bench", "-p", "4", "-n", "1"]):
            terminal = self.terminal(command[0], "-m", DEMO, "--ram", "1000T", *command[1:])
            self.assertEqual(terminal.end(), 0)
            self.assertEqual(terminal.shown.count("warning: a budget of 1000 TiB"), 1)
            self.assertEqual(self.check_done(run(command[0], "-m", DEMO, "--ram", "1000T", *command[1:])).err, "")
        chat = self.terminal("chat", "-m", DEMO, "--ram", "1000T")
        chat.wait_for("warning: a budget of 1000 TiB")
        self.assertIn("warning: a budget of 1000 TiB", run("plan", "-m", DEMO, "--ram", "1000T").out)
        for ram in (["--ram", "16MiB"], []):
            self.assertNotIn("warning", run("plan", "-m", DEMO, *ram).out)

    def test_ctrl_c_ends_the_text_with_the_summary(self):
        terminal = self.terminal("run", "-m", DEMO, "-p", "In the beginning", "--ignore-eos", "--ram", "1GiB", "--kernels", "ref")
        terminal.wait_for(r"\x1b\[K[\w ,]{20}")  # behind the last progress line
        terminal.type("\x03")
        self.assertEqual(terminal.end(), 0)
        self.assertIn("stopped", terminal.shown)
        self.assertIn(" tokens at ", last_line(terminal.shown))


class Completion(CliTest):
    def complete(self, *words):
        script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _odmoe; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        p = subprocess.run(["bash", "-c", script, "bash", SOURCE / "cli" / "completion" / "odmoe.bash", PROGRAM, *words],
                           capture_output=True, text=True, cwd=self.folder, env=PLAIN, check=True)
        self.assertEqual(p.stderr, "")
        return p.stdout.split()

    def test_commands(self):
        self.assertEqual(self.complete("per"), ["perplexity"])
        self.assertLessEqual({"run", "chat", "--help", "--version"}, set(self.complete("")))

    def test_options_are_the_commands_own(self):
        self.assertLessEqual({"--ram", "--temp", "--stats", "--help"}, set(self.complete("run", "--")))
        self.assertEqual(self.complete("tokenize", "--"), ["--help", "--special"])

    def test_values(self):
        self.assertEqual(self.complete("run", "--kv", ""), ["f32", "f16", "q8_0"])
        self.assertEqual(self.complete("run", "--io", "=", "pr"), ["pread"])
        self.assertIn("lru", self.complete("run", "--policy", ""))
        self.assertIn("off", self.complete("run", "--prefetch", ""))
        self.assertEqual(self.complete("run", "--embeddings", ""), ["auto", "memory", "disk"])
        self.assertIn("ref", self.complete("run", "--kernels", ""))

    def test_models_are_folders_and_gguf_files(self):
        (self.folder / "a.gguf").touch()
        (self.folder / "a.txt").touch()
        (self.folder / "afolder").mkdir()
        self.assertEqual(sorted(self.complete("inspect", "a")), ["a.gguf", "afolder"])
        self.assertEqual(sorted(self.complete("run", "-m", "a")), ["a.gguf", "afolder"])


if __name__ == "__main__":
    unittest.main()
