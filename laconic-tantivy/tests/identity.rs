//! An index is never written or searched with the wrong model, quantizer or format, and the
//! refusal says what both sides are.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Fields, searcher, vector};
use laconic_tantivy::{
    BulkWriter, Error, Identity, ImpactQuantizer, LaconicField, LaconicQuery, MIN_MEMORY_BUDGET,
    ModelIdentity, check, create_in_dir, exhaustive_top_k, open_in_dir, register,
};
use tantivy::collector::{Count, TopDocs};
use tantivy::directory::{Directory, RamDirectory};
use tantivy::query::{BooleanQuery, Occur, Query};
use tantivy::schema::{STORED, Schema, TEXT};
use tantivy::{DocAddress, Index};

fn model(model: &str, preset: &str) -> ModelIdentity {
    ModelIdentity::new(model, preset).unwrap()
}

fn index_of(model: Option<ModelIdentity>) -> (Fields, Index) {
    let fields = Fields::new(Identity {
        model,
        ..Identity::default()
    });
    let index = fields.create(RamDirectory::create());
    (fields, index)
}

fn assert_refused(error: &Error, sides: [&str; 2]) {
    assert!(
        error.is_mismatch() && !error.is_invalid_input() && !error.is_corrupt() && !error.is_busy()
    );
    let message = error.to_string();
    assert!(sides.iter().all(|side| message.contains(side)), "{message}");
}

/// Pairs of model and preset that differ in one or both, or only in how they are cut in two.
fn mismatches() -> Vec<(ModelIdentity, ModelIdentity)> {
    vec![
        (model("m1", "p"), model("m2", "p")),
        (model("m", "p1"), model("m", "p2")),
        (model("a/b", "c"), model("a", "b/c")),
        (model("m%2f", "p"), model("m/", "p")),
        (model("M", "p"), model("m", "p")),
        (model("m ", "p"), model("m", "p")),
        (model("é", "p"), model("e\u{301}", "p")),
    ]
}

#[test]
fn writing_with_another_model_is_refused() {
    for (ours, theirs) in mismatches() {
        let (fields, index) = index_of(Some(ours.clone()));
        let open = |vectors_of| {
            BulkWriter::new(&index, &fields.laconic, vectors_of, MIN_MEMORY_BUDGET).map(|_| ())
        };
        let sides = [&*ours.to_string(), &*theirs.to_string()];
        assert_refused(&open(Some(&theirs)).expect_err("another model"), sides);
        open(Some(&ours)).unwrap();
        open(None).unwrap();
    }
}

#[test]
fn searching_with_another_model_is_refused() {
    for (ours, theirs) in mismatches() {
        let (fields, index) = index_of(Some(ours.clone()));
        fields.add_by_bulk(&index, [(0, &vector([("a", 1.0)]))]);
        let searcher = searcher(&index);
        let query = LaconicQuery::new(&fields.laconic, vector([("a", 1.0)]));
        let wrong = query.clone().encoded_by(theirs.clone());
        let sides = [&*ours.to_string(), &*theirs.to_string()];

        let collector = || TopDocs::with_limit(1).order_by_score();
        let nested = BooleanQuery::new(vec![(
            Occur::Should,
            Box::new(wrong.clone()) as Box<dyn Query>,
        )]);
        for error in [
            searcher
                .search(&wrong, &collector())
                .expect_err("another model"),
            searcher.search(&wrong, &Count).expect_err("another model"),
            searcher
                .search(&nested, &collector())
                .expect_err("another model"),
            wrong
                .explain(&searcher, DocAddress::new(0, 0))
                .expect_err("another model"),
        ] {
            let message = error.to_string();
            assert!(sides.iter().all(|side| message.contains(side)), "{message}");
        }
        assert_refused(
            &exhaustive_top_k(&searcher, &wrong, 1).expect_err("another model"),
            sides,
        );

        for right in [query.clone(), query.encoded_by(ours)] {
            assert_eq!(searcher.search(&right, &collector()).unwrap().len(), 1);
        }
    }
}

/// Contributions refuse like a search, although Tantivy's error lies in between.
#[test]
fn contributions_with_another_model_are_a_mismatch() {
    let (fields, index) = index_of(Some(model("ours", "p")));
    fields.add_by_bulk(&index, [(0, &vector([("a", 1.0)]))]);
    let query = LaconicQuery::new(&fields.laconic, vector([("a", 1.0)]));
    let wrong = query.encoded_by(model("theirs", "p"));
    let error = wrong
        .contributions(&searcher(&index), DocAddress::new(0, 0))
        .expect_err("refused");
    assert_refused(&error, ["ours", "theirs"]);
}

/// Vectors of an unnamed model cannot be told apart, so nothing is refused.
#[test]
fn unnamed_models_pass() {
    let (fields, index) = index_of(None);
    let open = |model: Option<&ModelIdentity>| {
        BulkWriter::new(&index, &fields.laconic, model, MIN_MEMORY_BUDGET)
            .map(|_| ())
            .unwrap();
    };
    open(None);
    open(Some(&model("any", "p")));
    let query = LaconicQuery::new(&fields.laconic, vector([("a", 1.0)]));
    let query = query.encoded_by(model("any", "p"));
    assert_eq!(query.count(&searcher(&index)).unwrap(), 0);
}

#[test]
fn other_bits_are_a_mismatch() {
    let (_, index) = index_of(None);
    for bits in [4, 6, 7, 8] {
        let quantizer = ImpactQuantizer::with_bits(bits).unwrap();
        let other = Fields::new(Identity {
            quantizer,
            model: None,
        });
        let writer = BulkWriter::new(&index, &other.laconic, None, MIN_MEMORY_BUDGET);
        let error = writer.map(|_| ()).expect_err("other bits");
        assert_refused(&error, ["5-bit", &format!("{bits}-bit")]);
    }
}

/// A field of the index that holds something else is not searched as if it held impacts.
#[test]
fn a_query_for_another_field_is_refused() {
    let mut builder = Schema::builder();
    let laconic = LaconicField::add_to(&mut builder, "laconic", Identity::default());
    builder.build();
    let mut builder = Schema::builder();
    builder.add_text_field("text", TEXT | STORED);
    let index = Index::create_in_ram(builder.build());
    let query = LaconicQuery::new(&laconic, vector([("a", 1.0)]));
    let error = searcher(&index)
        .search(&query, &Count)
        .expect_err("not a laconic field");
    assert!(error.to_string().contains("`text`"), "{error}");
}

#[test]
fn a_newer_format_is_refused_at_open() {
    let folder = tempfile::tempdir().unwrap();
    let fields = Fields::new(Identity {
        model: Some(model("m", "p")),
        ..Identity::default()
    });
    let index = create_in_dir(folder.path(), fields.schema.clone()).unwrap();
    fields.add_by_bulk(&index, [(0, &vector([("a", 1.0)]))]);
    drop(index);
    let meta = folder.path().join("meta.json");
    let ours = std::fs::read_to_string(&meta).unwrap();
    assert!(ours.contains("laconic/1/linear5/m/p"));
    for version in ["2", "10", "0", "1.1", "x"] {
        let theirs = ours.replace("laconic/1/", &format!("laconic/{version}/"));
        std::fs::write(&meta, theirs).unwrap();
        let error = open_in_dir(folder.path()).map(|_| ()).expect_err(version);
        assert_refused(&error, [&format!("`{version}`"), "version 1"]);
        assert!(error.to_string().contains("reindex"), "{error}");

        // Opened behind our back, it is still neither searched nor called sound.
        let plain = Index::open_in_dir(folder.path()).unwrap();
        let query = LaconicQuery::new(&fields.laconic, vector([("a", 1.0)]));
        assert!(searcher(&plain).search(&query, &Count).is_err());
        assert!(!check(&plain, &mut |_, _| {}).unwrap().is_clean());
    }
    std::fs::write(&meta, ours).unwrap();
    open_in_dir(folder.path()).unwrap();
}

#[test]
fn creating_over_an_index_or_opening_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let fields = Fields::with_bits(8);
    let place = folder.path().display().to_string();
    let error = open_in_dir(folder.path())
        .map(|_| ())
        .expect_err("nothing there");
    assert!(error.to_string().contains(&place), "{error}");
    create_in_dir(folder.path(), fields.schema.clone()).unwrap();
    let error = create_in_dir(folder.path(), fields.schema)
        .map(|_| ())
        .expect_err("there already");
    assert!(
        error.is_invalid_input() && error.to_string().contains(&place),
        "{error}"
    );
}

/// The identity is in the schema: a copy of the files by other means keeps it.
#[test]
fn identity_travels_with_the_files() {
    let identity = Identity {
        quantizer: ImpactQuantizer::with_bits(5).unwrap(),
        model: Some(model("org/model@3f9a 😀", "preset/1%")),
    };
    let fields = Fields::new(identity.clone());
    let directory = RamDirectory::create();
    let index = fields.create(directory.clone());
    fields.add_by_bulk(&index, [(0, &vector([("a", 1.0)]))]);
    let copy = RamDirectory::create();
    let mut files = index.directory().list_managed_files();
    files.extend(["meta.json".into(), ".managed.json".into()]);
    for path in files {
        copy.atomic_write(&path, &directory.atomic_read(&path).unwrap())
            .unwrap();
    }
    let mut copied = Index::open(copy).unwrap();
    let registered = register(&mut copied).unwrap();
    assert_eq!(registered[0].identity(), &identity);
}
