"""The collection all engines get: integer impacts in numpy's CSR form, and the exact answers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np


class Collection:
    """Documents and queries of a folder as gen_sparse.py writes it."""

    def __init__(self, folder, n_queries):
        self.folder = Path(folder)
        docs = np.load(self.folder / "docs.csr.npz")
        self.indptr, self.terms, self.impacts = docs["indptr"], docs["indices"], docs["data"]
        queries = np.load(self.folder / "queries.csr.npz")
        bounds = queries["indptr"][: n_queries + 1]
        self.queries = [
            (queries["indices"][start:end], queries["data"][start:end])
            for start, end in zip(bounds[:-1], bounds[1:])
        ]

    @property
    def n_docs(self):
        return len(self.indptr) - 1

    def as_dicts(self, to_number):
        """Queries as {term: weight}."""
        return [
            {f"t{term}": to_number(weight) for term, weight in zip(*query)} for query in self.queries
        ]

    def write_text(self, work):
        """docs.jsonl and queries.tsv, for engines that read text."""
        docs, queries = self.folder / "docs.jsonl", work / f"queries-{len(self.queries)}.tsv"
        if not docs.exists():
            docs = work / "docs.jsonl"
        if not docs.exists():
            with open(docs, "w") as file:
                for idx in range(self.n_docs):
                    span = slice(self.indptr[idx], self.indptr[idx + 1])
                    pairs = zip(self.terms[span].tolist(), self.impacts[span].tolist())
                    vector = {f"t{term}": impact for term, impact in pairs}
                    file.write(json.dumps({"id": idx, "vector": vector}) + "\n")
        with open(queries, "w") as file:
            for idx, query in enumerate(self.as_dicts(int)):
                pairs = " ".join(f"{term}:{weight}" for term, weight in query.items())
                file.write(f"{idx}\t{pairs}\n")
        return docs, queries

    def exact(self, k):
        """The k largest scores of each query, and the documents that reach the last of them."""
        by_term = np.argsort(self.terms, kind="stable")
        doc_of = np.repeat(np.arange(self.n_docs, dtype=np.int32), np.diff(self.indptr))[by_term]
        impacts = self.impacts[by_term].astype(np.int32)
        starts = np.searchsorted(self.terms[by_term], np.arange(self.terms.max() + 2))
        answers = []
        for terms, weights in self.queries:
            scores = np.zeros(self.n_docs, np.int32)
            for term, weight in zip(terms.tolist(), weights.tolist()):
                if term + 1 < len(starts):
                    span = slice(starts[term], starts[term + 1])
                    scores[doc_of[span]] += impacts[span] * weight
            best = np.sort(scores[np.argpartition(-scores, min(k, len(scores) - 1))[:k]])[::-1]
            answers.append((best[best > 0], scores))
        return answers


def make(folder, generator, n_docs, order):
    """Runs the generator unless the folder is filled."""
    if (Path(folder) / "docs.csr.npz").exists():
        return
    if generator is None:
        sys.exit(f"{folder} holds no collection; name the generator with --make")
    arguments = f"--out {folder} --docs {n_docs} --queries 1000 --order {order} --jsonl --ciff --pisa"
    subprocess.run([sys.executable, generator, *arguments.split()], check=True)
