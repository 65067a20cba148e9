#!/usr/bin/env python3
"""Writes the seeds: `TARGET/NAME`, what fuzzing begins with.

    python3 tests/fuzz/seeds/make.py

Files of lines are valid ones in every compression and a choice of `fixtures/invalid`; the others
are put together here. A seed is worth its place when it reaches code that the others do not.
"""

import gzip
import json
import pathlib
import shutil
import struct

ROOT = pathlib.Path(__file__).resolve().parent
INVALID = ROOT / "../../../fixtures/invalid"

# Raw blocks only: magic, one segment of n bytes, one last raw block.
ZSTD_HEAD = b"\x28\xb5\x2f\xfd\x20"


def write(target, name, content):
    (ROOT / target / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def zstd(data):
    return ZSTD_HEAD + bytes([len(data)]) + struct.pack("<I", len(data) << 3 | 1)[:3] + data


def lines_of(target, records, invalid):
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    write(target, "plain", text)
    write(target, "crlf-blank-bom", b"\xef\xbb\xbf\r\n" + text.replace(b"\n", b"\r\n\r\n"))
    write(target, "gzip", gzip.compress(text, mtime=0) + gzip.compress(b"\n", mtime=0))
    write(target, "zstd", zstd(text) + b"\x50\x2a\x4d\x18\x02\x00\x00\x00xx" + zstd(b"\n"))
    for name in invalid:
        shutil.copy(INVALID / target / name, ROOT / target / name)


BROKEN = ["gzip-truncated.gz", "gzip-wrong-checksum.gz", "gzip-then-text.gz", "gzip-in-gzip.gz",
          "zstd-truncated-second-frame.zst", "zstd-reserved-block-type.zst",
          "zstd-window-too-big.zst", "id-repeated.jsonl", "id-513-bytes.jsonl",
          "lone-leading-surrogate.jsonl", "utf8-truncated-last-character.jsonl",
          "utf16-little-endian.jsonl", "truncated-in-string.jsonl"]


def collections():
    lines_of("documents", [{"_id": "a", "title": "T", "text": "x\0y", "year": 1998},
                           {"_id": 7, "text": "é", "tags": [1, {"a": None}]}], BROKEN)
    lines_of("queries", [{"_id": "q1", "text": "why?"}, {"_id": -2, "text": ""}], BROKEN)
    lines_of("vectors", [{"_id": "a", "vector": {"Ġx": 1.37, "y": 0, "z": 5e-1}},
                         {"id": 3, "vector": {}}],
             BROKEN + ["term-256-bytes.jsonl", "term-twice-escaped.jsonl", "weight-nan.jsonl",
                       "weight-just-too-large-for-32-bits.jsonl", "weight-negative.jsonl"])


def qrels_run():
    beir = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t-1\nq2\td3\t1\n"
    trec = "q1 0 d1 2\nq1 Q0 d2 0\nq2 0 d3 1\n"
    run = "q1 Q0 d2 1 7.5 t\nq1 Q0 d1 2 7.5 t\nq2 Q0 d9 1 1e-3 t\nq3 Q0 d1 1 -0 t\n"
    write("qrels_run", "beir", beir + "\0" + run)
    write("qrels_run", "trec", trec + "\0" + run)
    long = "".join(f"q Q0 d{n} {n} {1 / n} t\n" for n in range(1, 13))
    write("qrels_run", "long", "".join(f"q 0 d{n} {n % 4}\n" for n in range(13)) + "\0" + long)


def vector_json():
    for name, text in {
        "plain": '{"Ġsearch": 1.37, "a": 2, "b": 0.001, "c": 99}',
        "empty": "{}",
        "edges": '{"\\"\\\\": 3.9765625, "\\u0000": 3.9921875, "é": 1e-45, "z": 0, "y": -0.0}',
        "twice": '{"a": 1, "\\u0061": 1}',
        "infinite": '{"a": 1e39}',
        "text": "no vector",
    }.items():
        write("vector_json", name, text)


def identity():
    for name, text in {
        "unnamed": "laconic/1/linear8//",
        "named": "laconic/1/linear5/nano@3f9a/laconic%2fx%201",
        "bytes": "laconic/1/linear4/%c3%a9%25/p",
        "newer": "laconic/2/linear8//",
        "other-forms": "laconic/1/linear+8/%2F/a",
        "foreign": "default",
    }.items():
        write("identity", name, text)


def hybrid_query():
    for name, text in {
        "plain": "what's C++ (2017), 5\" wide - or \u00fcber f(x)?",
        "signs": '+a -"b a"~2 NOT c title:"a b"^2.5 (a b^3)^0.5 "a b"*',
        "operators": "a AND (b OR NOT c) OR -id:b title:(+a -b) year:1 OR *",
        "filters": "year:[1 TO *] year:>=0 id: IN [a 'b'] part:/a/b extra.x:1 extra.z:* ratio:0.5",
        "further": "x:[0 TO 2] z: IN [a] when:2021-05-04T00:00:00Z",
        "escapes": r'a\:b \+c \(d "AND \" e" \\',
        "mistakes": "year:[1 2] sparse:a (",
    }.items():
        write("hybrid_query", name, text)


def several(items):
    """A list as `arbitrary` reads it."""
    return b"".join(b"\1" + item for item in items) + b"\0"


def search():
    def document(n_copies, *weights):
        return bytes([n_copies]) + several(bytes(pair) for pair in weights)

    def case(bits, segments, deleted, is_merged, query, k):
        segments = [bytes([is_bulk]) + several(documents) for is_bulk, documents in segments]
        query = [struct.pack("<BHB", *triple) for triple in query]
        return (bytes([bits]) + several(segments) + several(bytes([d]) for d in deleted)
                + bytes([is_merged]) + several(query) + bytes([k]))

    mixed = [document(3, (0, 200), (1, 90)), document(1), document(140, (1, 255), (2, 40)),
             document(5, (0, 17))]
    query = [(0, 900, 10), (1, 7, 16), (2, 65535, 0)]
    write("search", "bulk", case(4, [(1, mixed)], [], 0, query, 3))
    write("search", "text", case(0, [(0, mixed)], [1, 20], 0, query, 9))
    write("search", "merged", case(2, [(1, mixed), (0, mixed), (1, [])], [0, 3], 1, query, 200))
    write("search", "too-large", case(4, [(1, mixed)], [], 0, [(0, 65535, 30)], 0))


CONFIG = {
    "model_type": "llama", "vocab_size": 4096, "hidden_size": 4, "intermediate_size": 4,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2,
    "hidden_act": "silu", "rms_norm_eps": 1e-05, "max_position_embeddings": 131072,
    "tie_word_embeddings": True, "bos_token_id": 4094, "eos_token_id": [4095],
}
OLDER = {"rope_theta": 500000.0, "rope_scaling": {
    "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192}}
NEWER = {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}
KNOBS = {"query_prefix": "q ", "add_bos": True, "add_eos": "true", "max_length": 4, "top_k": None}


def model_folder():
    def parts(config="", knobs="", tokenizer="", edits=b""):
        texts = [json.dumps(part) if part else "" for part in (config, knobs, tokenizer)]
        return "\0".join(texts).encode() + b"\0" + edits

    def edit(file, at, inserted, n_cut=None):
        keeps_length = n_cut is None
        return struct.pack("<BHBB4sB", file, at, keeps_length, n_cut or 0, inserted, len(inserted))

    valid = json.loads((ROOT / "../src/tokenizer.json").read_text())

    def tokenizer(**changed):
        return parts(tokenizer={**valid, **changed})

    write("model_folder", "valid", b"")
    write("model_folder", "older", parts({**CONFIG, **OLDER}, KNOBS))
    write("model_folder", "newer", parts({**CONFIG, **NEWER}, {"top_k": 3}))
    write("model_folder", "edited", parts(edits=edit(3, 2000, b"\x80\x7f") + edit(3, 9000, b"\xff")))
    write("model_folder", "header", parts(edits=edit(3, 30, b"") + edit(3, 0, b"\xff\xff")))
    write("model_folder", "cut", parts(edits=edit(3, 60000, b"", 200)))
    for kind in [{"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Prepend", "prepend": "▁"},
                 {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                 {"type": "Strip", "strip_left": True, "strip_right": True},
                 {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                  "strip_accents": None, "lowercase": True},
                 {"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"}]:
        write("model_folder", "normalizer-" + kind["type"].lower(), tokenizer(normalizer=kind))
    for kind in [{"type": "Whitespace"}, {"type": "Digits", "individual_digits": True},
                 {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
                 {"type": "Punctuation", "behavior": "Isolated"}, {"type": "UnicodeScripts"},
                 {"type": "BertPreTokenizer"}, {"type": "CharDelimiterSplit", "delimiter": " "},
                 {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed",
                  "invert": False}]:
        write("model_folder", "split-" + kind["type"].lower(), tokenizer(pre_tokenizer=kind))
    for kind in [{"type": "WordLevel", "vocab": {"a": 0, "?": 1}, "unk_token": "?"},
                 {"type": "WordPiece", "vocab": {"a": 0, "##b": 1, "?": 2}, "unk_token": "?",
                  "continuing_subword_prefix": "##", "max_input_chars_per_word": 9},
                 {"type": "Unigram", "unk_id": 0, "vocab": [["?", 0.0], ["a", -1.5]],
                  "byte_fallback": False},
                 {"type": "BPE", "dropout": None, "unk_token": "a", "fuse_unk": True,
                  "byte_fallback": True, "continuing_subword_prefix": "#",
                  "end_of_word_suffix": "$", "vocab": {"a": 0, "b": 1, "ab": 2},
                  "merges": ["a b"]}]:
        write("model_folder", "model-" + kind["type"].lower(), tokenizer(model=kind))


def gguf():
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    def entry(key, kind, value):
        return text(key) + struct.pack("<I", kind) + value

    def info(name, dims, kind, offset):
        return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)

    def file(entries, infos, n_data):
        head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(entries))
        head += b"".join(entries) + b"".join(infos)
        return head + bytes(-len(head) % 32 + n_data)

    llama = entry("general.architecture", 8, text("llama"))
    nested = struct.pack("<IQIQ", 9, 1, 4, 2) + bytes(8)
    write("gguf", "valid", b"\0")
    write("gguf", "edited", b"\0" + struct.pack("<HB?8sB", 24, 0, True, b"\xff" * 8, 8))
    write("gguf", "header", file([llama], [info("a", [2, 3], 0, 0), info("b", [32], 8, 32)], 66))
    write("gguf", "array", file([llama, entry("k", 9, nested)], [], 0))
    write("gguf", "huge", file([llama], [info("a", [1 << 32, 1 << 32], 0, 0)], 0))


for target in ["documents", "queries", "vectors", "qrels_run", "vector_json", "identity", "search",
               "model_folder", "hybrid_query", "gguf"]:
    shutil.rmtree(ROOT / target, ignore_errors=True)
    (ROOT / target).mkdir()
for make in [collections, qrels_run, vector_json, identity, search, model_folder,
             hybrid_query, gguf]:
    make()
