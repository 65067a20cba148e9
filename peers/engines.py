"""The peers, one class each: build or load an index, then one search function a configuration.

A search function takes a query number and k, and returns document numbers, best first. Whatever
can be made before the clock starts is made in `__init__`. An engine in a process of its own gives
its search functions an attribute `ask`, which does what `ask` of run.py does.
"""

import ctypes
import glob
import importlib.util
import json
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np


class Bmp:
    """Block-max pruning (Mallia, Suel and Tonellotto, SIGIR 2024)."""

    def __init__(self, collection, work):
        from bmp import Searcher, ciff2bmp

        self.queries = collection.as_dicts(float)
        self.configurations, self.bytes = {}, {}
        for block in (16, 32):
            index = work / f"bmp-{block}"
            if not index.exists():
                ciff = str(collection.folder / "collection.ciff")
                ciff2bmp(ciff_file=ciff, output=str(index), bsize=block, compress_range=False)
            name = f"bmp block {block}"
            self.configurations[name] = self.search_with(Searcher(str(index)))
            self.bytes[name] = size_of(index)

    def search_with(self, searcher):
        return lambda query, k: searcher.search(self.queries[query], k=k, alpha=1.0, beta=1.0)[0]


class Pisa:
    """PISA through the extension module of pyterrier-pisa, without PyTerrier."""

    def __init__(self, collection, work):
        self.module = load_pisathon()
        index = work / "pisa"
        if not index.exists():
            self.prepare(collection.folder, index)
        self.context = self.module.RetrievalContext()
        self.module.prepare_index(self.context, str(index), "block_simdbp", "quantized", "")
        # The module wants its queries as an iterable of (number, {term: weight}).
        self.queries = [[(0, query)] for query in collection.as_dicts(float)]
        self.buffers = {}
        algorithms = ("ranked_or_taat", "maxscore", "block_max_wand")
        self.configurations = {f"pisa {name}": self.search_with(name) for name in algorithms}
        size = sum(size_of(path) for path in index.glob("quantized*"))
        self.bytes = dict.fromkeys(self.configurations, size)

    def prepare(self, folder, index):
        index.mkdir()
        for kind in ("docs", "freqs", "sizes"):
            (index / f"inv.{kind}").symlink_to((folder / f"collection.{kind}").resolve())
        for kind, lexicon in (("terms", "termlex"), ("documents", "doclex")):
            source = str((folder / f"collection.{kind}").resolve())
            self.module.build_binlex(source, str(index / f"fwd.{lexicon}"))

    def search_with(self, algorithm):
        def search(query, k):
            if k not in self.buffers:
                kinds = {"qidxs": np.int32, "docnos": object, "ranks": np.int32, "scores": np.float32}
                self.buffers[k] = {f"result_{n}": np.empty(k, kind) for n, kind in kinds.items()}
            found = self.module.retrieve(
                self.context, algorithm, self.queries[query], k=k, threads=1, pretokenised=1,
                query_weighted=1, **self.buffers[k],
            )
            return self.buffers[k]["result_docnos"][:found]

        return search


class Seismic:
    """Seismic (Bruch, Nardini, Rulli and Venturini, SIGIR 2024)."""

    def __init__(self, collection, work):
        from seismic import SeismicIndex, get_seismic_string

        saved = work / "seismic"
        file = Path(f"{saved}.index.seismic")
        if file.exists():
            self.index = SeismicIndex.load(str(file))
        else:
            docs, _ = collection.write_text(work)
            self.index = SeismicIndex.build(str(docs), load_content=False)
            self.index.save(str(saved))
        kind = get_seismic_string()
        self.queries = [
            (np.array(list(query), dtype=kind), np.array(list(query.values()), np.float32))
            for query in collection.as_dicts(float)
        ]
        self.configurations = {
            f"seismic cut {cut}": self.search_with(cut, heap_factor)
            for cut, heap_factor in ((5, 0.7), (10, 0.8), (40, 0.9))
        }
        self.bytes = dict.fromkeys(self.configurations, size_of(file))

    def search_with(self, cut, heap_factor):
        def search(query, k):
            terms, weights = self.queries[query]
            hits = self.index.search(
                query_id="0", query_components=terms, query_values=weights, k=k, query_cut=cut,
                heap_factor=heap_factor,
            )
            return [hit[2] for hit in hits]

        return search


class Vsag:
    """SINDI of VSAG: windowed accumulation over an inverted index in memory."""

    def __init__(self, collection, work):
        import pyvsag

        self.queries = [
            (np.array([0, len(t)], np.uint32), t.astype(np.uint32), w.astype(np.float32))
            for t, w in collection.queries
        ]
        self.configurations, self.bytes = {}, {}
        for name, is_quantized in (("vsag sindi", False), ("vsag sindi 8 bits", True)):
            index = pyvsag.Index("sindi", self.parameters(collection, is_quantized))
            index.build(
                index_pointers=collection.indptr.astype(np.uint32),
                indices=collection.terms.astype(np.uint32),
                values=collection.impacts.astype(np.float32),
                ids=np.arange(collection.n_docs, dtype=np.int64),
            )
            file = work / name.replace(" ", "-")
            index.save(str(file))
            self.configurations[name] = self.search_with(index)
            self.bytes[name] = size_of(file)

    def parameters(self, collection, is_quantized):
        index = {
            "term_id_limit": int(collection.terms.max()) + 1,
            "window_size": 50000,
            "doc_prune_ratio": 0.0,
            "use_quantization": is_quantized,
            "use_reorder": False,
            "avg_doc_term_length": len(collection.terms) // collection.n_docs + 1,
        }
        dim = int(np.diff(collection.indptr).max())
        return json.dumps({"dtype": "sparse", "metric_type": "ip", "dim": dim, "index_param": index})

    def search_with(self, index):
        def search(query, k):
            pointers, terms, weights = self.queries[query]
            sindi = {"n_candidate": k, "query_prune_ratio": 0.0, "term_prune_ratio": 0.0}
            return index.knn_search(
                index_pointers=pointers, indices=terms, values=weights, k=k,
                parameters=json.dumps({"sindi": sindi}),
            )[0].ravel()

        return search


class Lucene:
    """Lucene in a Java process, Lucene.java: an impact is a term frequency."""

    def __init__(self, collection, work):
        index = work / "lucene"
        _, queries = collection.write_text(work)
        if not index.exists():
            subprocess.run(self.java("index", index), input=self.pack(collection), check=True)
        self.process = subprocess.Popen(
            self.java("search", index, queries),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self.cpu_time = cpu_clock_of(self.process.pid)
        methods = ("maxscore", "exhaustive")
        self.configurations = {f"lucene {name}": self.search_with(name) for name in methods}
        self.bytes = dict.fromkeys(self.configurations, size_of(index))
        self.warm_up(len(collection.queries))

    def java(self, *arguments):
        jars = glob.glob(sys.prefix + "/lib/anserini-*-fatjar.jar")
        if not jars:
            raise ImportError("pyserini's jar is not in the lib folder of the environment")
        source = Path(__file__).with_name("Lucene.java")
        options = ("-Xms2g", "-Xmx4g", "-XX:+UseSerialGC", "-cp", jars[0])
        return ["java", *options, str(source), *map(str, arguments)]

    def pack(self, collection):
        """The number of documents, their lengths, and a term and its impact in every integer."""
        postings = collection.terms.astype(np.int32) << 8 | collection.impacts
        parts = [[collection.n_docs], np.diff(collection.indptr), postings]
        return b"".join(np.asarray(part).astype(">i4").tobytes() for part in parts)

    def search_with(self, method):
        def search(query, k):
            return self.answer(method, query, query + 1, k)

        def ask(k, n_queries):
            wall, cpu = time.perf_counter(), self.cpu_time()
            self.answer(method, 0, n_queries, k)
            return [
                1e3 * (time.perf_counter() - wall) / n_queries,
                1e3 * (self.cpu_time() - cpu) / n_queries,
            ]

        search.ask = ask
        return search

    def answer(self, *line):
        self.process.stdin.write(" ".join(map(str, line)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def warm_up(self, n_queries):
        """Java compiles what runs often: times settle after some 2,000 queries of a kind."""
        for _ in range(2000 // n_queries + 1):
            for search in self.configurations.values():
                for k in (10, 1000):
                    search.ask(k, n_queries)


class Qdrant:
    """Qdrant's sparse index in this process; 16-bit floats hold these impacts exactly, too."""

    def __init__(self, collection, work):
        import qdrant_edge

        self.module = qdrant_edge
        queries = [(terms.tolist(), weights.tolist()) for terms, weights in collection.queries]
        self.queries = [self.nearest(*query) for query in queries]
        self.requests, self.configurations, self.bytes = {}, {}, {}
        for name, kind in (("qdrant", "Float32"), ("qdrant 16 bits", "Float16")):
            index = work / name.replace(" ", "-")
            if not index.exists():
                self.build(collection, index, getattr(qdrant_edge.VectorStorageDatatype, kind))
            shard = qdrant_edge.EdgeShard.load(str(index))
            self.configurations[name] = self.search_with(shard)
            self.bytes[name] = sum(size_of(path) for path in index.rglob("vector_index-*"))

    def nearest(self, terms, weights):
        return self.module.Query.Nearest(self.module.SparseVector(terms, weights), using="v")

    def build(self, collection, index, datatype):
        parameters = self.module.EdgeSparseVectorParams(full_scan_threshold=0, datatype=datatype)
        optimizers = self.module.EdgeOptimizersConfig(
            default_segment_number=1, max_segment_size=100_000_000, indexing_threshold=1
        )
        config = self.module.EdgeConfig(
            sparse_vectors={"v": parameters}, optimizers=optimizers, max_search_threads=1,
            wal_enabled=False,
        )
        index.mkdir()
        shard = self.module.EdgeShard.create(str(index), config)
        for first in range(0, collection.n_docs, 1000):
            docs = range(first, min(first + 1000, collection.n_docs))
            points = [self.point(collection, doc) for doc in docs]
            shard.update(self.module.UpdateOperation.upsert_points(points))
        shard.optimize()
        shard.close()

    def point(self, collection, doc):
        span = slice(collection.indptr[doc], collection.indptr[doc + 1])
        terms, impacts = collection.terms[span].tolist(), collection.impacts[span].tolist()
        return self.module.Point(doc, {"v": self.module.SparseVector(terms, impacts)})

    def search_with(self, shard):
        def search(query, k):
            if k not in self.requests:
                self.requests[k] = [self.module.SearchRequest(query, k) for query in self.queries]
            return [hit.id for hit in shard.search(self.requests[k][query])]

        return search


ENGINES = {
    "bmp": Bmp, "pisa": Pisa, "seismic": Seismic, "vsag": Vsag, "lucene": Lucene, "qdrant": Qdrant,
}


def load_pisathon():
    """pyterrier_pisa imports PyTerrier and Java with it; the module inside needs TBB alone."""
    ctypes.CDLL(str(Path(sys.prefix) / "lib/libtbb.so.2"), mode=ctypes.RTLD_GLOBAL)
    pattern = sysconfig.get_paths()["platlib"] + "/pyterrier_pisa/_pisathon*.so"
    files = glob.glob(pattern)
    if not files:
        raise ImportError("pyterrier-pisa is not installed")
    spec = importlib.util.spec_from_file_location("_pisathon", files[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cpu_clock_of(pid):
    """What time.process_time() is, of another process."""
    clock = ctypes.c_int()
    ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    return lambda: time.clock_gettime(clock.value)


def size_of(path):
    path = Path(path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
