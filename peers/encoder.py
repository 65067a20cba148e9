#!/usr/bin/env python3
"""Encodes with laconic and with what people would otherwise run, in turns, and prints one table.

Random weights of the Llama-3.2-1B shape, one text of random token ids, every position seeing every
other, the LM head over all positions. The time is CPU time; medians of the rounds.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

VOCAB, HIDDEN, INNER, LAYERS, HEADS, KV_HEADS = 128_256, 2_048, 8_192, 16, 32, 8


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--laconic", default="laconic", help="the binary")
    parser.add_argument("--weights", default="f32,int8", help="laconic's formats")
    parser.add_argument("--candle", help="the binary of peers/candle")
    parser.add_argument("--peers", default="torch-f32,torch-bf16,llama.cpp-q8_0")
    parser.add_argument("--tokens", default="16,128,512")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", default=".", help="folder for a GGUF file of 1.3 GB")
    parser.add_argument("--json", help="write the figures into this file")
    return parser.parse_args()


class Torch:
    """transformers' Llama without its causal mask; the head's maximum over positions included."""

    def __init__(self, args, dtype):
        import torch
        from transformers import LlamaConfig, LlamaModel

        self.torch = torch
        torch.set_num_threads(args.threads)
        config = LlamaConfig(
            vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=INNER,
            num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS,
            head_dim=HIDDEN // HEADS, max_position_embeddings=131_072, tie_word_embeddings=True,
            attn_implementation="sdpa",
        )
        torch.set_default_dtype(getattr(torch, dtype))
        with torch.no_grad():
            self.model = LlamaModel(config).eval()
        torch.set_default_dtype(torch.float32)

    def encode(self, ids):
        torch = self.torch
        with torch.inference_mode():
            ids = torch.tensor([ids])
            # Nothing is masked: no position hides another.
            mask = torch.zeros(1, 1, ids.shape[1], ids.shape[1], dtype=self.model.dtype)
            hidden = self.model(ids, attention_mask=mask, use_cache=False).last_hidden_state
            logits = hidden[0] @ self.model.embed_tokens.weight.T
            return torch.log1p(torch.relu(logits.amax(0).float()))


class LlamaCpp:
    """llama.cpp with logits of all positions; pooling them is left out, in its favour."""

    def __init__(self, args):
        import llama_cpp

        self.api = llama_cpp
        path = Path(args.work) / "random-1b-q8_0.gguf"
        if not path.exists():
            write_gguf(path)
        llama_cpp.llama_log_set(SILENT, None)
        self.model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = args.threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise OSError(f"llama.cpp cannot load {path}")
        llama_cpp.llama_set_causal_attn(self.context, False)
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)

    def encode(self, ids):
        api, batch = self.api, self.batch
        api.llama_memory_clear(api.llama_get_memory(self.context), True)
        batch.n_tokens = len(ids)
        for position, token in enumerate(ids):
            batch.token[position] = token
            batch.pos[position] = position
            batch.n_seq_id[position] = 1
            batch.seq_id[position][0] = 0
            batch.logits[position] = 1
        if api.llama_decode(self.context, batch) != 0:
            raise OSError("llama.cpp failed to decode")
        return api.llama_get_logits(self.context)


def write_gguf(path):
    """Random weights as llama.cpp's converter would lay them out."""
    import numpy
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    print(f"writing {path}", file=sys.stderr)
    random = numpy.random.default_rng(1)
    writer = GGUFWriter(path.with_suffix(".part"), "llama")
    writer.add_vocab_size(VOCAB)
    writer.add_context_length(131_072)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500_000.0)
    writer.add_tokenizer_model("none")

    def matrix(name, outputs, inputs):
        values = random.standard_normal((outputs, inputs), numpy.float32) / inputs**0.5
        data = quants.quantize(values, GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, data, raw_dtype=GGMLQuantizationType.Q8_0)

    kv = HIDDEN // HEADS * KV_HEADS
    matrix("token_embd.weight", VOCAB, HIDDEN)
    writer.add_tensor("output_norm.weight", numpy.ones(HIDDEN, numpy.float32))
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", numpy.ones(HIDDEN, numpy.float32))
        for name, outputs, inputs in (
            ("attn_q", HIDDEN, HIDDEN), ("attn_k", kv, HIDDEN), ("attn_v", kv, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN), ("ffn_gate", INNER, HIDDEN),
            ("ffn_up", INNER, HIDDEN), ("ffn_down", HIDDEN, INNER),
        ):
            matrix(f"blk.{layer}.{name}.weight", outputs, inputs)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".part").rename(path)


SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)

PEERS = {
    "torch-f32": lambda args: Torch(args, "float32"),
    "torch-bf16": lambda args: Torch(args, "bfloat16"),
    "llama.cpp-q8_0": LlamaCpp,
}


def load(args):
    """The peers that can be had, with a line for each that cannot."""
    peers = {}
    for name in filter(None, args.peers.split(",")):
        try:
            peers[name] = PEERS[name](args)
        except (ImportError, OSError) as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
    return peers


def cpu_seconds(peer, ids):
    start = time.process_time()
    peer.encode(ids)
    return time.process_time() - start


def laconic(args, tokens, cpu=None):
    """CPU seconds by format and length, in a process of its own."""
    environment = dict(os.environ, **({"LACONIC_CPU": cpu} if cpu else {}))
    command = [
        args.laconic, "--quiet", "--json", "bench", "encode", "--shape", "1b", "--rounds", "1",
        "--weights", args.weights, "--threads", str(args.threads),
        "--tokens", ",".join(map(str, tokens)),
    ]
    run = subprocess.run(command, check=True, capture_output=True, env=environment)
    report = json.loads(run.stdout)
    suffix = f" ({cpu})" if cpu else ""
    return {
        (f"laconic {row['weights']}{suffix}", row["tokens"]): row["cpu_seconds"]
        for row in report["results"]
    }


def candle(args, tokens, cpu=None):
    """As `laconic`; candle takes its own word for AVX2."""
    environment = dict(os.environ, **({"MISTRALRS_FORCE_AVX2": "1"} if cpu else {}))
    command = [args.candle, "--threads", str(args.threads), *map(str, tokens)]
    report = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    rows = (line.split() for line in report.stdout.splitlines())
    suffix = f" ({cpu})" if cpu else ""
    return {(f"candle {name}{suffix}", int(n)): float(seconds) for name, n, seconds in rows}


def main():
    args = arguments()
    tokens = [int(n) for n in args.tokens.split(",")]
    peers = load(args)
    texts = {n: [(position * 7_919) % VOCAB for position in range(n)] for n in tokens}
    times = {}
    for round_ in range(args.rounds + 1):
        found = {}
        for n, ids in texts.items():
            for name, peer in peers.items():
                found[name, n] = cpu_seconds(peer, ids)
        # The first round warms the peers up; laconic's and candle's processes do so themselves.
        if round_ == 0:
            continue
        found |= laconic(args, tokens) | laconic(args, tokens, "avx2")
        if args.candle:
            found |= candle(args, tokens) | candle(args, tokens, "avx2")
        for key, seconds in found.items():
            times.setdefault(key, []).append(seconds)
        print(f"round {round_} of {args.rounds}", file=sys.stderr)
    medians = {key: statistics.median(seconds) for key, seconds in times.items()}
    names = list(dict.fromkeys(name for name, _ in medians))
    print("CPU ms" + " " * 18 + "".join(f"{n:>9} tokens" for n in tokens))
    for name in names:
        print(f"{name:<24}" + "".join(f"{medians[name, n] * 1e3:>16.1f}" for n in tokens))
    if args.json:
        rows = [{"name": name, "tokens": n, "cpu_seconds": times[name, n]} for name, n in times]
        Path(args.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
