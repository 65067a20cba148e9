#!/usr/bin/env python3
"""nDCG@10 of BM25 on SciFact, computed without Tantivy: the figures `effectiveness.rs` asserts.

    python3 -m venv venv && venv/bin/pip install numpy bm25s==0.3.16 pytrec-eval-terrier regex
    venv/bin/python tests/reference/bm25_scifact.py

Analysis: tokens are the maximal runs of alphanumeric characters, lower-cased, those of 40 bytes
and more left out (Tantivy's `default` tokenizer); no stemming, no stop words. Title and text are
one field. k1 = 1.2, b = 0.75, Lucene's idf, every query token counts as often as it is given.
The 1,000 best documents of each query are judged by trec_eval (pytrec_eval).

Tantivy, as Lucene, keeps a document's length in one byte: exact to 39, then to 4 significant
bits, rounded down. The table here is made from Lucene's definition (SmallFloat.intToByte4), not
read out of Tantivy; the average length stays exact in both.

Printed with Python 3.11, numpy 2.4.6, bm25s 0.3.16, pytrec-eval-terrier 0.5.11, regex 2026.11.15:

    this script, lengths in one byte      nDCG@10 0.661873  MRR 0.634475  Recall@100 0.885889
          Recall@1000 0.963889  MAP 0.622777
    this script, exact lengths            nDCG@10 0.663448  MRR 0.635067  Recall@100 0.882556
          Recall@1000 0.963889  MAP 0.623552
    bm25s, exact lengths                  nDCG@10 0.663448  MRR 0.635067  Recall@100 0.882556
          Recall@1000 0.963889  MAP 0.623552
"""

import gzip
import json
import pathlib

import bm25s
import numpy as np
import pytrec_eval
import regex

SCIFACT = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "scifact"
K1, B, DEPTH = 1.2, 0.75, 1000
MEASURES = {"ndcg_cut_10": "nDCG@10", "recip_rank": "MRR", "recall_100": "Recall@100",
            "recall_1000": "Recall@1000", "map": "MAP"}


def records(name):
    with gzip.open(SCIFACT / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def tokens(text):
    runs = regex.findall(r"[\p{Alphabetic}\p{N}]+", text)
    return ["".join(c.lower() for c in run) for run in runs if len(run.encode()) < 40]


def qrels():
    judged = {}
    for line in (SCIFACT / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, doc, grade = line.split("\t")
        judged.setdefault(query, {})[doc] = int(grade)
    return judged


def byte_lengths():
    """The 256 lengths one byte can stand for (Lucene's SmallFloat.byte4ToInt)."""
    def long_of_int4(code):
        bits, shift = code & 0x07, (code >> 3) - 1
        return bits if shift == -1 else (bits | 0x08) << shift

    def int4_of_long(value):
        n_bits = value.bit_length()
        if n_bits < 4:
            return value
        shift = n_bits - 4
        return ((value >> shift) & 0x07) | (shift + 1) << 3

    free = 255 - int4_of_long(2**31 - 1)
    return np.array([code if code < free else free + long_of_int4(code - free)
                     for code in range(256)])


class Bm25:
    """Plain arrays: a posting list of documents and frequencies for each token."""

    def __init__(self, documents):
        lists = {}
        for doc, words in enumerate(documents):
            for word in words:
                frequencies = lists.setdefault(word, {})
                frequencies[doc] = frequencies.get(doc, 0) + 1
        self.lists = {word: (np.array(list(f)), np.array(list(f.values()), dtype=np.float64))
                      for word, f in lists.items()}
        self.exact = np.array([len(words) for words in documents])
        table = byte_lengths()
        self.lossy = table[np.searchsorted(table, self.exact, side="right") - 1]
        self.average = self.exact.mean()

    def scores(self, words, lengths):
        scores = np.zeros(len(lengths))
        saturation = K1 * (1 - B + B * lengths / self.average)
        for word in words:
            if word in self.lists:
                docs, frequencies = self.lists[word]
                idf = np.log(1 + (len(lengths) - len(docs) + 0.5) / (len(docs) + 0.5))
                scores[docs] += idf * (K1 + 1) * frequencies / (frequencies + saturation[docs])
        return scores


def run(ids, queries, score):
    ranked = {}
    for query, words in queries.items():
        scores = score(words)
        best = np.argsort(-scores, kind="stable")[:DEPTH]
        ranked[query] = {ids[doc]: float(scores[doc]) for doc in best if scores[doc] > 0}
    return ranked


def judge(name, judged, ranked):
    evaluator = pytrec_eval.RelevanceEvaluator(judged, set(MEASURES))
    by_query = evaluator.evaluate(ranked)
    means = {key: np.mean([by_query[query][key] for query in judged]) for key in MEASURES}
    print(f"{name:<38}" + "  ".join(f"{MEASURES[key]} {means[key]:.6f}" for key in MEASURES))


def main():
    corpus = records("corpus.jsonl.gz")
    ids = [document["_id"] for document in corpus]
    documents = [tokens(document["title"]) + tokens(document["text"]) for document in corpus]
    judged = qrels()
    queries = {query["_id"]: tokens(query["text"]) for query in records("queries.jsonl.gz")}
    queries = {query: words for query, words in queries.items() if query in judged}

    bm25 = Bm25(documents)
    judge("this script, lengths in one byte", judged,
          run(ids, queries, lambda words: bm25.scores(words, bm25.lossy)))
    judge("this script, exact lengths", judged,
          run(ids, queries, lambda words: bm25.scores(words, bm25.exact)))

    peer = bm25s.BM25(method="lucene", k1=K1, b=B, dtype="float64")
    peer.index(documents, show_progress=False)
    known = lambda words: [word for word in words if word in bm25.lists]
    judge("bm25s, exact lengths", judged,
          run(ids, queries, lambda words: peer.get_scores(known(words)).astype(np.float64)))


if __name__ == "__main__":
    main()
