#!/usr/bin/env python3
"""Asks laconic and its peers the same queries, in turns, and prints one table of ratios."""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from collection import Collection, make
from engines import ENGINES


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of the collection")
    parser.add_argument("--make", help="gen_sparse.py, to make the collection if it is not there")
    parser.add_argument("--docs", type=int, default=200_000, help="documents to make")
    parser.add_argument("--order", choices=["random", "topic"], default="random")
    parser.add_argument("--laconic", default="laconic", help="the binary")
    parser.add_argument("--methods", default="laconic,exhaustive,plain", help="of laconic bench")
    parser.add_argument("--bisected", action="store_true", help="let laconic reorder its index")
    parser.add_argument("--peers", default=",".join(ENGINES), help="which, by name")
    parser.add_argument("--k", default="10,1000")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", help="folder for indexes [default: peers in --data]")
    parser.add_argument("--json", help="write the figures into this file")
    return parser.parse_args()


@contextlib.contextmanager
def silent_stdout():
    """The engines' own lines, which their C and Rust parts print, go to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@silent_stdout()
def load(names, collection, work):
    """The engines that can be had, with a line for each that cannot."""
    engines = []
    for name in names:
        try:
            start = time.perf_counter()
            engines.append(ENGINES[name](collection, work))
            print(f"{name}: ready after {time.perf_counter() - start:.1f} s", file=sys.stderr)
        except (ImportError, OSError) as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
    return engines


def recall(search, k, answers):
    """Mean share of the exact k best among what is found; ties are as good as each other."""
    shares = []
    for query, (best, scores) in enumerate(answers):
        if len(best):
            found = {int(doc) for doc in search(query, k)}
            good = sum(scores[doc] >= best[-1] for doc in found)
            shares.append(min(1.0, good / len(best)))
    return statistics.fmean(shares)


def ask(search, k, n_queries):
    """Mean wall and CPU milliseconds a query. An engine's own threads count."""
    if hasattr(search, "ask"):
        return search.ask(k, n_queries)
    wall, cpu = time.perf_counter(), time.process_time()
    for query in range(n_queries):
        search(query, k)
    return [
        1e3 * (time.perf_counter() - wall) / n_queries,
        1e3 * (time.process_time() - cpu) / n_queries,
    ]


def ask_laconic(options, files, depths, work):
    docs, queries = files
    command = [
        options.laconic, "bench", "--json", "--quiet", "--vectors", docs, "--vector-scale", "64",
        "--query-vectors", queries, "--queries", str(options.queries), "--rounds", "1",
        "--k", ",".join(map(str, depths)), "--methods", options.methods, "--dir", work / "laconic",
    ]
    if options.bisected:
        command += ["--order", "bisected"]
    output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return json.loads(output.stdout)["collections"][0]


def add_laconic(rows, report):
    for point in report["results"]:
        for method in point["methods"]:
            times = [method["mean_ms"], method["cpu_mean_ms"]]
            row = rows.setdefault((method["method"], point["k"]), {"times": []})
            row["times"].append(times)
            row["recall"] = method["recall"]
            row["bytes"] = sum(report["index"]["bytes"].values())


def table(rows, depths):
    figures = []
    for (name, k), row in rows.items():
        wall, cpu = (statistics.median(times) for times in zip(*row["times"]))
        base = statistics.median(times[1] for times in rows["laconic", k]["times"])
        figures.append({
            "engine": name, "k": k, "mean_ms": wall, "cpu_mean_ms": cpu, "ratio": cpu / base,
            "recall": row["recall"], "megabytes": row["bytes"] / 1e6,
        })
    for k in depths:
        print(f"\nk {k}\n{'engine':<22}{'mean ms':>10}{'CPU ms':>10}{'ratio':>8}{'recall':>9}{'MB':>8}")
        for row in sorted((r for r in figures if r["k"] == k), key=lambda r: r["cpu_mean_ms"]):
            print(
                f"{row['engine']:<22}{row['mean_ms']:>10.3f}{row['cpu_mean_ms']:>10.3f}"
                f"{row['ratio']:>8.2f}{row['recall']:>9.4f}{row['megabytes']:>8.0f}"
            )
    return figures


def main():
    options = arguments()
    depths = [int(k) for k in options.k.split(",")]
    make(options.data, options.make, options.docs, options.order)
    collection = Collection(options.data, options.queries)
    options.queries = len(collection.queries)
    work = Path(options.work or Path(options.data) / "peers")
    work.mkdir(parents=True, exist_ok=True)
    files = collection.write_text(work)
    engines = load(options.peers.split(","), collection, work)
    searches = {name: search for e in engines for name, search in e.configurations.items()}
    sizes = {name: size for e in engines for name, size in e.bytes.items()}
    rows = {}
    for k in depths:
        answers = collection.exact(k)
        for name, search in searches.items():
            found = recall(search, k, answers)
            rows[name, k] = {"times": [], "recall": found, "bytes": sizes[name]}
    ask_laconic(options, files, depths[:1], work)  # builds the index
    for round_number in range(options.rounds):
        for k in depths:
            for name, search in searches.items():
                rows[name, k]["times"].append(ask(search, k, options.queries))
        add_laconic(rows, ask_laconic(options, files, depths, work))
        print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr)
    figures = table(rows, depths)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
