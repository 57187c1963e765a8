"""Files that are made of seeds: the same everywhere, whole or refused, and in a tree that follows its source."""
import hashlib
import os
import pathlib
import tempfile
import unittest

import seeded

TABLE = bytes(range(256)) * 2  # entry i is the two bytes 2 i and 2 i + 1, modulo 256


class Seeds(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.folder = pathlib.Path(temp.name)
        self.seed = self.folder / "file.seed"

    def pack(self):
        """A file of literal bytes, numbers and blocks; its bytes."""
        maker = seeded.Maker()
        numbers, a = maker.values("a", 100, 2, TABLE)
        blocks, b = maker.blocks("b", 7, 18, [(0, 2, TABLE[:32]), (5, 1, TABLE[:16])])
        whole = b"header" + a + b"--" + b + b"end"
        (self.folder / "file").write_bytes(whole)
        maker.put(6, numbers)
        maker.put(6 + 200 + 2, blocks)
        maker.pack(self.folder / "file", self.seed)
        return whole

    def test_a_seed_gives_the_file_back(self):
        self.assertEqual(self.pack(), seeded.expand(self.seed))

    def test_a_compressed_file_comes_back(self):
        (self.folder / "file").write_bytes(b"made elsewhere" * 100)
        seeded.compress(self.folder / "file", self.seed, [])
        self.assertEqual(b"made elsewhere" * 100, seeded.expand(self.seed))
        self.assertLess(self.seed.stat().st_size, 400)

    def test_a_tensor_becomes_blocks_of_q8_0(self):
        bf16 = b"\x80\x3f" + b"\x00\xbf" + b"\0\0" * 30  # 1, -0.5, zeros
        self.assertEqual(seeded.q8_0(bf16), b"\x08\x20" + bytes([127, 256 - 64]) + bytes(30))
        self.assertEqual(seeded.q8_0(b"\0\0" * 32), bytes(34))

    def test_numbers_are_those_that_the_standard_gives(self):
        r = hashlib.shake_128(b"a").digest(3)
        self.assertEqual(r.hex(), "85c8de")  # written out: no other function may take the place of this one
        self.assertEqual(seeded.values("a", 3, 2, TABLE), b"".join(TABLE[2 * x:2 * x + 2] for x in r))

    def test_blocks_keep_their_random_bytes_around_the_fields(self):
        r = hashlib.shake_128(b"b").digest(2 * 5)
        got = seeded.blocks("b", 2, 4, [(1, 2, TABLE[:32])])
        for i in range(2):
            mine, b = r[5 * i:5 * i + 4], r[5 * i + 4] % 16
            self.assertEqual(got[4 * i:4 * i + 4], mine[:1] + bytes([2 * b, 2 * b + 1]) + mine[3:])

    def test_what_comes_out_wrong_is_refused(self):
        self.pack()
        text = self.seed.read_bytes()
        for old, new in ((b'"a"', b'"c"'), (b"--", b"+-"), (b'"crc32":', b'"crc32":1')):
            self.assertIn(old, text)
            self.seed.write_bytes(text.replace(old, new, 1))
            self.assertRaisesRegex(SystemExit, "file.seed", seeded.expand, self.seed)

    def test_the_tree_follows_its_source(self):
        whole = self.pack()
        source, tree = self.folder / "source", self.folder / "tree"
        (source / "models" / "a").mkdir(parents=True)
        (source / "plain").write_text("plain")
        self.seed.rename(source / "models" / "a" / "w.seed")
        (source / "models" / "b.seed").symlink_to("a/w.seed")
        read = set(map(str, seeded.assemble(source, tree)))
        self.assertEqual((tree / "models" / "a" / "w").read_bytes(), whole)
        self.assertEqual((tree / "models" / "b").read_bytes(), whole)
        self.assertEqual((tree / "plain").read_text(), "plain")
        self.assertLessEqual({str(source / "plain"), str(source / "models"), str(source / "models" / "b.seed")}, read)
        (source / "plain").unlink()
        (source / "models" / "b.seed").unlink()
        seeded.assemble(source, tree)
        left = [os.path.relpath(os.path.join(folder, name), tree) for folder, _, names in os.walk(tree) for name in names]
        self.assertEqual(left, ["models/a/w"])


unittest.main()
