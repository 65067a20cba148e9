//! The README's first command: the whole job on the bundled collection, nothing downloaded.

use laconic_tests::scratch;

/// The first figure in a row of the table, the nDCG@10; NaN, which is near nothing, without one.
fn figure(table: &str, row: &str) -> f64 {
    let line = table.lines().find_map(|line| line.strip_prefix(row));
    let figure = line.and_then(|figures| figures.split_whitespace().next()?.parse().ok());
    figure.unwrap_or(f64::NAN)
}

#[test]
fn demo_indexes_and_searches_scifact_and_says_what_the_checkpoint_is() {
    let scratch = scratch!();
    let outcome = scratch.laconic("demo --dir shown").succeeds().silently();
    let said = &outcome.stdout;
    assert!(said.contains("UNTRAINED"), "{said}");
    assert!(said.contains("indexed 5183 documents"), "{said}");
    assert!(said.matches("judged relevant").count() >= 6, "{said}");
    assert!((figure(said, "bm25") - 0.6619).abs() < 1e-4, "{said}");
    // Random weights that favour a position's own token match words: far from BM25, far from 0.
    let sparse = figure(said, "sparse (tiny)");
    assert!((0.48..0.53).contains(&sparse), "{said}");
    scratch.laconic("check --index shown/index").succeeds();
    let search = "search --index shown/index --model shown/tiny-checkpoint --explain bone";
    assert!(scratch.laconic(search).succeeds().stdout.contains("impact"));
}
