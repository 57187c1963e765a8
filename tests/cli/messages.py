"""What people are told when something is wrong: one line, the right exit status, and what to do."""
import json
import pathlib
import re
import shutil
import struct
import unittest

from odmoe_cli import DATA, DEMO, CliTest, run, write_gguf

COMMANDS = re.findall(r"^  ([a-z-]+)  ", run("--help").out, re.M)


class Usage(CliTest):
    def test_without_a_command_it_points_to_help(self):
        self.check_error(run(), 2, "--help")

    def test_an_unknown_command_is_named(self):
        self.check_error(run("frobnicate"), 2, "frobnicate", "--help")

    def test_text_from_elsewhere_cannot_break_the_line_or_steer_the_terminal(self):
        self.check_error(run("frob\nni\x1b[31mcate"), 2, "frob?ni?[31mcate: no such command")
        self.check_error(run("run", "--fo\ro"), 2, "--fo?o: no such option")
        self.check_error(run("inspect", "/no\nwhere\u009b2J\x7f é"), 1, "/no?where??2J? é")
        ids = self.folder / "ids"
        ids.write_text("1 2 three\nfour\x07")
        self.check_error(run("logits", "-m", DEMO, "--tokens-file", ids, "--out", "x"), 1, "'three?four?'")

    def test_help_lists_every_command(self):
        self.assertEqual(len(COMMANDS), 16, COMMANDS)

    def test_every_command_has_help_with_an_example_of_itself(self):
        for command in COMMANDS:
            result = self.check_done(run(command, "--help"))
            self.assertRegex(" ".join(result.out.split()), f"Example: .*odmoe {command} ")
            self.assertEqual(result.err, "")

    def test_help_is_found_however_it_is_asked_for(self):
        for ask in (["-h"], ["-?"], ["help"]):
            self.assertEqual(self.check_done(run(*ask)).out, run("--help").out)
        for command in COMMANDS:
            wanted = run(command, "--help").out
            for ask in ([command, "-h"], [command, "-?"], ["help", command]):
                self.assertEqual(self.check_done(run(*ask)).out, wanted, ask)
        self.check_error(run("help", "frobnicate"), 2, "frobnicate", "no such command")

    def test_help_leaves_out_what_does_nothing(self):
        for command in ("run", "chat", "plan", "logits", "perplexity", "bench"):
            out = run(command, "--help").out
            self.assertEqual("--json" in out, command != "chat", command)
            self.assertEqual("--verbose" in out, command in ("run", "chat"), command)
            self.assertIn("--ram=SIZE", out)
        self.check_done(run("plan", "-m", DEMO, "-v"))

    def test_version_tells_what_this_build_can_do(self):
        out = self.check_done(run("--version")).out
        self.assertRegex(out, r"\Aodmoe \d+\.\d+\.\d+\n")
        self.assertRegex(out, r"\nkernels: .*\bref\b")
        self.assertRegex(out, r"\nio: .*\bpread\b")
        self.assertRegex(out, r"\npolicies: .*\blru\b")
        self.assertRegex(out, r"\nfamilies: .*\bqwen3_moe\b")

    def test_every_command_refuses_an_option_that_it_does_not_know(self):
        for command in COMMANDS:
            self.check_error(run(command, "--frobnicate"), 2, "--frobnicate")

    def test_an_unknown_option_is_named(self):
        for options in (["--foo"], ["-m", DEMO, "--foo"], ["--json", "--foo"]):
            self.check_error(run("run", *options), 2, "--foo: no such option", "odmoe run --help")
        self.check_error(run("plan", "-m", DEMO, "-Z"), 2, "-Z: no such option")

    def test_an_option_without_its_value_says_which(self):
        self.check_error(run("run", "-m"), 2, "-m needs a value (MODEL)")
        self.check_error(run("plan", "-m", DEMO, "--ram"), 2, "--ram needs a value (SIZE)")

    def test_a_value_where_none_belongs_is_refused(self):
        self.check_error(run("plan", "-m", DEMO, "--json=1"), 2, "--json=1", "no value")

    def test_a_command_without_a_model_asks_for_one(self):
        for command in ["run", "chat", "plan", "inspect", "bench"]:
            self.check_error(run(command), 2, "-m MODEL")

    def test_a_second_model_is_refused(self):
        self.check_error(run("plan", DEMO, "other.gguf"), 2, "other.gguf", DEMO)

    def test_numbers_say_their_range(self):
        self.check_error(run("run", "-m", DEMO, "-p", "a", "-n", "few"), 2, "-n few")
        self.check_error(run("run", "-m", DEMO, "-p", "a", "-t", "0"), 2, "-t 0", "from 1")
        self.check_error(run("run", "-m", DEMO, "-p", "a", "-t", "257"), 2, "-t 257", "1 to 256")
        self.check_error(run("run", "-m", DEMO, "-p", "a", "--temp", "-1"), 2, "--temp -1")
        self.check_error(run("run", "-m", DEMO, "-p", "a", "--top-p", "nan"), 2, "--top-p nan")

    def test_sizes_say_how_to_write_them(self):
        self.check_error(run("plan", "-m", DEMO, "--ram", "4GB"), 2, "--ram", "4GB", "4GiB")
        self.check_error(run("plan", "-m", DEMO, "--ram", "0"), 2, "--ram 0")

    def test_unknown_names_of_kernels_io_kv_policy_prefetch_and_embeddings_are_usage_errors(self):
        for option in ("--kernels", "--io", "--kv", "--policy", "--prefetch", "--ahead", "--embeddings"):
            self.check_error(run("run", "-m", DEMO, "-p", "a", option, "best"), 2, "best")

    def test_commands_ask_for_what_they_need(self):
        self.check_error(run("run", "-m", DEMO, "-p", "a", "-f", "b"), 2, "-p", "-f")
        self.check_error(run("tokenize", "-m", DEMO), 2, "TEXT", "-f")
        self.check_error(run("tokenize", "-m", DEMO, "a", "b"), 2, "quotes")
        self.check_error(run("logits", "-m", DEMO, "--out", "x"), 2, "--tokens")
        self.check_error(run("logits", "-m", DEMO, "--tokens", "1"), 2, "--out")
        self.check_error(run("logits", "-m", DEMO, "--tokens", "1,x", "--out", "y"), 2, "'x'")
        for again in (["--tokens", "2"], ["--tokens-file", __file__]):
            self.check_error(run("logits", "-m", DEMO, "--tokens", "1", *again, "--out", "y"), 2, "twice")
        trace = DATA / "traces" / "olmoe_1b7b_299tok.jsonl"
        self.check_error(run("replay", trace, "--ram", "0"), 2, "--ram 0")
        self.check_error(run("replay", trace), 2, "--ram SIZE")
        self.check_error(run("perplexity", "-m", DEMO), 2, "-f FILE")
        self.check_error(run("bench", "-m", DEMO, "-p", "0", "-n", "0"), 2, "nothing")
        self.check_error(run("bench", "-m", DEMO, "-p", "40", "-n", "4", "-c", "43"), 2, "-c 43", "44")
        self.check_done(run("bench", "-m", DEMO, "-p", "4", "-n", "4", "-c", "8"))
        self.check_error(run("chat", "-m", DEMO, "--json"), 2, "--json")


class Models(CliTest):
    """Every command that opens a model fails alike, so inspect, plan and run stand for all."""

    def check_model(self, path, *words, status=1):
        self.check_error(run("inspect", path), status, *words)
        self.check_error(run("plan", "-m", path), status, *words)
        self.check_error(run("run", "-m", path, "-p", "a"), status, *words)

    def test_a_missing_file_is_named(self):
        self.check_model("/nowhere/model.gguf", "/nowhere/model.gguf", "No such file")

    def test_a_path_of_any_length_leaves_room_for_the_reason(self):
        path = "/".join(["d" * 200] * 15) + "/none.gguf"
        for command in (["inspect", path], ["tokenize", "-m", path, "a"], ["run", "-m", path, "-p", "a"], ["replay", path, "--ram", "1MiB"],
                        ["logits", "-m", DEMO, "--tokens", "1", "--out", path]):
            self.check_error(run(*command), 1, path[-200:], "No such file or directory")

    def test_a_folder_without_a_config_says_what_belongs_there(self):
        self.check_model(self.folder, self.folder, "config.json")

    def test_a_file_of_another_kind_is_no_model(self):
        text = self.folder / "notes.gguf"
        text.write_text("these are not the bytes you are looking for\n")
        self.check_model(text, text, "GGUF")

    def test_an_empty_file_is_no_model(self):
        empty = self.folder / "empty.gguf"
        empty.touch()
        self.check_model(empty, empty, "is empty")
        self.check_model("", "-m ''", status=2)

    def test_what_git_leaves_of_a_large_file_is_named(self):
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
        file = self.folder / "model.gguf"
        file.write_text(pointer)
        self.check_model(file, file, "Git LFS pointer", "git lfs pull")
        folder = self.folder / "model"
        folder.mkdir()
        shutil.copy(DATA / "models" / "qwen3_moe_f16" / "config.json", folder)
        (folder / "model.safetensors").write_text(pointer)
        self.check_model(folder, folder / "model.safetensors", "Git LFS pointer")

    def test_a_file_of_a_folder_leads_to_the_folder(self):
        for name in ("config.json", "model.safetensors"):
            file = self.folder / name
            file.write_text("{ }         ")
            self.check_model(file, file, "give the folder")

    def test_a_folder_that_holds_the_model_leads_to_it(self):
        one = self.folder / "one"
        one.mkdir()
        for name in ("model-00002-of-00002.gguf", "model-00001-of-00002.gguf", "README.md"):
            (one / name).touch()
        self.check_model(one, f"give {one}/model-00001-of-00002.gguf")
        (one / "other.gguf").touch()
        self.check_model(one, "give a .gguf file")
        cache = self.folder / "models--a--b"
        (cache / "snapshots" / "4d7a").mkdir(parents=True)
        self.check_model(cache, f"give {cache}/snapshots/4d7a")

    def test_a_dense_folder_is_told_to_use_another_program(self):
        (self.folder / "config.json").write_text(json.dumps({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 64}))
        (self.folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
        self.check_model(self.folder, "experts")

    def test_a_dense_gguf_is_told_to_use_another_program(self):
        dense = self.folder / "dense.gguf"
        write_gguf(dense, {"general.architecture": "llama", "llama.block_count": 2, "llama.context_length": 64,
                           "llama.embedding_length": 64, "llama.feed_forward_length": 128,
                           "llama.attention.head_count": 4})
        self.check_model(dense, dense, "dense")

    def test_an_unknown_family_lists_the_known_ones(self):
        other = self.folder / "other.gguf"
        write_gguf(other, {"general.architecture": "weirdmoe", "weirdmoe.block_count": 2, "weirdmoe.expert_count": 8})
        self.check_model(other, "weirdmoe", "olmoe", "qwen3moe")

    def test_a_truncated_download_is_recognised_wherever_it_ends(self):
        whole = pathlib.Path(DEMO).read_bytes()
        cut = self.folder / "cut.gguf"
        for length in (3, 20, 100, 1000, 100_000, len(whole) // 2, len(whole) - 1):
            cut.write_bytes(whole[:length])
            self.check_error(run("run", "-m", cut, "-p", "a"), 1, cut, "cut off")

    def test_a_missing_shard_is_named(self):
        shards = self.folder / "model"
        shutil.copytree(DATA / "models" / "qwen3_moe", shards)
        (shards / "model-00003-of-00007.safetensors").unlink()
        self.check_model(shards, "model-00003-of-00007.safetensors")


class Budget(CliTest):
    def test_too_small_a_budget_ends_with_3_and_the_figure_that_would_do(self):
        floor = run("plan", "-m", DEMO, "-c", "64", "--json").json()["floor_bytes"]
        for command in (["plan"], ["run", "-p", "a", "-n", "1"]):
            result = run(command[0], "-m", DEMO, "-c", "64", "--ram", "1MiB", *command[1:])
            self.check_error(result, 3, "1 MiB", "--ram")
        self.check_done(run("run", "-m", DEMO, "-c", "64", "--ram", floor, "-p", "a", "-n", "1"))
        self.assertEqual(run("run", "-m", DEMO, "-c", "64", "--ram", floor - 1, "-p", "a", "-n", "1").status, 3)

    def test_the_figure_in_the_message_can_be_pasted_and_works(self):
        err = run("run", "-m", DEMO, "-c", "64", "--ram", "1MiB", "-p", "a").err
        figure = err.split("--ram ")[1].split()[0].rstrip(".,;)")
        self.check_done(run("run", "-m", DEMO, "-c", "64", "--ram", figure, "-p", "a", "-n", "1"))

    def test_plan_prints_its_object_even_when_it_does_not_fit(self):
        result = run("plan", "-m", DEMO, "--ram", "1MiB", "--json")
        self.assertEqual(result.status, 3)
        self.assertFalse(result.json()["fits"])
        self.assertGreater(result.json()["floor_bytes"], 1 << 20)


class Inputs(CliTest):
    def test_a_prompt_longer_than_the_context_says_which_c_would_do(self):
        result = run("run", "-m", DEMO, "-c", "8", "-p", "one two three four five six seven eight nine ten")
        self.check_error(result, 1, "has room for 8", "-c ")

    def test_a_prompt_longer_than_the_models_context_says_the_most_it_takes(self):
        prompt = self.folder / "prompt"
        for words in (1500, 1900):
            prompt.write_text("the " * words)
            result = run("run", "-m", DEMO, "-c", "8", "-f", prompt)
            self.check_error(result, 1, "has room for 8", "-c ")
            figure = result.err.split("-c ")[1].split()[0]
            self.assertLessEqual(int(figure), 2048)
            self.check_done(run("run", "-m", DEMO, "-c", figure, "-f", prompt, "-n", "1"))
        prompt.write_text("the " * 3000)
        result = run("run", "-m", DEMO, "-f", prompt)
        self.check_error(result, 1, "at most 2048")
        self.assertNotIn("-c ", result.err)

    def test_chat_advises_reset_only_where_it_helps(self):
        system = ["chat", "-m", DEMO, "-n", "4", "--temp", "0", "--system"]
        self.check_error(run(*system, "the " * 100, "-c", "64", stdin=b"Hello\n"), 1, "the system message", "-c ")
        self.check_error(run(*system, "the " * 3000, stdin=b"Hello\n"), 1, "the system message", "at most 2048")
        err = run(*system, "the", "-c", "64", stdin=b"the " * 100 + b"\n").err
        self.assertIn("the message has", err)
        self.assertNotIn("/reset", err)
        err = run(*system, "the", "-c", "64", stdin=b"Hello\n" + b"the " * 100 + b"\n").err
        self.assertIn("/reset", err)

    def test_a_model_without_a_tokenizer_is_named(self):
        model = DATA / "models" / "qwen3_moe"
        self.check_error(run("run", "-m", model, "-p", "a"), 1, model, "no tokenizer")
        self.check_error(run("chat", "-m", model), 1, model, "no tokenizer")

    def test_a_tokenizer_that_is_not_known_stops_only_what_needs_it(self):
        for name, reason in ("none", "none"), ("pre-nosuch", "nosuch"):
            model = DATA / "tokenizers" / "reported" / f"gguf-tokenizer-blocks-all-{name}.gguf"
            self.check_done(run("inspect", model))
            self.check_done(run("plan", "-m", model))
            self.check_done(run("bench", "-m", model, "-p", "4", "-n", "2"))
            self.check_done(run("logits", "-m", model, "--tokens", "1,2", "--out", self.folder / "out"))
            for command in ["run", "-p", "a"], ["chat"], ["perplexity", "-c", "32", "-f", __file__], ["tokenize", "a"]:
                self.check_error(run(command[0], "-m", model, *command[1:]), 1, model, reason)

    def test_a_tokenizer_of_another_model_is_told_so(self):
        shutil.copytree(DATA / "models" / "qwen3_moe", self.folder / "model")
        shutil.copy(DATA / "demo-hf" / "tokenizer.json", self.folder / "model")
        self.check_error(run("run", "-m", self.folder / "model", "-p", "righteousness and wilderness"), 1,
                         self.folder / "model", "512 rows")

    def test_a_folder_with_a_tokenizer_of_another_kind_is_told_so(self):
        shutil.copytree(DATA / "models" / "qwen3_moe", self.folder / "model")
        (self.folder / "model" / "tokenizer.model").write_bytes(b"\n\x05")
        self.check_error(run("run", "-m", self.folder / "model", "-p", "a"), 1, "no tokenizer.json", "tokenizer.model")

    def test_a_question_with_a_nul_is_refused(self):
        file = self.folder / "question"
        file.write_bytes(b"What is a river\0 and what a lake?")
        self.check_error(run("run", "-m", DEMO, "--chat", "-f", file, "-n", "1"), 1, file, "NUL")
        self.check_done(run("run", "-m", DEMO, "-f", file, "-n", "1"))

    def test_an_empty_prompt_is_an_error(self):
        self.check_error(run("run", "-m", DEMO, "-p", ""), 1, "empty")

    def test_a_missing_prompt_file_is_named(self):
        self.check_error(run("run", "-m", DEMO, "-f", "/nowhere/prompt"), 1, "/nowhere/prompt")

    def test_a_context_beyond_the_models_is_refused(self):
        result = run("run", "-m", DEMO, "-c", "1000000", "-p", "a")
        self.assertIn(result.status, (1, 2))
        self.check_error(result, result.status, "2048")

    def test_token_ids_beyond_the_vocabulary_are_refused(self):
        out = self.folder / "x"
        self.check_error(run("logits", "-m", DEMO, "--tokens", "1,999999", "--out", out), 1, "999999")
        self.assertFalse(out.exists())
        self.check_error(run("detokenize", "-m", DEMO, "999999"), 1, "999999")

    def test_an_output_that_cannot_be_written_is_named(self):
        self.check_error(run("logits", "-m", DEMO, "--tokens", "1", "--out", "/nowhere/x"), 1, "/nowhere/x")
        for stats in ("/nowhere/stats", self.folder, self.folder / "none" / "stats"):  # before the model is loaded
            self.check_error(run("run", "-m", "/nowhere/model", "-p", "a", "--stats", stats), 1, stats, "cannot be written")
        self.check_error(run("run", "-m", "/nowhere/model", "-p", "a", "--stats", self.folder / "stats"), 1, "/nowhere/model")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_text_shorter_than_a_chunk_says_so(self):
        short = self.folder / "short.txt"
        short.write_text("a few words")
        self.check_error(run("perplexity", "-m", DEMO, "-f", short), 1, short, "-c")


if __name__ == "__main__":
    unittest.main()
