#!/usr/bin/env python3
"""Writes trec_eval_golden.json: random judgments and runs with the figures trec_eval gives them.

    python3 -m venv venv && venv/bin/pip install pytrec-eval-terrier==0.5.11
    venv/bin/python cli/tests/data/make_trec_eval_golden.py

`cli/tests/trec_eval.rs` compares laconic's figures with these. The runs have ties, queries that
nobody judged, judged queries that were not asked, queries without relevant documents; judgments
are graded from -2 to 4. `--n-queries` and `--out` make other, larger files for the same test,
which reads the file named by LACONIC_TREC_EVAL_GOLDEN instead where that is set.
"""

import argparse
import json
import pathlib
import random
import struct

import pytrec_eval

MEASURES = {"ndcg_cut_10", "map", "recall_100", "recall_1000"}
PREFIXES = ["d", "D", "doc-", "é", "Ġ", "\U0001f600"]


def as_f32(number):
    return struct.unpack("f", struct.pack("f", number))[0]


def scores(rng, n_hits):
    """Few different scores, so that there are ties; or many."""
    style = rng.randrange(4)
    if style == 0:
        return [float(rng.randrange(1, 6)) for _ in range(n_hits)]
    if style == 1:
        return [rng.randrange(-8, 8) / 8 for _ in range(n_hits)]
    if style == 2:
        # Different in 64 bits, some equal in 32
        return [1.0 + rng.randrange(20) * 1e-8 for _ in range(n_hits)]
    return [as_f32(rng.lognormvariate(0, 3)) for _ in range(n_hits)]


def query(rng, n_hits):
    pool = [f"{rng.choice(PREFIXES)}{number}" for number in range(int(n_hits * 1.5) + 5)]
    grades = rng.choice([[1], [0, 1], [-2, -1, 0], [0, 0, 1, 2, 3], [-2, -1, 0, 1, 2, 3, 4]])
    n_judged = rng.randrange(1, min(len(pool), 60))
    judged = {doc: rng.choice(grades) for doc in rng.sample(pool, n_judged)}
    if max(judged.values()) < 0:
        # trec_eval counts grades in an array that ends at the largest one: it would crash.
        judged[max(judged)] = 0
    hits = rng.sample(pool, n_hits)
    return judged, dict(zip(hits, scores(rng, n_hits)))


def collection(rng, n_queries):
    qrels, run = {}, {}
    for number in range(n_queries):
        n_hits = rng.choice([1, 3, 9, 10, 11, 40, 40, 99, 101])
        if number % 60 == 0:
            n_hits = 1100
        judged, hits = query(rng, n_hits)
        fate = rng.random()
        if fate > 0.1:
            qrels[f"q{number}"] = judged
        if fate < 0.9:
            run[f"q{number}"] = hits
    return qrels, run


def cut(hits, k):
    """The first k hits in trec_eval's order, ties by falling id; its scores have 32 bits."""
    order = sorted(hits, key=lambda doc: (as_f32(hits[doc]), doc.encode()), reverse=True)
    return {doc: hits[doc] for doc in order[:k]}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--n-queries", type=int, default=60)
    arguments.add_argument("--seed", type=int, default=20240607)
    here = pathlib.Path(__file__).resolve().parent
    arguments.add_argument("--out", type=pathlib.Path, default=here / "trec_eval_golden.json")
    arguments = arguments.parse_args()

    qrels, run = collection(random.Random(arguments.seed), arguments.n_queries)
    figures = pytrec_eval.RelevanceEvaluator(qrels, MEASURES).evaluate(run)
    first_10 = {query: cut(hits, 10) for query, hits in run.items()}
    ranks = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(first_10)
    for query_id, measures in figures.items():
        measures["mrr_10"] = ranks[query_id]["recip_rank"]
    content = {"qrels": qrels, "run": run, "figures": figures}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    arguments.out.write_text(text.replace("},", "},\n") + "\n", encoding="utf-8")
    print(f"{len(figures)} of {len(run)} queries asked are judged: {arguments.out}")


if __name__ == "__main__":
    main()
