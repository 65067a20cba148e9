"""Indexes made by Tantivy's Python package, of this version and older ones, get vectors.

Called by `tests/cluster/run` with the binary and the Pythons that have the packages. The ids are
neither stored nor fast, so they are found in the term dictionary. The newest package, in which this
runs, compares what every query finds before and after.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import tantivy

N_DOCS = 500
DELETED = range(0, N_DOCS, 7)


def main():
    if sys.argv[1] == "make":
        return make(Path(sys.argv[2]))
    binary = Path(sys.argv[1]).resolve()
    for python in sys.argv[2:]:
        folder = Path(tempfile.mkdtemp(prefix="laconic-python-"))
        try:
            made = subprocess.run([python, __file__, "make", folder / "shop"], capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
            compare(binary, folder, made.stdout.strip())
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def make(path):
    path.mkdir()
    schema = tantivy.SchemaBuilder()
    schema.add_text_field("sku", tokenizer_name="raw", index_option="basic")
    schema.add_text_field("title", stored=True)
    schema.add_text_field("body", tokenizer_name="en_stem")
    schema.add_unsigned_field("number", stored=True, fast=True, indexed=True)
    schema.add_float_field("price", fast=True)
    schema.add_boolean_field("sold", indexed=True)
    schema.add_date_field("made", stored=True, indexed=True, fast=True)
    schema.add_facet_field("kind")
    schema.add_json_field("more", stored=True)
    schema.add_bytes_field("raw")
    index = tantivy.Index(schema.build(), path=str(path))
    writer = index.writer(heap_size=15_000_000, num_threads=1)
    for number in range(N_DOCS):
        document = tantivy.Document()
        document.add_text("sku", f"s{number}")
        document.add_text("title", f"Title {number % 13} of many")
        document.add_text("body", f"running stores of {number % 17} words " * (1 + number % 3))
        document.add_unsigned("number", number)
        document.add_float("price", number / 3)
        document.add_boolean("sold", number % 2 == 0)
        document.add_date("made", datetime.fromtimestamp(1_600_000_000 + number, timezone.utc))
        document.add_facet("kind", tantivy.Facet.from_string(f"/top/{number % 5}"))
        document.add_json("more", json.dumps({"a": {"b": f"deep{number % 4}"}}))
        document.add_bytes("raw", bytes([number % 256]))
        writer.add_document(document)
        if number in (200, 300):
            writer.commit()
    writer.commit()
    for number in DELETED:
        writer.delete_documents("sku", f"s{number}")
    writer.commit()
    writer.wait_merging_threads()
    print(tantivy.__version__)


def compare(binary, folder, version):
    def laconic(line):
        done = subprocess.run([binary, *line.split(), "--json"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return json.loads(done.stdout)

    vector = lambda number: {"all": 1.0, f"t{number % 9}": 0.5 + number % 4}
    lines = [json.dumps({"_id": f"s{number}", "vector": vector(number)}) for number in range(N_DOCS)]
    (folder / "vectors.jsonl").write_text("\n".join(lines))
    before = {path.name: path.read_bytes() for path in (folder / "shop").iterdir()}
    report = laconic("reindex shop new --vectors vectors.jsonl --id-field sku")
    assert report["documents"] == N_DOCS - len(DELETED), report
    assert report["postings"] == 2 * report["documents"], report
    assert laconic("check --index new")["clean"] is True
    assert {path.name: path.read_bytes() for path in (folder / "shop").iterdir()} == before
    n_found = 0
    for query in ["title:many", 'body:"stores of 3"', "body:run", "sku:s44", "sold:true", "number:[10 TO 90]", "more.a.b:deep2"]:
        old, new = found(folder / "shop", query), found(folder / "new", query)
        assert old == new, (query, old[:3], new[:3])
        n_found += len(old)
    assert n_found > N_DOCS, n_found
    print(f"ok: an index of {version}, {report['segments']} segments")


def found(path, query):
    index = tantivy.Index.open(str(path))
    searcher = index.searcher()
    hits = searcher.search(index.parse_query(query, ["title"]), 1000).hits
    stored = [(score, searcher.doc(address).to_dict()) for score, address in hits]
    assert stored, query
    return stored


if __name__ == "__main__":
    main()
