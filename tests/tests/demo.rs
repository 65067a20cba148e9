//! The README's first command: the whole job on the bundled collection, nothing downloaded.

use laconic_tests::scratch;

/// The first figure in a row of the table, the nDCG@10; NaN, which is near nothing, without one.
fn figure(table: &str, row: &str) -> f64 {
    let line = table.lines().find_map(|line| line.strip_prefix(row));
    let figure = line.and_then(|figures| figures.split_whitespace().next()?.parse().ok());
    figure.unwrap_or(f64::NAN)
}

#[test]
fn demo_indexes_and_searches_scifact_with_the_trained_model() {
    let scratch = scratch!();
    let outcome = scratch.laconic("demo --dir shown").succeeds().silently();
    let said = &outcome.stdout;
    assert!(said.contains("laconic-nano"), "{said}");
    assert!(said.contains("indexed 5183 documents"), "{said}");
    assert!(said.matches("judged relevant").count() >= 6, "{said}");
    assert_eq!(said.matches("expansions: ").count(), 3, "{said}");
    let bm25 = figure(said, "bm25");
    assert!((bm25 - 0.6619).abs() < 1e-4, "{said}");
    assert!(figure(said, "sparse") >= 0.55, "{said}");
    assert!(figure(said, "hybrid") >= bm25 + 0.01, "{said}");
    scratch.laconic("check --index shown/index").succeeds();
    let search = "search --index shown/index --model shown/laconic-nano --explain bone";
    assert!(scratch.laconic(search).succeeds().stdout.contains("impact"));
}
