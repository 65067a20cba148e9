#!/usr/bin/env python3
"""Compares what `laconic eval` prints with trec_eval's figures for the same run file.

    python3 -m venv venv && venv/bin/pip install pytrec-eval-terrier
    laconic eval … --qrels test.tsv --run run.trec --json > printed.json
    venv/bin/python tests/reference/compare_with_trec_eval.py test.tsv run.trec printed.json

Ends with 1 if a figure differs in the first 4 decimals. trec_eval has no MRR@10: it is the
`recip_rank` of the first 10 hits, in trec_eval's order (score, then document id, descending).
Queries without hits are in no run file; they count as 0 here (`trec_eval -c`), as in `laconic`.

Measured with pytrec-eval-terrier 0.5.11:

    arguana-debates, SPLADE-v3 vectors, self excluded: nDCG@10 0.759338, Recall@100 0.971053,
        Recall@1000 0.999890, MAP 0.718884, MRR@10 0.873217; largest difference 7.8e-16
    SciFact, BM25: nDCG@10 0.661873, Recall@100 0.885889, Recall@1000 0.963889, MAP 0.622777,
        MRR@10 0.629996; largest difference 4.4e-16
    SciFact, tiny checkpoint: nDCG@10 0.505413, Recall@100 0.747889, Recall@1000 0.926333,
        MAP 0.473802, MRR@10 0.478362; largest difference 2.2e-16
"""

import json
import sys

import pytrec_eval

MEASURES = {"nDCG@10": "ndcg_cut_10", "Recall@100": "recall_100", "Recall@1000": "recall_1000",
            "MAP": "map"}


def read_qrels(path):
    judged = {}
    for line in open(path, encoding="utf-8"):
        columns = line.split()
        if columns[-1].lstrip("-").isdigit():
            judged.setdefault(columns[0], {})[columns[-2]] = int(columns[-1])
    return judged


def read_run(path):
    run = {}
    for line in open(path, encoding="utf-8"):
        query, _, doc, _, score, _ = line.split()
        run.setdefault(query, {})[doc] = float(score)
    return run


def first_ten(hits):
    return dict(sorted(hits.items(), key=lambda hit: (hit[1], hit[0]), reverse=True)[:10])


def mean(judged, run, measure):
    by_query = pytrec_eval.RelevanceEvaluator(judged, {measure}).evaluate(run)
    total = sum(by_query.get(query, {}).get(measure, 0.0) for query in judged)
    return total / len(judged)


def main(qrels_path, run_path, printed_path):
    judged, run = read_qrels(qrels_path), read_run(run_path)
    printed = json.load(open(printed_path, encoding="utf-8"))
    theirs = {name: mean(judged, run, measure) for name, measure in MEASURES.items()}
    theirs["MRR@10"] = mean(judged, {q: first_ten(h) for q, h in run.items()}, "recip_rank")
    worst = max(abs(theirs[name] - printed[name]) for name in theirs)
    for name, value in theirs.items():
        print(f"{name:<12} trec_eval {value:.6f}  laconic {printed[name]:.6f}")
    print(f"largest difference {worst:.1e}")
    return int(worst >= 0.5e-4)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
