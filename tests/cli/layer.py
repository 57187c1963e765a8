"""The layer from the command line: all cases of tests/data/layer against their goldens, and the figures of its bench."""
import pathlib
import re
import resource
import signal
import subprocess
import unittest

from odmoe_cli import DATA, DEMO, PLAIN, PROGRAM, SOURCE, CliTest, read_safetensors, run

CASES = sorted((DATA / "layer").glob("*.safetensors"))
FORWARD = {"y", "topk", "topw", "aux", "counts", "imbalance"}
LIMITS = {"y": 1e-5, "topw": 1e-5, "aux": 1e-5, "imbalance": 1e-5, "dx": 1e-4, "drouter": 1e-4, "dexperts": 1e-4}


def room_for_one(case, out):
    """The figure in the message of a budget that is too small."""
    return re.search(r"at least (\d+)", run("layer", "--case", case, "--out", out, "--ram", "1").err).group(1)


class Layer(CliTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out.safetensors"

    def layer(self, case, *options):
        self.check_done(run("layer", "--case", case, "--out", self.out, *options))
        return self.out.read_bytes()

    def test_all_cases_agree_with_the_goldens_and_room_changes_no_byte(self):
        self.assertEqual(len(CASES), 9)
        for case in CASES:
            want = read_safetensors(case)
            for kernels in ("auto", "ref"):
                with self.subTest(case=case.stem, kernels=kernels):
                    options = ["--backward", "--kernels", kernels]
                    all_fit = self.layer(case, *options)
                    self.assertEqual(self.layer(case, *options, "--ram", room_for_one(case, self.out)), all_fit)
                    have = read_safetensors(self.out)
                    self.assertEqual(set(have), FORWARD | {"dx", "drouter", "dexperts"})
                    for name in ("topk", "counts"):
                        self.assertEqual(have[name], want[name], name)
                    for name, limit in LIMITS.items():
                        self.assertEqual(have[name][0], want[name][0], name)
                        scale = max(map(abs, want[name][1]))
                        worst = max(abs(a - b) for a, b in zip(have[name][1], want[name][1]))
                        self.assertLessEqual(worst, limit * scale, name)

    def test_without_backward_only_the_forward_results_are_written(self):
        self.layer(CASES[0])
        self.assertEqual(set(read_safetensors(self.out)), FORWARD)

    def test_what_is_wrong_is_said_in_one_line(self):
        case = CASES[0]
        self.check_error(run("layer", "--case", case, "--out", self.out, "--ram", "1"), 3, "at least")
        self.check_error(run("layer", "--case", case, "--out", self.out, "--ram", "0"), 2, "--ram 0")
        self.check_error(run("layer", "--case", self.folder / "none", "--out", self.out), 1, "none")
        self.check_error(run("layer", "--case", case, "--out", "/nowhere/out"), 1, "/nowhere/out")
        self.check_error(run("layer", "--case", case, "--out", self.out, "--kernels", "sse9"), 2, "sse9", "ref")
        self.assertEqual(run("layer", "--case", case).status, 2)
        data = case.read_bytes()
        damaged = self.folder / "damaged.safetensors"
        for text in (b"", data[:7], data[:100], data[:len(data) // 2], b"{" * 200, data.replace(b'"router"', b'"rooter"')):
            damaged.write_bytes(text)
            self.check_error(run("layer", "--case", damaged, "--out", self.out, "--backward"), 1, "damaged")
        self.assertFalse(self.out.exists())


class BenchScript(CliTest):
    def test_help_is_its_own_description(self):
        p = subprocess.run(["bash", SOURCE / "bench" / "layer.sh", "--help"], capture_output=True, text=True, cwd=self.folder, env=PLAIN)
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        self.assertIn("\nusage: bench/layer.sh ", p.stdout)
        self.assertNotIn("set -", p.stdout)


class BenchLayer(CliTest):
    shape = ["--hidden", "64", "--ffn", "96", "--experts", "12", "--top-k", "3", "--tokens", "40"]
    bytes = 3 * 64 * 96 * 4

    def bench(self, *options):
        o = self.check_done(run("bench-layer", *self.shape, *options, "--json")).json()
        self.assertLessEqual({"seconds", "tokens_per_second", "gflops", "bytes_read", "read_seconds", "distinct_experts",
                              "peak_gflops", "memory_gbps", "disk_gbps"}, set(o))
        self.assertAlmostEqual(o["tokens_per_second"], 40 / o["seconds"], delta=1e-6 * 40 / o["seconds"])
        flops = 40 * 3 * 6 * 64 * 96
        self.assertAlmostEqual(o["gflops"], flops / o["seconds"] * 1e-9, delta=1e-6 * flops / o["seconds"] * 1e-9)
        self.assertGreater(o["peak_gflops"], 0)
        self.assertGreater(o["memory_gbps"], 0)
        return o

    def test_in_memory_nothing_is_read(self):
        o = self.bench()
        self.assertEqual((o["bytes_read"], o["disk_gbps"], o["distinct_experts"]), (0, 0, 12))
        self.assertGreaterEqual(o["calls"], 5)

    def test_from_a_file_each_expert_is_read_once(self):
        file = self.folder / "experts.gguf"
        o = self.bench("--file", file)
        self.assertEqual((o["bytes_read"], o["distinct_experts"], o["calls"]), (12 * self.bytes, 12, 1))
        self.assertGreater(o["disk_gbps"], 0)
        written = file.stat().st_mtime_ns
        self.bench("--file", file)
        self.assertEqual(file.stat().st_mtime_ns, written)

    def test_a_file_of_something_else_is_left_as_it_is(self):
        model = self.folder / "model.gguf"
        for old in (pathlib.Path(DEMO).read_bytes(), b"a few words", b"GGUF"):
            model.write_bytes(old)
            self.check_error(run("bench-layer", *self.shape, "--file", model), 1, model, "another name")
            self.assertEqual(model.read_bytes(), old)

    def test_experts_of_another_shape_are_replaced(self):
        file = self.folder / "experts.gguf"
        file.touch()
        self.bench("--file", file, "--distinct", "3")
        small = file.stat().st_size
        self.assertEqual(self.bench("--file", file)["bytes_read"], 12 * self.bytes)
        self.assertGreater(file.stat().st_size, 3 * small)

    def test_a_full_disk_leaves_nothing(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

        p = subprocess.run([PROGRAM, "bench-layer", *self.shape, "--file", self.folder / "experts.gguf"], preexec_fn=limit,
                           restore_signals=False, capture_output=True, text=True)
        self.assertEqual(p.returncode, 1)
        self.assertRegex(p.stderr, r"\Aodmoe: .*experts\.gguf: cannot be written: File too large\n\Z")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_few_stored_experts_stand_for_all(self):
        file = self.folder / "experts.gguf"
        o = self.bench("--file", file, "--distinct", "3")
        self.assertEqual((o["bytes_read"], o["distinct_experts"], o["experts"]), (3 * self.bytes, 3, 12))
        self.assertEqual(self.bench("--distinct", "3")["distinct_experts"], 3)
        self.assertIn("stored as 3", run("bench-layer", *self.shape, "--distinct", "3").out)

    def test_every_type_runs(self):
        for dtype in ("f32", "bf16", "q8_0"):
            self.bench("--dtype", dtype)
        self.check_done(run("bench-layer", "--hidden", "256", "--ffn", "256", "--dtype", "q4_k", "--json"))

    def test_what_makes_no_sense_is_refused(self):
        for options in (["--top-k", "13"], ["--distinct", "13"], ["--dtype", "q4_k"], ["--tokens", "0"], ["--dtype", "x"]):
            self.assertEqual(run("bench-layer", *self.shape, *options).status, 2, options)
        self.check_error(run("bench-layer", *self.shape, "--file", self.folder / "e.gguf", "--ram", "1"), 3, "at least")
        self.check_error(run("bench-layer", *self.shape, "--ram", "1GiB"), 2, "--ram", "--file")
        self.check_error(run("bench-layer", *self.shape, "--io", "pread"), 2, "--io", "--file")
        self.check_error(run("bench-layer", *self.shape, "--file", self.folder / "e.gguf", "--ram", "0"), 2, "--ram 0")
        self.check_error(run("bench-layer", *self.shape, "--file", "/nowhere/e.gguf"), 1, "/nowhere/e.gguf")


if __name__ == "__main__":
    unittest.main()
