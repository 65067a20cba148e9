#!/usr/bin/env python3
"""Makes the tiny random checkpoints of this folder and what the reference computes with them.

Versions it was run with (the goldens are those of these, whatever is current):

    pip install torch==2.15.0 transformers==5.23.0 sentence-transformers==6.2.0 \
        tokenizers==0.23.3 safetensors==0.8.0 numpy==2.4.6

    python make.py            # writes into the folder of this file

Each folder is a family and a layout; `golden.json` in it holds, for every text, the token ids
that the reference runs and every term weight of the vector.
"""

import json
import shutil
import string
from collections import Counter
from pathlib import Path

import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import (
    Router,
    SparseStaticEmbedding,
    SpladePooling,
    Transformer,
)
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForMaskedLM,
)

HERE = Path(__file__).parent
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CORPUS = """
learned sparse retrieval gives a text a few hundred weighted terms of a vocabulary
copper conducts electricity well and silver conducts electricity better than copper
vitamin d and bone density in older women a randomised controlled trial
what is the weather in new york now currently new york is rainy
the encoder reads every position of a document and keeps the largest weight of each term
cells proteins and genes of the mouse regulate inflammation of the liver
an index of tantivy holds postings and scores queries by integer sums
running runner runs jumped jumping jumps quickly quick brown fox lazy dog
"""
TEXTS = [
    "",
    " ",
    "copper",
    "What's the weather in NY now?",
    "Currently New York is rainy.",
    "Vitamin D and bone density in older women: a randomised, controlled trial",
    "running runners jumped quickly over the lazy dogs",
    "Ångström café naïve façade ÜBER straße",
    "東京タワー is in 東京",
    "한국어 텍스트 그리고 russian: привет мир",
    "🚀 to the moon 👩‍👩‍👧 \u200d\u200b zero width",
    "tabs\tand\nnew lines\r\nand \u00a0 spaces\u3000wide",
    "control\x01 characters\x7f and \ufffd replaced",
    "text with [SEP] inside and [MASK] and [CLS] too",
    "[UNK] [PAD] [pad] [ SEP ]",
    "a",
    "!!! ??? ... ,,, ;;;",
    "x" * 99 + " " + "y" * 101 + " end",
    "unaffable-unbelievable_underscore's 3.14159 1,000,000 2024-05-06",
    "e\u0301 combining a\u0308 marks o\u0302",
    "İstanbul ıı ŞŞ ǅ ﬁ ligature",
    "copper copper copper copper",
    "the " * 60,
    "learned sparse retrieval gives a text a few hundred weighted terms of a vocabulary " * 6,
    " ".join(CORPUS.split()),
    "silver conducts electricity better than copper " * 9 + "[SEP]",
]


def vocabulary(size):
    """Special tokens, characters, endings, words: a trainer would choose others each time."""
    endings = "s ed ing er ers ly able ness ion ions ive ment al ous est ling tion ts us in".split()
    characters = [*string.ascii_lowercase, *string.digits, *".,?!'-:;_", *"東京ßøñ"]
    words = Counter(CORPUS.split()).most_common()
    words = [word for word, _ in sorted(words, key=lambda entry: (-entry[1], entry[0]))]
    pieces = [f"##{piece}" for piece in [*string.ascii_lowercase, *string.digits, *endings]]
    entries = list(dict.fromkeys([*SPECIALS, *characters, *pieces, *words]))
    fillers = [f"[unused{idx}]" for idx in range(size)]
    return {entry: idx for idx, entry in enumerate([*entries, *fillers][:size])}


def tokenizer(max_length):
    inner = Tokenizer(WordPiece(vocabulary(200), unk_token="[UNK]"))
    inner.add_special_tokens(SPECIALS)
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    cls, sep = inner.token_to_id("[CLS]"), inner.token_to_id("[SEP]")
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    return BertTokenizerFast(
        tokenizer_object=inner, model_max_length=max_length, do_lower_case=True
    )


def widen(model, seed):
    """Weights wide enough that logits of both signs are common, in the numbers of f16."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name.lower() and name.endswith("weight"):
            value = 1 + 0.2 * noise
        elif name.endswith(("predictions.bias", "decoder.bias", "vocab_projector.bias")):
            value = noise - 3.0
            # Special tokens get weights as well: whoever drops them is seen.
            value[: len(SPECIALS)] += 3.0
        elif name.endswith("bias"):
            value = 0.1 * noise
        elif "position" in name or "token_type" in name:
            value = 0.5 * noise
        elif "decoder" in name:
            value = 1.2 * noise / parameter.shape[-1] ** 0.5
        else:
            value = noise / parameter.shape[-1] ** 0.5
        parameter.data.copy_(value.half().float())
    return model.eval()


def bert(seed, **changes):
    config = dict(
        vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=64, type_vocab_size=2,
    )
    return widen(BertForMaskedLM(BertConfig(**(config | changes))), seed)


def distilbert(seed, **changes):
    config = dict(
        vocab_size=200, dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=64
    )
    return widen(DistilBertForMaskedLM(DistilBertConfig(**(config | changes))), seed)


def idf(tok):
    """A weight for every entry but the special tokens and a few more, as OpenSearch has it."""
    vocabulary = sorted(tok.get_vocab().items(), key=lambda entry: entry[1])
    weight = lambda idx: round(0.5 + (idx * 37 % 100) / 13, 6)
    return {t: weight(i) for t, i in vocabulary if t not in SPECIALS and i % 17 != 0}


def plain(folder, model, tok):
    """Stores f16, to be small, but is computed with in f32, as the config then says."""
    model.half().save_pretrained(folder)
    tok.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float32"}, indent=2))


def sparse(vector):
    ids = torch.nonzero(vector).flatten().tolist()
    return {"ids": ids, "weights": [round(float(vector[i]), 7) for i in ids]}


def case(text, ids, vector):
    return {"text": text, "tokens": ids} | sparse(vector)


def golden(folder, documents, queries):
    out = {"documents": documents, "queries": queries}
    text = json.dumps(out, ensure_ascii=True, separators=(",", ":"))
    (folder / "golden.json").write_text(text.replace('{"text"', '\n{"text"') + "\n")
    print(folder.name, [len(c["ids"]) for c in documents])


def of_sentence_transformers(folder):
    model = SparseEncoder(str(folder), device="cpu")
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    out = {}
    for kind, encode in [("document", model.encode_document), ("query", model.encode_query)]:
        cases = []
        for text in TEXTS:
            vector = encode(text, convert_to_sparse_tensor=False, convert_to_tensor=True)
            names = {"query": ["query"], "document": ["document", "passage", "corpus"]}[kind]
            name = next((n for n in names if n in model.prompts), model.default_prompt_name)
            features = model.preprocess([text], prompt=model.prompts.get(name), task=kind)
            cases.append(case(text, features["input_ids"][0].tolist(), vector))
        out[kind] = cases
    golden(folder, out["document"], out["query"])


def of_opensearch(folder):
    """The code of OpenSearch's model cards, in other words."""
    tok = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    table = torch.zeros(tok.vocab_size)
    for token, weight in json.loads((folder / "idf.json").read_text()).items():
        table[tok.convert_tokens_to_ids(token)] = weight
    specials = [tok.vocab[token] for token in tok.special_tokens_map.values()]
    documents, queries = [], []
    for text in TEXTS:
        features = tok([text], truncation=True, return_tensors="pt", return_token_type_ids=False)
        ids = features["input_ids"][0]
        with torch.no_grad():
            values = model(**features)[0].max(dim=1).values[0]
        values = torch.log(1 + torch.relu(values))
        values[specials] = 0
        documents.append(case(text, ids.tolist(), values))
        presence = torch.zeros(tok.vocab_size)
        presence[ids] = 1
        queries.append(case(text, ids.tolist(), presence * table))
    golden(folder, documents, queries)


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def transformer(folder):
    return Transformer(
        str(folder), transformer_task="fill-mask", model_kwargs={"dtype": torch.float32}
    )


def narrow(folder):
    """Stores all weights of a saved model as f16, which they fit."""
    from safetensors.torch import load_file, save_file

    for path in folder.rglob("model.safetensors"):
        tensors = {name: tensor.half() for name, tensor in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})


def main():
    # SPLADE as published before sentence-transformers knew it: a plain folder.
    folder = fresh("bert")
    plain(folder, bert(1), tokenizer(64))
    of_sentence_transformers(folder)

    # A folder of OpenSearch's: queries are looked up.
    folder = fresh("opensearch")
    tok = tokenizer(48)
    plain(folder, distilbert(2), tok)
    (folder / "idf.json").write_text(json.dumps(idf(tok)))
    of_opensearch(folder)

    # A SparseEncoder as it is saved today, with prompts and its own length.
    source, folder = fresh("source"), fresh("sparse-encoder")
    plain(source, distilbert(3, activation="relu"), tokenizer(512))
    modules = [transformer(source), SpladePooling("max")]
    model = SparseEncoder(modules=modules, prompts={"query": "find: ", "document": "the text: "})
    model.max_seq_length = 40
    model.save_pretrained(str(folder))
    narrow(folder)
    of_sentence_transformers(folder)

    # One as the first releases saved it, each module in a folder of its own; sum pooling, an
    # output matrix that is not the embedding, another activation.
    shutil.rmtree(source)
    source.mkdir()
    folder = fresh("legacy")
    network = bert(4, tie_word_embeddings=False, hidden_act="gelu_new", layer_norm_eps=1e-5)
    plain(folder / "0_MLMTransformer", network, tokenizer(64))
    settings = {"max_seq_length": 32, "do_lower_case": False}
    (folder / "0_MLMTransformer/sentence_bert_config.json").write_text(json.dumps(settings))
    (folder / "1_SpladePooling").mkdir()
    pooling = {
        "pooling_strategy": "sum", "activation_function": "relu", "word_embedding_dimension": 200
    }
    (folder / "1_SpladePooling/config.json").write_text(json.dumps(pooling))
    types = "sentence_transformers.sparse_encoder.models"
    modules = [
        {"idx": 0, "name": "0", "path": "0_MLMTransformer", "type": f"{types}.MLMTransformer"},
        {"idx": 1, "name": "1", "path": "1_SpladePooling", "type": f"{types}.SpladePooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    settings = {"prompts": {"passage": "a "}, "default_prompt_name": None, "model_type": "SparseEncoder"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    of_sentence_transformers(folder)

    # An inference-free model: a router, a table for queries, the double logarithm for documents.
    folder = fresh("router")
    tok = tokenizer(512)
    plain(source, bert(5, hidden_act="gelu"), tok)
    table = torch.zeros(len(tok.get_vocab()))
    for token, weight in idf(tok).items():
        table[tok.convert_tokens_to_ids(token)] = weight
    table[tok.convert_tokens_to_ids("[SEP]")] = 0.25
    document = transformer(source)
    document.max_seq_length = 48
    router = Router.for_query_document(
        query_modules=[SparseStaticEmbedding(tok, weight=table, frozen=True)],
        document_modules=[document, SpladePooling("max", activation_function="log1p_relu")],
    )
    SparseEncoder(modules=[router]).save_pretrained(str(folder))
    for path in folder.rglob("model.safetensors"):
        if "Static" not in str(path):
            narrow(path.parent)
    of_sentence_transformers(folder)
    shutil.rmtree(source)
    for path in HERE.rglob("README.md"):
        path.unlink()


main()
