"""What scripts rely on: names and values of the JSON objects, the files written, and the same text always."""
import json
import math
import subprocess
import unittest

from odmoe_cli import DATA, DEMO, PROGRAM, CliTest, read_safetensors, run

PROMPT = "In the beginning God created the heaven and the earth. And the"
STATS = set("""prompt_tokens prompt_chunks prompt_seconds prompt_tps prompt_bytes_read gen_tokens gen_seconds gen_tps
gen_bytes_read first_token_seconds bytes_read reads read_seconds stall_seconds compute_seconds expert_uses cache_hits
cache_misses ram_bytes peak_rss_bytes peak_anon_bytes io kernels kv policy threads ahead_bytes_read ahead_bytes_used embedding_hits
embedding_misses embedding_bytes_read""".split())


def half_of_the_experts():
    return run("inspect", DEMO, "--json").json()["experts_bytes"] // 2


class Objects(CliTest):
    def test_inspect_describes_the_demo_model(self):
        o = self.check_done(run("inspect", DEMO, "--json")).json()
        expected = {"format": "gguf", "family": "qwen3_moe", "layers": 6, "moe_layers": 6, "experts": 32, "top_k": 4,
                    "shared_experts": 0, "hidden": 256, "expert_ffn": 256, "vocab": 4096, "context": 2048}
        self.assertEqual({k: o[k] for k in expected}, expected)
        self.assertLessEqual(o["expert_bytes_min"], o["expert_bytes_max"])
        self.assertGreaterEqual(o["experts_bytes"], 6 * 32 * o["expert_bytes_min"])
        self.assertLess(o["resident_bytes"] + o["experts_bytes"], 24788352)
        self.assertGreater(o["resident_bytes"] + o["experts_bytes"], 24000000)

    def test_inspect_and_plan_say_what_is_left_out_of_memory(self):
        model = DATA / "families" / "glm4_moe"
        o = self.check_done(run("inspect", model, "--json")).json()
        self.assertEqual((o["layers"], o["prediction_layers"], o["embedding_bytes"]), (3, 1, 512 * 64 * 2))
        self.assertGreater(o["prediction_bytes"], 0)
        text = self.check_done(run("inspect", model)).out
        self.assertIn("64 KiB of it, the token embedding, may stay on the disk", text)
        self.assertIn("not used       1 layer for the prediction of more tokens", text)
        for family, lines in (("qwen3_5_moe", 2), ("gemma4", 1), ("kimi_k25", 1), ("glm4_moe_air", 0)):
            shown = [line for line in self.check_done(run("inspect", DATA / "families" / family)).out.splitlines() if line.startswith("not used")]
            self.assertEqual(len(shown), lines, f"{family}: {shown}")
            self.assertEqual(any("parts that see or hear" in line for line in shown), lines > 0)
        plans = {p: self.check_done(run("plan", "-m", model, "--ram", "64MiB", "-c", "64", "--embeddings", p, "--json")).json()
                 for p in ("auto", "memory", "disk")}
        self.assertEqual({p: plans[p]["embedding_bytes"] for p in plans}, {"auto": 0, "memory": 0, "disk": 512 * 64 * 2})
        self.assertLess(plans["auto"]["floor_bytes"], plans["memory"]["floor_bytes"])
        o = run("inspect", DATA / "models" / "olmoe_tied", "--json").json()  # its embedding is the output, too
        self.assertEqual((o["prediction_layers"], o["prediction_bytes"], o["embedding_bytes"]), (0, 0, 0))

    def test_bench_counts_rows_of_an_embedding_on_the_disk(self):
        for place, rows in (("disk", 10), ("memory", 0)):
            o = self.check_done(run("bench", "-m", DATA / "models" / "olmoe", "-p", "8", "-n", "2", "--embeddings", place, "--json")).json()
            self.assertLessEqual(o["embedding_misses"] + o["embedding_hits"], rows)
            self.assertEqual(o["embedding_bytes_read"], o["embedding_misses"] * 64 * 2)
            self.assertEqual(o["embedding_misses"] > 0, place == "disk")

    def test_inspect_shows_every_number_of_the_configuration(self):
        lines = self.check_done(run("inspect", DEMO, "--numbers")).out.splitlines()
        for line in ["number of layers: 6", "number of experts: 32", "experts of a token: 4", "hidden size: 256",
                     "renormalised expert weights: 1", "sliding window: 0"]:
            self.assertIn(line, lines)

    def test_plan_divides_the_whole_budget(self):
        o = self.check_done(run("plan", "-m", DEMO, "--ram", "20MiB", "-c", "256", "--json")).json()
        parts = ["resident_bytes", "kv_bytes", "activation_bytes", "other_bytes", "cache_bytes"]
        self.assertEqual(o["ram_bytes"], 20 << 20)
        self.assertLessEqual(sum(o[p] for p in parts), 20 << 20)
        self.assertGreater(sum(o[p] for p in parts), 19 << 20)
        self.assertTrue(o["fits"])
        self.assertGreater(o["cache_experts"], 0)
        self.assertGreater(o["token_working_set_bytes"], 0)

    def test_a_larger_context_takes_room_from_the_cache(self):
        small, large = (run("plan", "-m", DEMO, "--ram", "20MiB", "-c", c, "--json").json() for c in (256, 2048))
        self.assertLess(small["kv_bytes"], large["kv_bytes"])
        self.assertGreater(small["cache_bytes"], large["cache_bytes"])

    def test_bench_has_every_name_and_consistent_figures(self):
        o = self.check_done(run("bench", "-m", DEMO, "-p", "20", "-n", "5", "--ram", "24MiB", "--json")).json()
        self.assertLessEqual(STATS, set(o))
        self.assertEqual((o["prompt_tokens"], o["gen_tokens"]), (20, 5))
        self.assertEqual(o["expert_uses"], 25 * 6 * 4)
        self.assertEqual(o["bytes_read"], o["prompt_bytes_read"] + o["gen_bytes_read"])
        self.assertAlmostEqual(o["gen_tps"], 5 / o["gen_seconds"], delta=o["gen_tps"] * 1e-3)
        self.assertLess(o["peak_anon_bytes"], (24 << 20) + (16 << 20))

    def test_bench_measures_a_warm_prompt(self):
        args = ("bench", "-m", DEMO, "-p", "20", "-n", "2", "--ram", "64MiB", "--json")
        self.assertGreater(self.check_done(run(*args)).json()["prompt_bytes_read"], 0)
        warm = self.check_done(run(*args, "--warm")).json()
        self.assertEqual((warm["prompt_bytes_read"], warm["prompt_tokens"], warm["gen_tokens"]), (0, 20, 2))
        self.check_error(run("bench", "-m", DEMO, "-p", "0", "--warm"), 2, "--warm")

    def test_bench_measures_a_text_and_says_so(self):
        text = DATA / "heldout" / "bible.txt"
        o = self.check_done(run("bench", "-m", DEMO, "-f", text, "-p", "20", "-n", "5", "--json")).json()
        self.assertEqual((o["tokens"], o["prompt_tokens"], o["gen_tokens"]), ("text", 20, 5))
        self.assertEqual(run("bench", "-m", DEMO, "-p", "2", "-n", "2", "--json").json()["tokens"], "random")
        self.check_error(run("bench", "-m", DEMO, "-f", "no-such-file"), 1, "no-such-file")
        short = self.folder / "short.txt"
        short.write_text("In the beginning")
        self.check_error(run("bench", "-m", DEMO, "-f", short, "-p", "20", "-n", "5"), 1, str(short), "need 25")

    def test_replay_gives_every_policy_and_the_optimum(self):
        trace = f"{DATA}/traces/olmoe_1b7b_299tok.jsonl"
        everything = self.check_done(run("replay", trace, "--ram", "150MiB", "--json")).json()
        self.assertLessEqual({"lru", "lfu", "belady"}, set(everything))
        for o in everything.values():
            self.assertEqual(set(o), {"hit_pct_cum", "hit_pct_decode", "bytes_read"})
            self.assertLessEqual(o["hit_pct_decode"], everything["belady"]["hit_pct_decode"])
        chosen = self.check_done(run("replay", trace, "--ram", "150MiB", "--policy", "lru", "--json")).json()
        lines = self.check_done(run("replay", trace, "--ram", "150MiB", "--policy", "belady,lru")).out.splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["lru", "belady"])
        self.assertEqual(chosen, {name: everything[name] for name in ("lru", "belady")})

    def test_replay_of_several_sequences_reads_more(self):
        trace = f"{DATA}/traces/olmoe_1b7b_299tok.jsonl"
        options = ["replay", trace, "--ram", "400MiB", "--policy", "lru", "--json"]
        one = self.check_done(run(*options)).json()
        eight = self.check_done(run(*options, "--sequences", "8")).json()
        self.assertEqual({name: set(o) for name, o in one.items()}, {name: set(o) for name, o in eight.items()})
        self.assertGreater(eight["lru"]["bytes_read"], one["lru"]["bytes_read"])
        self.check_error(run(*options, "--sequences", "1025"), 2, "--sequences 1025")

    def test_run_writes_the_same_object_to_its_stats_file(self):
        stats = self.folder / "stats.json"
        self.check_done(run("run", "-m", DEMO, "-p", PROMPT, "-n", "4", "--ignore-eos", "--stats", stats))
        o = json.loads(stats.read_text())
        self.assertLessEqual(STATS, set(o))
        self.assertEqual(o["gen_tokens"], 4)
        self.assertGreaterEqual(o["first_token_seconds"], o["prompt_seconds"])

    def test_run_as_json_holds_the_text(self):
        options = ["run", "-m", DEMO, "-p", PROMPT, "-n", "8", "--temp", "0"]
        text = self.check_done(run(*options)).out
        o = self.check_done(run(*options, "--json")).json()
        self.assertEqual(o["text"], text)
        self.assertLessEqual(STATS, set(o))

    def test_text_that_is_no_utf_8_is_in_the_object_as_well(self):
        options = ["run", "-m", DEMO, "-p", PROMPT, "-n", "300", "--temp", "100", "--top-k", "0", "--top-p", "1", "--min-p", "0",
                   "--ignore-eos", "--seed", "1"]
        text = subprocess.run([PROGRAM, *options], capture_output=True, check=True).stdout
        with self.assertRaises(UnicodeDecodeError):
            text.decode()
        o = self.check_done(run(*options, "--json")).json()
        self.assertEqual(o["text"], text.decode(errors="replace"))

    def test_perplexity_counts_the_second_half_of_each_chunk(self):
        o = self.check_done(run("perplexity", "-m", DEMO, "-f", DATA / "heldout" / "bible.txt", "-c", "64", "--chunks",
                                "3", "--json")).json()
        self.assertEqual(o["tokens"], 3 * 31)
        self.assertTrue(1 < o["ppl"] < 4096)

    def test_perplexity_begins_each_chunk_with_the_start_token(self):
        file = DATA / "tokenizers" / "reported" / "perplexity-without-start-token"
        o = self.check_done(run("perplexity", "-m", f"{file}.gguf", "-f", f"{file}.txt", "-c", "32", "--kernels", "ref", "--kv",
                                "f32", "--json")).json()
        self.assertEqual((o["tokens"], o["chunks"]), (195, 13))
        self.assertAlmostEqual(o["ppl"], 297.3006, delta=0.001)  # llama.cpp, with its own rounding: 297.288

    def test_a_prompt_that_brings_the_start_token_is_warned_of(self):
        model = DATA / "tokenizers" / "reported" / "perplexity-without-start-token.gguf"
        self.assertIn("start token", self.check_done(run("run", "-m", model, "-p", "<BOS>a", "-n", "1", "--json")).err)
        self.assertNotIn("start token", self.check_done(run("run", "-m", model, "-p", "a<BOS>", "-n", "1", "--json")).err)


class Text(CliTest):
    def test_tokenize_and_detokenize_are_inverse(self):
        text = "Let there be light: 12 naïve cats 🐈, \t<|im_end|>\n"
        ids = self.check_done(run("tokenize", "-m", DEMO, text)).out
        self.assertRegex(ids, r"\A\d+( \d+)*\n\Z")
        self.assertEqual(self.check_done(run("detokenize", "-m", DEMO, *ids.split())).out, text)

    def test_the_example_of_detokenize_says_something(self):
        ids = run("detokenize", "--help").out.split("models/demo.gguf ")[1].split()
        self.assertEqual(self.check_done(run("detokenize", "-m", DEMO, *ids)).out, "In the beginning")

    def test_special_tokens_are_recognised_only_when_asked_for(self):
        plain = run("tokenize", "-m", DEMO, "<|im_end|>").out.split()
        special = run("tokenize", "-m", DEMO, "--special", "<|im_end|>").out.split()
        self.assertGreater(len(plain), 1)
        self.assertEqual(len(special), 1)

    def test_a_file_gives_the_same_ids_as_its_text(self):
        file = self.folder / "text"
        file.write_text("one line\n")
        self.assertEqual(run("tokenize", "-m", DEMO, "-f", file).out, run("tokenize", "-m", DEMO, "one line\n").out)

    def test_the_prompt_is_the_same_from_everywhere(self):
        file = self.folder / "prompt"
        file.write_text(PROMPT + "\n")
        options = ["run", "-m", DEMO, "-n", "6", "--temp", "0"]
        expected = self.check_done(run(*options, "-p", PROMPT)).out
        self.assertEqual(run(*options, "-f", file).out, expected)
        self.assertEqual(run(*options, stdin=(PROMPT + "\n").encode()).out, expected)
        file.write_bytes(PROMPT.encode() + b"\r\n")
        self.assertEqual(run(*options, "-f", file).out, expected)

    def test_greedy_text_is_the_golden_one_also_with_half_the_experts(self):
        greedy = read_safetensors(DATA / "demo" / "demo-Q4_K_M.expected.safetensors")["greedy"][1]
        expected = run("detokenize", "-m", DEMO, *greedy).out
        options = ["run", "-m", DEMO, "-p", PROMPT, "-n", len(greedy), "--temp", "0", "--ignore-eos", "--kernels", "ref",
                   "-c", "128"]
        self.assertEqual(self.check_done(run(*options)).out, expected)
        stats = self.folder / "stats.json"
        self.assertEqual(self.check_done(run(*options, "--ram", half_of_the_experts(), "--stats", stats)).out, expected)
        o = json.loads(stats.read_text())
        self.assertGreater(o["cache_misses"], 0)
        self.assertLess(o["peak_anon_bytes"], o["ram_bytes"] + (16 << 20))

    def test_a_seed_makes_a_text_repeatable(self):
        options = ["run", "-m", DEMO, "-p", PROMPT, "-n", "24", "--temp", "1.5", "--seed"]
        first = run(*options, "1").out
        self.assertEqual(run(*options, "1").out, first)
        self.assertNotEqual(run(*options, "2").out, first)

    def test_n_0_reads_the_prompt_only(self):
        self.assertEqual(self.check_done(run("run", "-m", DEMO, "-p", PROMPT, "-n", "0")).out, "")

    def test_generation_stops_when_the_context_is_full(self):
        stats = self.folder / "stats.json"
        self.check_done(run("run", "-m", DEMO, "-p", PROMPT, "-c", "24", "--ignore-eos", "--stats", stats))
        o = json.loads(stats.read_text())
        self.assertEqual(o["prompt_tokens"] + o["gen_tokens"], 24 + 1)  # the last one needs no room


def by_expert(tensors):
    """The same choices with each token's experts in the order of their numbers: the order of a choice is not told everywhere."""
    for name in [n for n in tensors if n.startswith("topk.")]:
        shape, experts = tensors[name]
        weights = tensors[name.replace("topk", "topw")][1]
        order = [i for row in range(0, len(experts), shape[1]) for i in sorted(range(row, row + shape[1]), key=lambda i: experts[i])]
        tensors[name] = (shape, [experts[i] for i in order])
        tensors[name.replace("topk", "topw")] = (shape, [weights[i] for i in order])
    return tensors


class Logits(CliTest):
    def check_golden(self, model, expected, *options):
        out = self.folder / "out.safetensors"
        want = by_expert(read_safetensors(expected))
        ids = self.folder / "ids"
        ids.write_text(" ".join(map(str, want["input_ids"][1])))
        greedy = len(want["greedy"][1])
        self.check_done(run("logits", "-m", model, "--tokens-file", ids, "--out", out, "--layers", "--greedy", greedy,
                            "--kernels", "ref", *options))
        have = by_expert(read_safetensors(out))
        self.assertEqual(set(have), set(want))
        logits = want["logits"][1]
        mean = sum(logits) / len(logits)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in logits) / len(logits))
        for name, (shape, values) in want.items():
            self.assertEqual(have[name][0], shape, name)
            if name.split(".")[0] in ("input_ids", "greedy", "topk"):
                self.assertEqual(have[name][1], values, name)
            else:
                worst = max(abs(a - b) for a, b in zip(have[name][1], values))
                self.assertLess(worst, 1e-3 * deviation, name)

    def test_a_folder_gives_the_golden_tensors(self):
        model = DATA / "models" / "qwen3_moe_f16"
        self.check_golden(model, model / "expected.safetensors")

    def test_layers_of_every_kind_are_written(self):
        for family in ("qwen3_5_moe", "gpt_oss", "gemma4", "deepseek_v3", "nemotron_h", "lfm2_moe", "kimi_linear"):
            with self.subTest(family):
                model = DATA / "families" / family
                self.check_golden(model, model / "expected.safetensors")

    def test_the_chunk_does_not_change_them(self):
        model = DATA / "models" / "olmoe_tied"
        self.check_golden(model, model / "expected.safetensors", "--chunk", "7")

    def test_as_json_it_says_what_was_written(self):
        out = self.folder / "out.safetensors"
        options = ["logits", "-m", DEMO, "--tokens", "5,6,7", "--out", out, "--json"]
        self.assertEqual(self.check_done(run(*options)).json(), {"tokens": 3, "out": str(out)})
        self.assertEqual(self.check_done(run(*options, "--greedy", "2")).json(), {"tokens": 3, "out": str(out), "greedy": 2})

    def test_without_layers_only_the_logits_are_written(self):
        out = self.folder / "out.safetensors"
        self.check_done(run("logits", "-m", DEMO, "--tokens", "5,6,7", "--out", out))
        self.assertEqual({k: v[0] for k, v in read_safetensors(out).items()}, {"input_ids": [3], "logits": [3, 4096]})
        self.assertEqual([p.name for p in self.folder.iterdir()], ["out.safetensors"])


if __name__ == "__main__":
    unittest.main()
