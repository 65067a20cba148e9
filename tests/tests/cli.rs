//! Every sub-command as a user calls it: what it prints where, and how it ends.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use laconic_cli::corpus::Corpus;
use laconic_tests::{Docs, Hit, Outcome, Scratch, gzip, scifact_docs, scratch, zstd};
use serde_json::{Value, json};

const DOCS: &str = r#"{"_id": "a", "title": "Bone density", "text": "vitamin D and bones", "year": 2020, "lang": "en", "source": {"journal": "Nature", "pages": {"first": 7}}, "tags": ["x", "y"], "open": true, "ratio": 0.5, "date": "2021-05-04T00:00:00Z"}
{"_id": "b", "title": "", "text": "posting lists and density", "year": 2018, "lang": "de"}
{"_id": "c", "text": "density of nothing here at all", "year": 2023, "tags": ["y"]}
"#;
const VECTORS: &str = r#"{"_id": "a", "vector": {"bone": 2.0, "density": 1.0}}
{"_id": "b", "vector": {"density": 1.5, "list": 1}}
{"_id": "c", "vector": {"density": 0.25}}
"#;
const QUERIES: &str = r#"{"_id": "q1", "vector": {"density": 1.0, "bone": 0.5, "unheard": 9}}
{"_id": "q2", "vector": {"list": 2}}
"#;

/// A folder with the three documents above in the index `idx`, with their vectors.
fn three_documents() -> Scratch {
    let scratch = scratch!();
    scratch.write("docs.jsonl", DOCS);
    scratch.write("vectors.jsonl", VECTORS);
    scratch.write("queries.jsonl", QUERIES);
    scratch
        .laconic("index --index idx --docs docs.jsonl --vectors vectors.jsonl")
        .succeeds()
        .silently();
    scratch
}

fn hit(query: &str, doc: &str, score: f32) -> Hit {
    Hit {
        query: query.to_owned(),
        doc: doc.to_owned(),
        score,
    }
}

/// Documents and scores in an order that does not depend on how equal scores are ordered.
fn ranked(outcome: &Outcome) -> Vec<Hit> {
    let mut hits = outcome.hits();
    hits.sort_by(|a, b| {
        let by_score = b.score.total_cmp(&a.score);
        a.query
            .cmp(&b.query)
            .then(by_score)
            .then_with(|| a.doc.cmp(&b.doc))
    });
    hits
}

/// The same documents for the same queries with scores equal to six digits.
#[track_caller]
fn assert_same_scores(found: &[Hit], expected: &[Hit]) {
    let by_name = |hits: &[Hit]| -> BTreeMap<(String, String), f32> {
        hits.iter()
            .map(|hit| ((hit.query.clone(), hit.doc.clone()), hit.score))
            .collect()
    };
    let (found, expected) = (by_name(found), by_name(expected));
    assert!(
        found.keys().eq(expected.keys()),
        "other documents are found"
    );
    for (name, score) in expected {
        assert!(
            (found[&name] - score).abs() <= 1e-5 * score,
            "{name:?}: {} {score}",
            found[&name]
        );
    }
}

#[test]
fn sparse_search_scores_the_dot_product_in_every_format() {
    let scratch = three_documents();
    let search = "search --index idx --query-vectors queries.jsonl";
    let trec = scratch
        .laconic(&format!("{search} --format trec"))
        .succeeds()
        .silently();
    let expected = [
        hit("q1", "a", 2.0),
        hit("q1", "b", 1.5),
        hit("q1", "c", 0.25),
        hit("q2", "b", 2.0),
    ];
    assert_eq!(trec.hits(), expected);

    let json = scratch
        .laconic(&format!("{search} --format json"))
        .succeeds()
        .silently();
    assert_eq!(
        json.stdout,
        scratch
            .laconic(&format!("{search} --json"))
            .succeeds()
            .stdout
    );
    let lines = json.json_lines();
    let first = &lines[0];
    assert_eq!(first["query_id"], "q1");
    assert_eq!(
        first["hits"][0],
        json!({"rank": 1, "_id": "a", "score": 2.0, "title": "Bone density",
               "text": "vitamin D and bones"})
    );
    assert_eq!(first["hits"].as_array().unwrap().len(), 3);
    assert_eq!(lines[1]["hits"][0]["_id"], "b");

    let text = scratch.laconic(search).succeeds().silently().stdout;
    assert!(
        text.starts_with("# q1: (vector)\n   1  2.0000    a  Bone density\n"),
        "{text}"
    );
    assert!(
        text.contains("# q2: (vector)\n   1  2.0000    b  \n       posting lists"),
        "{text}"
    );
}

/// The reference runs beside the search; what was skipped is told on stderr.
#[test]
fn verify_compares_with_exhaustive_search() {
    let scratch = three_documents();
    let search = "search --index idx --query-vectors queries.jsonl --format trec";
    let plain = scratch.laconic(search).succeeds().stdout;
    for options in ["--verify", "--verify --threads 2", "--verify --quiet"] {
        let verified = scratch.laconic(&format!("{search} {options}")).succeeds();
        assert_eq!(verified.stdout, plain);
        let first = "query q1: its 3 hits equal exhaustive search, bit for bit; ";
        assert!(verified.stderr.starts_with(first), "{}", verified.stderr);
        assert_eq!(verified.stderr.lines().count(), 2);
    }
    let cut = scratch
        .laconic(&format!("{search} --verify --query-terms 1"))
        .succeeds();
    assert!(cut.stderr.contains("exact hits"), "{}", cut.stderr);
    let none = "query q1: its 0 hits equal exhaustive search";
    let filtered = scratch.laconic(&format!("{search} --verify --filter year:1"));
    assert!(filtered.exits(1).stderr.contains(none));
    scratch
        .laconic(&format!("{search} --overestimate 1.2 --filter year:1"))
        .exits(1);
    scratch
        .laconic(&format!("{search} --overestimate 0.5"))
        .exits(3);
    let words = scratch.laconic("search --index idx --mode bm25 density --verify");
    assert!(words.succeeds().stderr.contains("bit for bit"));
}

#[test]
fn k_cuts_the_list_and_may_exceed_it() {
    let scratch = three_documents();
    for (k, n_hits) in [(1, 1), (2, 2), (3, 3), (4, 3), (1_000_000, 3)] {
        let search = format!("search --index idx --mode bm25 density --format trec --k {k}");
        assert_eq!(scratch.laconic(&search).succeeds().hits().len(), n_hits);
        let short = search.replace("--k", "-k");
        assert_eq!(scratch.laconic(&short).succeeds().hits().len(), n_hits);
    }
}

#[test]
fn a_filter_restricts_the_hits_and_leaves_their_scores() {
    let scratch = three_documents();
    let search = "search --index idx --format trec";
    let sparse = format!("{search} --query-vectors queries.jsonl");
    let bm25 = format!("{search} --mode bm25 density");
    for (filter, expected) in [
        ("year:[2019 TO *]", "a c"),
        ("year:[2018 TO 2020}", "b"),
        ("year:>2018 AND year:<=2020", "a"),
        ("fields.year:[2019 TO *]", "a c"),
        ("year:2018", "b"),
        ("lang:de", "b"),
        ("lang: IN [de en]", "a b"),
        ("source.journal:nature", "a"),
        ("source.pages.first:7", "a"),
        ("source.pages.first:[6 TO 8]", "a"),
        ("source.pages.first:[8 TO 9]", ""),
        ("tags:y", "a c"),
        ("open:true", "a"),
        ("ratio:[0.4 TO 0.6]", "a"),
        ("date:[2021-01-01T00:00:00Z TO 2022-01-01T00:00:00Z]", "a"),
        ("title:bone", "a"),
        ("text:\"lists and density\"", "b"),
        ("vitamin", "a"),
        ("_id:b", "b"),
        ("_id:b OR _id:c", "b c"),
        ("* -lang:de", "a c"),
        ("(year:2018 OR year:[2022 TO *])^3", "b c"),
        ("nowhere:word", ""),
        ("year:[3000 TO *]", ""),
    ] {
        for search in [&sparse, &bm25] {
            let all = scratch.laconic(search).succeeds().hits();
            let kept: Vec<_> = all
                .into_iter()
                .filter(|hit| expected.contains(&hit.doc))
                .collect();
            let found = scratch
                .laconic(&format!("{search} --filter '{filter}'"))
                .silently();
            let code = i32::from(kept.is_empty());
            assert_eq!(found.exits(code).hits(), kept, "{filter}");
        }
    }
}

#[test]
fn a_filter_that_cannot_be_read_is_a_usage_error_that_shows_it() {
    let scratch = three_documents();
    for filter in ["year:[", "(lang:de", "text:[a TO", "-lang:de", "_id:\"b"] {
        let search = format!("search --index idx --mode bm25 density '--filter={filter}'");
        let outcome = scratch.laconic(&search.replace('"', "\u{201d}"));
        // A closing quotation mark is no syntax: that filter is a word that does not occur.
        if filter.contains('"') {
            outcome.exits(1);
        } else {
            outcome.fails(2, &["cannot read the filter", filter]);
        }
    }
}

#[test]
fn an_explanation_adds_up_to_the_score() {
    let scratch = three_documents();
    let search = "search --index idx --query-vectors queries.jsonl --explain";
    let json = scratch
        .laconic(&format!("{search} --json"))
        .succeeds()
        .json_lines();
    let term = |term: &str, impact: u8, document_weight: f64, query_weight: f64| {
        json!({"term": term, "readable": term, "impact": impact,
               "document_weight": document_weight, "query_weight": query_weight,
               "contribution": 1.0, "share": 0.5,
               "expansion": {"document": null, "query": null},
               "source": {"document": null, "query": null}})
    };
    let first = &json[0]["hits"][0]["explanation"];
    let terms = [term("bone", 16, 2.0, 0.5), term("density", 8, 1.0, 1.0)];
    assert_eq!(first["learned"], json!({"score": 2.0, "terms": terms}));
    assert_eq!(first["tantivy"][0]["value"], 2.0);
    assert_eq!(first["tantivy"][0]["details"].as_array().unwrap().len(), 2);
    assert_eq!((&first["snippets"], first.get("bm25")), (&json!([]), None));
    for line in json {
        for hit in line["hits"].as_array().unwrap() {
            let sum = |key: &str| -> f64 {
                let parts = hit["explanation"]["learned"]["terms"].as_array().unwrap();
                parts.iter().map(|part| part[key].as_f64().unwrap()).sum()
            };
            assert!(
                (sum("contribution") - hit["score"].as_f64().unwrap()).abs() < 1e-5,
                "{hit}"
            );
            assert!((sum("share") - 1.0).abs() < 1e-5, "{hit}");
        }
    }
    let plain = scratch.laconic("search --index idx --query-vectors queries.jsonl --json");
    assert!(
        plain.json_lines()[0]["hits"][0]
            .get("explanation")
            .is_none()
    );
}

#[test]
fn an_explanation_is_a_chart_in_the_characters_of_the_locale() {
    let scratch = three_documents();
    let search = "search --index idx --query-vectors queries.jsonl --explain";
    let chart = scratch
        .laconic_in("C.UTF-8", search)
        .succeeds()
        .silently()
        .stdout;
    let expected = "       learned-sparse 2.0000, sum of impact (weight) × query weight\n        \
                    50.0 % █████████ bone                16 (2.000) × 0.500 = 1.0000\n        \
                    50.0 % █████████ density              8 (1.000) × 1.000 = 1.0000\n";
    assert!(chart.contains(expected), "{chart}");
    assert!(chart.contains("is unknown without the encoder"), "{chart}");
    assert!(
        chart.lines().all(|line| line.chars().count() <= 100),
        "{chart}"
    );
    let ascii = scratch.laconic_in("C", search).succeeds().silently().stdout;
    assert!(ascii.contains("50.0 % ######### bone  "), "{ascii}");
    assert!(ascii.is_ascii(), "{ascii}");
}

#[test]
fn bm25_is_explained_by_its_clauses_with_the_words_in_the_text() {
    let scratch = three_documents();
    let search = "search --index idx --mode bm25 --explain 'Density of bone, density'";
    let json = scratch
        .laconic(&format!("{search} --json"))
        .succeeds()
        .json();
    let hit = &json["hits"][0];
    let explanation = &hit["explanation"];
    assert_eq!(
        (hit["_id"].as_str(), explanation.get("learned")),
        (Some("a"), None)
    );
    let clauses = explanation["bm25"]["clauses"].as_array().unwrap();
    let names: Vec<_> = clauses
        .iter()
        .map(|clause| clause["clause"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["text:bone", "text:density"]);
    assert_eq!(
        (&clauses[0]["boost"], &clauses[1]["boost"]),
        (&json!(1.0), &json!(2.0))
    );
    let score = hit["score"].as_f64().unwrap();
    let sum: f64 = clauses
        .iter()
        .map(|clause| clause["score"].as_f64().unwrap())
        .sum();
    assert!((sum - score).abs() < 1e-5 && explanation["bm25"]["score"] == hit["score"]);
    let tree = &explanation["tantivy"][0];
    assert_eq!(tree["value"], hit["score"]);
    assert!(tree.to_string().contains("idf"), "{tree}");
    assert_eq!(
        explanation["snippets"],
        json!([{"part": "title", "text": "Bone density", "bytes": [0, 12],
                "highlighted": [[0, 4], [5, 12]]}])
    );
    let text = scratch
        .laconic_in("C.UTF-8", search)
        .succeeds()
        .silently()
        .stdout;
    assert!(
        text.contains("       title: Bone density\n       BM25 "),
        "{text}"
    );
    assert!(text.contains(" (× 2)\n"), "{text}");
    assert!(
        !text.contains('\u{1b}') && !text.contains("**") && !text.contains("<b>"),
        "{text}"
    );
}

/// With the encoder at hand: which terms the texts do not have, and where weights come from.
#[test]
fn expansions_and_source_words_are_told_with_the_encoder() {
    let scratch = scratch!();
    scratch.write_checkpoint("ck", 0);
    scratch.write("docs.jsonl", scifact_docs(60));
    scratch
        .laconic("index --index idx --docs docs.jsonl --model ck")
        .succeeds();
    let search = "search --index idx --model ck --explain -k 3 'gene expression of the liver'";
    let json = scratch
        .laconic(&format!("{search} --json"))
        .succeeds()
        .json();
    let (mut n_from_own_word, mut n_expansions) = (0, 0);
    for hit in json["hits"].as_array().unwrap() {
        for term in hit["explanation"]["learned"]["terms"].as_array().unwrap() {
            let readable = term["readable"].as_str().unwrap().trim_start_matches('▁');
            for side in ["document", "query"] {
                let is_expansion = term["expansion"][side].as_bool().unwrap();
                n_expansions += usize::from(is_expansion);
                let source = &term["source"][side];
                let text = match source["part"].as_str().unwrap() {
                    "title" => hit["title"].as_str().unwrap(),
                    "body" => hit["text"].as_str().unwrap(),
                    "query" => json["query"].as_str().unwrap(),
                    _ => {
                        assert!(source["word"].is_null() && source["bytes"].is_null());
                        continue;
                    }
                };
                let place = |idx: usize| source["bytes"][idx].as_u64().unwrap();
                let place = usize::try_from(place(0)).unwrap()..usize::try_from(place(1)).unwrap();
                let token = &text[place.clone()];
                assert!(source["word"].as_str().unwrap().contains(token), "{term}");
                let n_before = u64::try_from(text[..place.start].chars().count()).unwrap();
                assert_eq!(source["chars"][0], n_before);
                // The checkpoint weighs each position's own token most.
                n_from_own_word += usize::from(!is_expansion && token == readable);
            }
        }
    }
    assert!(
        n_from_own_word > 10 && n_expansions > 10,
        "{n_from_own_word} {n_expansions}"
    );
    let text = scratch
        .laconic_in("C.UTF-8", search)
        .succeeds()
        .silently()
        .stdout;
    assert!(
        text.contains("document: `liver` (body)") || text.contains("document: `liver` (title)"),
        "{text}"
    );
    assert!(
        text.contains("query: `liver` (query)")
            && text.contains("expansions, terms that a text itself"),
        "{text}"
    );
    assert!(text.contains(" more, which --json lists"), "{text}");
}

#[test]
fn finding_nothing_is_told_from_finding_something() {
    let scratch = three_documents();
    let bm25 = "search --index idx --mode bm25";
    scratch
        .laconic(&format!("{bm25} density"))
        .exits(0)
        .silently();
    scratch
        .laconic(&format!("{bm25} unheard"))
        .exits(1)
        .silently();
    let nothing = scratch
        .laconic(&format!("{bm25} unheard --json"))
        .exits(1)
        .json();
    assert_eq!(nothing["hits"], json!([]));
    assert_eq!(
        scratch
            .laconic(&format!("{bm25} unheard --format trec"))
            .exits(1)
            .stdout,
        ""
    );
}

#[test]
fn arguments_that_do_not_make_sense_are_usage_errors() {
    let scratch = three_documents();
    scratch.write("empty.tsv", "");
    for (arguments, part) in [
        ("search --index idx", "search needs a query"),
        ("search --index idx density", "--model"),
        (
            "search --index idx --mode bm25 --query-vectors queries.jsonl",
            "BM25 needs",
        ),
        (
            "search --index idx --mode bm25 -k 0 density",
            "0 hits are asked for",
        ),
        ("eval --index idx --qrels empty.tsv", "eval needs queries"),
        ("encode --kind query --input docs.jsonl", "--model"),
        ("encode --model ck --set top_k --kind query", "has no `=`"),
    ] {
        scratch.laconic(arguments).fails(2, &[part]);
    }
    for arguments in [
        "",
        "nonsense",
        "search --index idx --nonsense",
        "search --index idx --mode dense density",
        "index --index idx",
        "index --index idx --docs docs.jsonl --vectors vectors.jsonl --vector-scale 0",
        "index --index idx --docs docs.jsonl --vectors vectors.jsonl --vector-scale -1",
        "index --index idx --docs docs.jsonl --vectors vectors.jsonl --vector-scale NaN",
        "index --index idx --docs docs.jsonl --vectors vectors.jsonl --bits 9",
        "index --index idx --docs docs.jsonl --vectors vectors.jsonl --model ck",
        "index --index idx --docs docs.jsonl --commit-every -1",
        "search --index idx a --queries queries.jsonl",
    ] {
        assert_eq!(
            scratch.laconic(arguments).exits(2).stdout,
            "",
            "{arguments}"
        );
    }
}

#[test]
fn bad_input_and_mismatches_have_codes_of_their_own() {
    let scratch = three_documents();
    scratch.write("broken.jsonl", "{\"_id\": \"x\", \"text\": 7}\n");
    scratch
        .laconic("index --index plain --docs docs.jsonl")
        .succeeds();
    scratch
        .laconic("eval --index idx --qrels docs.jsonl")
        .fails(3, &["docs.jsonl, line 1"]);
    scratch
        .laconic("index --index new --docs broken.jsonl")
        .fails(3, &["broken.jsonl, line 1"]);
    scratch
        .laconic("search --index plain --query-vectors queries.jsonl")
        .fails(5, &["without vectors", "--mode bm25"]);
    scratch
        .laconic("index --index idx --docs docs.jsonl")
        .fails(5, &["holds vectors"]);
    scratch
        .laconic("index --index plain --docs docs.jsonl --vectors vectors.jsonl")
        .fails(5, &["without vectors"]);
    scratch
        .laconic("index --index idx --docs docs.jsonl --vectors vectors.jsonl --bits 6")
        .fails(5, &["5-bit", "6-bit"]);
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let scratch = three_documents();
    let corpus = Corpus::open(&scratch.path("idx")).unwrap();
    let writer: tantivy::IndexWriter = corpus
        .index()
        .writer_with_num_threads(1, 15_000_000)
        .unwrap();
    let index = "index --index idx --docs docs.jsonl --vectors vectors.jsonl";
    scratch.laconic(index).fails(6, &["idx"]);
    scratch
        .laconic("search --index idx --mode bm25 density")
        .succeeds();
    scratch.laconic("check --index idx").succeeds();
    drop(writer);
    scratch.laconic(index).succeeds();
}

#[test]
fn adding_an_id_again_replaces_the_document() {
    for vectors in ["", "--vectors vectors.jsonl"] {
        let scratch = three_documents();
        let index = format!("index --index new --docs docs.jsonl {vectors}");
        scratch.laconic(&index).succeeds();
        scratch.write(
            "docs.jsonl",
            r#"{"_id": "b", "text": "snow and density", "year": 1990}"#,
        );
        scratch.write("vectors.jsonl", r#"{"_id": "b", "vector": {"snow": 3.0}}"#);
        scratch.laconic(&index).succeeds();
        scratch.laconic(&index).succeeds();

        let docs = |query: &str| {
            let search = format!("search --index new --mode bm25 --format trec {query}");
            scratch.laconic(&search).docs()
        };
        assert_eq!(docs("snow"), ["b"]);
        assert!(docs("posting").is_empty());
        assert!(docs("density --filter year:2018").is_empty());
        assert_eq!(docs("density").len(), 3);
        let info = scratch.laconic("info --index new --json").succeeds().json();
        assert_eq!(info["documents"], 3);
        scratch.laconic("check --index new").succeeds();
        if !vectors.is_empty() {
            let search = "search --index new --query-vectors queries.jsonl --format trec";
            let expected = [hit("q1", "a", 2.0), hit("q1", "c", 0.25)];
            assert_eq!(scratch.laconic(search).succeeds().hits(), expected);
        }
    }
}

#[test]
fn plain_gzip_zstd_and_standard_input_are_the_same_input() {
    let scratch = three_documents();
    let vectors = "--vectors vectors.gz";
    scratch.write("vectors.gz", gzip(VECTORS.as_bytes()));
    scratch.write("docs.gz", gzip(DOCS.as_bytes()));
    scratch.write("docs.zst", zstd(DOCS.as_bytes()));
    scratch.write("queries.zst", zstd(QUERIES.as_bytes()));
    let search = |index: &str| {
        let search = format!("search --index {index} --query-vectors queries.zst --json");
        scratch.laconic(&search).succeeds().stdout
    };
    let expected = search("idx");
    for docs in ["docs.gz", "docs.zst"] {
        scratch
            .laconic(&format!("index --index {docs}.idx --docs {docs} {vectors}"))
            .succeeds();
        assert_eq!(search(&format!("{docs}.idx")), expected);
    }
    for (index, input) in [
        ("fed-plain", DOCS.as_bytes().to_vec()),
        ("fed-gzip", gzip(DOCS.as_bytes())),
        ("fed-zstd", zstd(DOCS.as_bytes())),
    ] {
        let arguments = format!("index --index {index} --docs - {vectors}");
        scratch
            .laconic_fed(&input, &arguments)
            .succeeds()
            .silently();
        assert_eq!(search(index), expected);
    }
}

#[test]
fn reports_go_to_stdout_and_quiet_says_nothing_else() {
    let scratch = three_documents();
    scratch.write(
        "more.jsonl",
        VECTORS.replace("0.25", "1e-9").replace("2.0", "99"),
    );
    let index = "index --docs docs.jsonl --vectors more.jsonl";
    let text = scratch.laconic(&format!("{index} --index text")).succeeds();
    assert!(
        text.stdout.starts_with("3 documents indexed, 4 postings, "),
        "{text}"
    );
    assert!(
        text.stdout
            .contains("\n1 weights were above the range and clipped"),
        "{text}"
    );
    assert!(
        text.stdout
            .contains("\n1 weights were too small and dropped"),
        "{text}"
    );
    assert_eq!(
        text.stderr.matches("is --vector-scale right?").count(),
        2,
        "{text}"
    );
    scratch
        .laconic(&format!("{index} --index quiet --quiet"))
        .succeeds()
        .silently();

    let report = scratch
        .laconic(&format!("{index} --index json --json"))
        .succeeds()
        .json();
    let count = |key: &str| report[key].as_u64().unwrap();
    let counts = [
        "documents",
        "postings",
        "weights",
        "clipped_weights",
        "vanished_weights",
    ];
    assert_eq!(counts.map(count), [3, 4, 5, 1, 1]);
    let zero = [
        "resumed_documents",
        "skipped_lines",
        "unused_vectors",
        "truncated_texts",
    ];
    assert_eq!(zero.map(count), [0; 4]);
    assert_eq!(
        count("empty_vectors"),
        0,
        "a vector given is not empty, whatever is left of it"
    );

    let plain = scratch
        .laconic("index --index plain --docs docs.jsonl")
        .succeeds()
        .silently();
    assert_eq!(
        plain.stdout.lines().count(),
        1,
        "no word about vectors: {plain}"
    );
}

#[test]
fn vectors_and_documents_are_joined_whatever_their_order() {
    let scratch = three_documents();
    let backwards: Vec<&str> = VECTORS.lines().rev().collect();
    let extra = "{\"_id\": \"nobody\", \"vector\": {}}";
    scratch.write(
        "vectors.jsonl",
        format!("{}\n{extra}\n", backwards.join("\n")),
    );
    let index = "index --docs docs.jsonl --vectors vectors.jsonl --json";
    let report = scratch
        .laconic(&format!("{index} --index back"))
        .succeeds()
        .json();
    assert_eq!(report["unused_vectors"], 1);
    let search = |index: &str| {
        let search = format!("search --index {index} --query-vectors queries.jsonl --json");
        scratch.laconic(&search).succeeds().stdout
    };
    assert_eq!(search("back"), search("idx"));

    scratch.write("vectors.jsonl", VECTORS.lines().next().unwrap());
    let missing = format!("{index} --index missing");
    scratch
        .laconic(&missing)
        .fails(3, &["docs.jsonl, line 2", "`b`", "--allow-missing-vectors"]);
    let report = scratch
        .laconic(&format!("{missing} --allow-missing-vectors"))
        .succeeds()
        .json();
    assert_eq!(report["empty_vectors"], 2);
    assert_eq!(report["documents"], 3);
}

#[test]
fn fewer_bits_make_coarser_impacts() {
    let scratch = three_documents();
    for bits in 4..=8 {
        let index = format!("index --docs docs.jsonl --vectors vectors.jsonl --bits {bits}");
        scratch
            .laconic(&format!("{index} --index idx{bits}"))
            .succeeds();
        // The index remembers: adding needs no `--bits`.
        let again = index.replace(&format!("--bits {bits}"), "");
        scratch
            .laconic(&format!("{again} --index idx{bits}"))
            .succeeds();
        let info = scratch
            .laconic(&format!("info --index idx{bits} --json"))
            .succeeds()
            .json();
        let quantizer = &info["laconic_fields"][0]["quantizer"];
        assert_eq!(quantizer["bits"], bits);
        let max_impact = quantizer["max_impact"].as_u64().unwrap();
        assert_eq!(max_impact, (1 << bits) - 1, "{quantizer}");
        scratch
            .laconic(&format!("check --index idx{bits}"))
            .succeeds();
    }
}

#[test]
fn info_and_check_describe_the_index() {
    let scratch = scratch!();
    let docs = Docs::generate(500, 1);
    scratch.write("docs.jsonl", docs.documents());
    scratch.write("vectors.jsonl", docs.vectors());
    let index = "index --index idx --docs docs.jsonl --vectors vectors.jsonl --bits 8";
    scratch
        .laconic(&format!("{index} --vectors-model splade-v3"))
        .succeeds();
    let n_postings: usize = docs.0.iter().map(|doc| doc.vector.len()).sum();

    let info = scratch
        .laconic("info --index idx --json")
        .succeeds()
        .silently()
        .json();
    assert_eq!(info["documents"], 500);
    assert_eq!(info["deleted_documents"], 0);
    let field = &info["laconic_fields"][0];
    assert_eq!(field["model"], "splade-v3");
    assert_eq!(field["postings"], n_postings);
    let counts = field["impact_histogram"].as_array().unwrap().iter();
    let sum: u64 = counts.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(sum, n_postings as u64);
    let text = scratch
        .laconic("info --index idx")
        .succeeds()
        .silently()
        .stdout;
    for part in [
        "documents",
        "splade-v3",
        "8-bit",
        "postings",
        "a posting",
        "impacts",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let files = scratch.index_files("idx").len() - 1;
    let check = scratch
        .laconic("check --index idx --json")
        .succeeds()
        .silently()
        .json();
    assert_eq!(check["clean"], true);
    assert_eq!(check["documents"], 500);
    assert_eq!(check["files"], files);
    assert_eq!(check["problems"], json!([]));
    assert!(
        scratch
            .laconic("check --index idx")
            .succeeds()
            .stdout
            .starts_with("clean: ")
    );
}

#[test]
fn eval_prints_figures_that_can_be_worked_out_by_hand() {
    let scratch = three_documents();
    // Ranked a, b, c for q1 and b for q2; q3 is judged and not asked, q9 is neither.
    scratch.write(
        "qrels.tsv",
        "query-id\tcorpus-id\tscore\nq1\tb\t1\nq1\tc\t0\nq2\tb\t2\nq3\ta\t1\n",
    );
    let eval = "eval --index idx --query-vectors queries.jsonl --qrels qrels.tsv";
    let json = scratch
        .laconic(&format!("{eval} --json --run run.trec"))
        .succeeds()
        .silently();
    let figures = json.json();
    assert_eq!(figures["queries"], 2);
    let figure = |name: &str| figures[name].as_f64().unwrap();
    let ndcg = f64::midpoint(1.0 / 3f64.log2(), 1.0);
    assert!((figure("nDCG@10") - ndcg).abs() < 1e-9, "{figures}");
    assert!((figure("MRR@10") - 0.75).abs() < 1e-9, "{figures}");
    assert!((figure("MAP") - 0.75).abs() < 1e-9, "{figures}");
    assert!((figure("Recall@100") - 1.0).abs() < 1e-9, "{figures}");
    let text = scratch.laconic(eval).succeeds().stdout;
    assert!(
        text.contains(&format!("nDCG@10      {ndcg:.4}\n")),
        "{text}"
    );
    let run = scratch.read("run.trec");
    assert!(
        run.starts_with("q1 Q0 a 1 2 laconic\nq1 Q0 b 2 1.5 laconic\n"),
        "{run}"
    );
    assert_eq!(run.lines().count(), 4);

    scratch.write("none.tsv", "query-id\tcorpus-id\tscore\nother\tb\t1\n");
    let none = scratch.laconic(&eval.replace("qrels.tsv", "none.tsv"));
    assert_ne!(none.code, Some(0));
    assert!(
        none.stderr
            .contains("none of the queries is judged in none.tsv"),
        "{none}"
    );
}

#[test]
fn a_query_that_is_a_document_can_be_left_out_of_its_own_hits() {
    let scratch = three_documents();
    // a and b find themselves first, the other one second.
    scratch.write("docs-as-queries.jsonl", VECTORS);
    scratch.write(
        "qrels.tsv",
        "query-id\tcorpus-id\tscore\na\tb\t1\nb\ta\t1\nc\tb\t1\n",
    );
    let eval = "eval --index idx --query-vectors docs-as-queries.jsonl --qrels qrels.tsv --json";
    let mrr = |flags: &str| {
        let outcome = scratch.laconic(&format!("{eval} {flags}")).succeeds();
        (outcome.json()["MRR@10"].as_f64().unwrap(), outcome.stderr)
    };
    let (auto, said) = mrr("");
    assert!(said.contains("leaving each out of its own hits"), "{said}");
    let (kept, said) = mrr("--exclude-self no");
    assert_eq!(said, "");
    assert_eq!(mrr("--exclude-self yes"), (auto, String::new()));
    assert!((auto - 1.0).abs() < 1e-9 && kept < auto, "{auto} {kept}");

    scratch.write("docs-as-queries.jsonl", format!("{VECTORS}{QUERIES}"));
    scratch.write("qrels.tsv", scratch.read("qrels.tsv") + "q1\ta\t1\n");
    assert_eq!(mrr("").1, "", "not every query is a document");
}

#[test]
fn a_checkpoint_and_its_vectors_give_the_same_index_and_the_same_hits() {
    let scratch = scratch!();
    scratch.write_checkpoint("ck", 0);
    scratch.write("docs.jsonl", scifact_docs(120));
    let queries = [
        ("1", "bone density in children"),
        ("2", "gene expression of the liver"),
    ];
    let line = |(id, text): (&str, &str)| format!("{}\n", json!({"_id": id, "text": text}));
    scratch.write("queries.jsonl", queries.map(line).concat());

    scratch
        .laconic("index --index one --docs docs.jsonl --model ck")
        .succeeds();
    scratch
        .laconic("encode --model ck --kind document --input docs.jsonl --output vectors.jsonl")
        .succeeds();
    scratch
        .laconic("index --index two --docs docs.jsonl --vectors vectors.jsonl")
        .succeeds();
    let encoded = scratch
        .laconic_fed(
            scratch.read("queries.jsonl").as_bytes(),
            "encode --model ck --kind query",
        )
        .succeeds()
        .silently();
    scratch.write("query-vectors.jsonl", encoded.stdout);

    let by_model = "--model ck --queries queries.jsonl";
    let by_vectors = "--query-vectors query-vectors.jsonl";
    let search = |index: &str, queries: &str| {
        let search = format!("search --index {index} {queries} -k 200 --format trec");
        ranked(&scratch.laconic(&search).succeeds())
    };
    let expected = search("one", by_model);
    assert!(expected.len() > 50);
    // Given the same query vectors, both indexes give the same scores to the bit.
    let given = search("one", by_vectors);
    assert!(search("two", by_vectors) == given);
    assert!(search("two", by_model) == expected);
    // A query encoded alone, or among others, differs in the last bits of its weights.
    assert_same_scores(&given, &expected);
    // What a person types is the same query.
    let typed = format!(
        "search --index one --model ck -k 200 --format trec '{}'",
        queries[0].1
    );
    let first: Vec<_> = expected
        .iter()
        .filter(|hit| hit.query == "1")
        .cloned()
        .collect();
    assert_same_scores(&ranked(&scratch.laconic(&typed).succeeds()), &first);

    let stats = |index: &str| {
        let info = scratch
            .laconic(&format!("info --index {index} --json"))
            .succeeds()
            .json();
        let field = &info["laconic_fields"][0];
        [
            field["terms"].clone(),
            field["postings"].clone(),
            field["impact_histogram"].clone(),
        ]
    };
    assert_eq!(stats("one"), stats("two"));
}

#[test]
fn encode_prints_strings_or_ids_and_takes_every_knob() {
    let scratch = scratch!();
    scratch.write_checkpoint("ck", 0);
    scratch.write(
        "text.jsonl",
        "{\"_id\": \"t\", \"title\": \"A\", \"text\": \"bone density in children\"}\n",
    );
    let encode = |flags: &str| {
        let encode = format!("encode --model ck --input text.jsonl {flags}");
        scratch.laconic(&encode).succeeds().silently().json()
    };
    let weights = |record: &Value| -> Vec<(String, f64)> {
        let vector = record["vector"].as_object().unwrap().iter();
        let mut weights: Vec<_> = vector
            .map(|(term, weight)| (term.clone(), weight.as_f64().unwrap()))
            .collect();
        weights.sort_by(|a, b| b.1.total_cmp(&a.1));
        weights
    };

    let query = encode("--kind query");
    assert_eq!(query["_id"], "t");
    assert!(query.get("input_ids").is_none());
    assert!(
        weights(&query).iter().any(|(term, _)| term == "Ġdensity"),
        "{query}"
    );
    assert_ne!(encode("--kind document"), query);

    let ids = encode("--kind query --ids");
    let id_weights = weights(&ids);
    assert!(
        id_weights.iter().all(|(id, _)| id.parse::<u32>().is_ok()),
        "{ids}"
    );
    let only =
        |weights: Vec<(String, f64)>| weights.into_iter().map(|(_, w)| w).collect::<Vec<_>>();
    assert_eq!(
        only(id_weights),
        only(weights(&query)),
        "only the names differ"
    );
    let input_ids = |flags: &str| encode(&format!("--ids {flags}"))["input_ids"].clone();
    let plain = input_ids("--kind query");
    let n_ids = plain.as_array().unwrap().len();

    let bos = input_ids("--kind query --set add_bos=true");
    assert_eq!(bos[0], laconic_fixtures::checkpoint::BOS_ID);
    assert_eq!(bos.as_array().unwrap().len(), n_ids + 1);
    let eos = input_ids("--kind query --set add_eos=true");
    assert_eq!(eos[n_ids], laconic_fixtures::checkpoint::EOS_ID);
    assert_eq!(
        input_ids("--kind query --set 'query_prefix=passage: A '"),
        input_ids("--kind document"),
    );
    assert_ne!(
        input_ids("--kind document --set document_prefix="),
        input_ids("--kind document")
    );
    assert_eq!(
        weights(&encode("--kind query --set top_k=3"))[..],
        weights(&query)[..3]
    );
    assert!(weights(&encode("--kind query --set top_k=none")).len() >= weights(&query).len());

    let cut = scratch
        .laconic("encode --model ck --input text.jsonl --kind query --ids --set max_length=4");
    assert_eq!(cut.json()["input_ids"].as_array().unwrap().len(), 4);
    assert_eq!(cut.stderr, "1 texts were cut at 4 tokens\n");
    let scaled = encode("--kind query --set top_k=3 --vector-scale 100");
    for ((_, integer), (_, weight)) in weights(&scaled).iter().zip(weights(&query)) {
        assert!(
            (integer - (weight * 100.0).round()).abs() < 1e-9,
            "{scaled}"
        );
    }
    scratch
        .laconic("encode --model ck --kind query --input text.jsonl --set nonsense=1")
        .fails(3, &["nonsense", "query_prefix", "top_k"]);
}

#[test]
fn scaled_vectors_are_the_same_vectors() {
    let scratch = three_documents();
    let times = |text: &str, factor: f64| -> String {
        let line = |line: &str| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            for weight in record["vector"].as_object_mut().unwrap().values_mut() {
                *weight = json!(weight.as_f64().unwrap() * factor);
            }
            format!("{record}\n")
        };
        text.lines().map(line).collect()
    };
    scratch.write("v4.jsonl", times(VECTORS, 4.0));
    scratch.write("q8.jsonl", times(QUERIES, 8.0));
    scratch
        .laconic("index --index idx4 --docs docs.jsonl --vectors v4.jsonl --vector-scale 4")
        .succeeds();
    let plain = "search --index idx --query-vectors queries.jsonl --json";
    let scaled = "search --index idx4 --query-vectors q8.jsonl --vector-scale 8 --json";
    assert_eq!(
        scratch.laconic(scaled).succeeds().stdout,
        scratch.laconic(plain).succeeds().stdout
    );
}

#[test]
fn help_of_every_sub_command_names_its_flags() {
    let scratch = scratch!();
    let help = |command: &str| {
        scratch
            .laconic(&format!("{command} --help"))
            .succeeds()
            .stdout
    };
    let query = "--queries --query-vectors --vector-scale --vectors-model --model --tokenizer \
                 --set --mode --filter --threads --query-terms --overestimate --max-documents \
                 --fusion --weight --rank-constant --candidates --rescore-missing";
    let pages = "--offset --after --min-score";
    let tuning = "--tune --folds --seed --resamples";
    for (command, flags) in [
        ("demo", "--dir"),
        (
            "index",
            "--index --docs --model --tokenizer --set --vectors --vector-scale --vectors-model \
             --allow-missing-vectors --bits --skip-invalid --max-line --memory --threads --reorder \
             --commit-every --no-resume",
        ),
        (
            "search",
            &format!("--index {query} --k --format --explain --verify {pages}"),
        ),
        (
            "eval",
            &format!("--index {query} --qrels --k --run --exclude-self {tuning}"),
        ),
        (
            "encode",
            "--model --tokenizer --set --kind --input --output --ids --vector-scale",
        ),
        ("info", "--index"),
        ("check", "--index"),
        (
            "optimize",
            "--index --field --threads --memory --no-reorder",
        ),
        (
            "bench",
            "--docs --k --query-terms --methods --order --bits --threads --vectors --resample \
             --query-vectors --dir --svg --verify --rounds",
        ),
    ] {
        let help = help(command);
        let words: Vec<&str> = help
            .split(|c: char| c.is_whitespace() || "[]<>,.;|'".contains(c))
            .collect();
        for flag in flags
            .split_whitespace()
            .chain(["--json", "--quiet", "--verbose"])
        {
            assert!(
                words.contains(&flag),
                "{command} --help does not name {flag}:\n{help}"
            );
        }
    }
    let top = help("");
    for part in [
        "demo",
        "index",
        "search",
        "eval",
        "encode",
        "info",
        "check",
        "optimize",
        "bench",
        "Exit codes",
    ] {
        assert!(top.contains(part), "{part}:\n{top}");
    }
    assert!(
        scratch
            .laconic("--version")
            .succeeds()
            .stdout
            .starts_with("laconic ")
    );
}

/// A reader that has seen enough, as `head`, ends the command without a word.
#[test]
fn a_closed_pipe_is_no_failure() {
    let scratch = scratch!();
    scratch.write_checkpoint("ck", 0);
    let docs = Docs::generate(4000, 2);
    scratch.write("docs.jsonl", docs.documents());
    scratch.write("few.jsonl", Docs(docs.0[..600].to_vec()).documents());
    scratch
        .laconic("index --index idx --docs docs.jsonl")
        .succeeds();
    for arguments in [
        "search --index idx --mode bm25 common -k 4000",
        "search --index idx --mode bm25 common -k 4000 --format trec",
        "search --index idx --mode bm25 common -k 4000 --json",
        "encode --model ck --kind document --input few.jsonl",
    ] {
        let mut command = scratch.command(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::with_capacity(16, child.stdout.take().unwrap());
        let mut first = Vec::new();
        stdout.read_until(b'"', &mut first).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{arguments}");
    }
}

/// Hits are printed to terminals: a document may not move the cursor or set colours.
#[test]
fn control_characters_of_documents_do_not_reach_the_terminal() {
    let scratch = scratch!();
    let line = json!({"_id": "x", "title": "a\u{1b}[2Jb", "text": "snow\u{7}\r\n\u{9b}31m red"});
    scratch.write("docs.jsonl", line.to_string());
    scratch
        .laconic("index --index idx --docs docs.jsonl")
        .succeeds();
    let text = scratch
        .laconic("search --index idx --mode bm25 snow")
        .succeeds()
        .stdout;
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text:?}"
    );
}
