//! A query for both sides: read or refused with a column, and what is read can be searched.
#![no_main]

use std::sync::LazyLock;

use laconic_tantivy::{HybridParser, Identity, LaconicField, register};
use libfuzzer_sys::fuzz_target;
use tantivy::collector::Count;
use tantivy::schema::{FAST, FacetOptions, INDEXED, STRING, Schema, TEXT};
use tantivy::{Index, Searcher, TantivyDocument};

struct Collection {
    parsers: [HybridParser; 2],
    searcher: Searcher,
}

static COLLECTION: LazyLock<Collection> = LazyLock::new(collection);

fuzz_target!(|query: &str| {
    let Collection { parsers, searcher } = &*COLLECTION;
    for parser in parsers {
        assert_eq!(parser.plain(query).text, query);
        match parser.parse(query) {
            Ok(parsed) => {
                assert!(parsed.words.iter().all(|(_, boost)| boost.is_finite()));
                for clause in parsed.clauses.iter().chain(&parsed.filter) {
                    searcher
                        .search(clause.as_ref(), &Count)
                        .expect("what is read can be asked");
                }
            }
            Err(error) => {
                let column = error.column().expect("a mistake has a place");
                assert!(error.is_invalid_input());
                assert!((1..=query.chars().count() + 1).contains(&column));
            }
        }
    }
});

fn collection() -> Collection {
    let mut schema = Schema::builder();
    let title = schema.add_text_field("title", TEXT);
    let body = schema.add_text_field("body", TEXT);
    schema.add_text_field("id", STRING);
    schema.add_u64_field("year", INDEXED | FAST);
    schema.add_f64_field("ratio", INDEXED);
    schema.add_date_field("when", INDEXED);
    schema.add_facet_field("part", FacetOptions::default());
    let extra = schema.add_json_field("extra", TEXT | FAST);
    LaconicField::add_to(&mut schema, "sparse", Identity::default());
    let schema = schema.build();
    let mut index = Index::create_in_ram(schema.clone());
    register(&mut index).expect("a new index");
    let mut writer = index
        .writer_with_num_threads(1, 15_000_000)
        .expect("no other writer");
    for doc in [
        r#"{"id": "a", "title": "a b", "body": "b a c", "year": 1, "part": "/a/b", "extra": {"x": 1}}"#,
        r#"{"id": "b", "title": "c", "body": "a b", "ratio": 0.5, "extra": {"x": "y", "z": [1, "a"]}}"#,
    ] {
        let doc = TantivyDocument::parse_json(&schema, doc).expect("of the schema");
        writer.add_document(doc).expect("memory");
    }
    writer.commit().expect("memory");
    let parser = HybridParser::for_index(&index, [(title, 2.0), (body, 1.0)]);
    let parser = parser.expect("text fields");
    let further = parser.clone().with_further_fields(extra);
    Collection {
        parsers: [parser, further.expect("a JSON field")],
        searcher: index.reader().expect("memory").searcher(),
    }
}
