#!/usr/bin/env python3
"""Logits of the models in TREE/models under other configurations: the weights stay, members of config.json change.

usage: make_configs.py TREE [CASE ...]    TREE: the test data with its models made, build/tests/data/tree; all cases of cases.json, or those named

Needs torch, transformers 5.24, safetensors. NAME.safetensors: input_ids [n] int32, logits [vocab] float32 of the last token.
A member that cases.json sets to null is removed.
"""
import json, os, sys, tempfile
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

here = os.path.dirname(os.path.abspath(__file__))


def changed_folder(case, folder):
    original = os.path.join(sys.argv[1], "models", case["model"])
    config = {**json.load(open(os.path.join(original, "config.json"))), **case["members"]}
    os.symlink(os.path.realpath(os.path.join(original, "model.safetensors")), os.path.join(folder, "model.safetensors"))
    json.dump({k: v for k, v in config.items() if v is not None}, open(os.path.join(folder, "config.json"), "w"))


for name, case in json.load(open(os.path.join(here, "cases.json"))).items():
    if len(sys.argv) > 2 and name not in sys.argv[2:]:
        continue
    with tempfile.TemporaryDirectory() as folder:
        changed_folder(case, folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        ids = torch.randint(3, model.config.vocab_size, (24,), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0, -1].float()
    save_file({"input_ids": ids.to(torch.int32), "logits": logits.contiguous()}, os.path.join(here, name + ".safetensors"))
    print(name, "logits spread %.2f" % logits.std())
