"""The peers, one class each: build or load an index, then one search function a configuration.

A search function takes a query number and k, and returns document numbers, best first. Whatever
can be made before the clock starts is made in `__init__`.
"""

import ctypes
import glob
import importlib.util
import json
import sys
import sysconfig
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


ENGINES = {"bmp": Bmp, "pisa": Pisa, "seismic": Seismic, "vsag": Vsag}


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


def size_of(path):
    path = Path(path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
