//! Pages put together are the whole ranking.

use laconic_tests::Outcome;

use super::{generated, hits, ranked, score};

/// Pages put together are the whole list, whatever the mode, and however many scores are equal.
#[test]
fn pages_neither_skip_nor_repeat() {
    let scratch = generated();
    let flat = "{\"_id\": \"one\", \"text\": \"common\"}";
    scratch.write("flat-q.jsonl", flat);
    let modes = [
        "--mode sparse --query-vectors one-v.jsonl",
        "--mode sparse --query-vectors one-v.jsonl --filter number:>20",
        "--mode bm25 --queries one-q.jsonl",
        "--mode bm25 --queries flat-q.jsonl",
        "--mode hybrid --fusion sum --queries one-q.jsonl --query-vectors one-v.jsonl",
        "--mode hybrid --fusion rrf --candidates 200 --queries one-q.jsonl --query-vectors one-v.jsonl",
        "--mode hybrid --fusion tmm --candidates 200 --queries flat-q.jsonl --query-vectors one-v.jsonl",
    ];
    for mode in modes {
        let search = format!("search --index idx --json {mode}");
        let all = hits(&scratch.laconic(&format!("{search} -k 1000")).succeeds());
        assert!(all.len() > 50, "{mode}");
        for k in [1, 7, 64] {
            let mut paged = Vec::new();
            while paged.len() < all.len() {
                let page = format!("{search} -k {k} --offset {}", paged.len());
                let page = hits(&scratch.laconic(&page).succeeds());
                assert_eq!(page[0]["rank"], paged.len() + 1);
                paged.extend(page);
                if k == 1 && paged.len() > 20 {
                    break;
                }
            }
            assert_eq!(ranked(&paged), ranked(&all[..paged.len()]), "{mode}");
        }
        let end = format!("{search} -k 5 --offset {}", all.len());
        assert!(hits(&scratch.laconic(&end).exits(1)).is_empty());

        let fused = mode.contains("rrf") || mode.contains("tmm");
        let first = scratch.laconic(&format!("{search} -k 9")).succeeds().json();
        assert_eq!(first["after"].is_null(), fused);
        if fused {
            let after = format!("{search} --after 1:0:0");
            scratch
                .laconic(&after)
                .fails(2, &["--fusion sum", "--offset"]);
            continue;
        }
        let mut paged = first["hits"].as_array().unwrap().clone();
        let mut place = first["after"].clone();
        while let Some(after) = place.as_str() {
            let page = format!("{search} -k 9 --after {after}");
            let page = scratch.laconic(&page).json();
            paged.extend(page["hits"].as_array().unwrap().clone());
            place = page["after"].clone();
        }
        assert_eq!(ranked(&paged), ranked(&all), "{mode}");
    }
}

#[test]
fn text_output_says_how_to_go_on_when_paging() {
    let scratch = generated();
    let search = "search --index idx --mode bm25 common";
    let plain = scratch.laconic(search).succeeds().stdout;
    assert!(!plain.contains("--after"), "{plain}");
    let first = scratch.laconic(&format!("{search} --offset 0")).succeeds();
    let place = first.stdout.strip_prefix(&plain).unwrap();
    assert!(place.starts_with("go on with --after "), "{place}");
    let paged = scratch
        .laconic(&format!("{search} --offset 10"))
        .succeeds()
        .stdout;
    let last = paged.lines().last().unwrap();
    let place = last.strip_prefix("go on with --after ").unwrap();
    assert!(paged.starts_with("  11  "), "{paged}");
    let next = scratch
        .laconic(&format!("{search} --after {place}"))
        .succeeds();
    let third = scratch.laconic(&format!("{search} --offset 20")).succeeds();
    let ids = |outcome: &Outcome| -> Vec<String> {
        let lines = outcome.stdout.lines().filter(|line| line.contains("  d"));
        lines
            .map(|line| line.split_whitespace().nth(2).unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&next), ids(&third));
    assert_eq!(ids(&next).len(), 10);
}

#[test]
fn a_least_score_cuts_every_ranking() {
    let scratch = generated();
    for mode in [
        "sparse",
        "bm25",
        "hybrid",
        "hybrid --fusion sum",
        "hybrid --fusion zscore",
    ] {
        let query = match mode {
            "sparse" => "--query-vectors one-v.jsonl",
            "bm25" => "--queries one-q.jsonl",
            _ => "--queries one-q.jsonl --query-vectors one-v.jsonl",
        };
        let search = format!("search --index idx --json --mode {mode} {query} -k 40");
        let all = hits(&scratch.laconic(&search).succeeds());
        let least = score(&all[12]);
        let expected = all.iter().filter(|hit| score(hit) >= least).count();
        let kept = hits(
            &scratch
                .laconic(&format!("{search} --min-score {least}"))
                .succeeds(),
        );
        assert_eq!(ranked(&kept), ranked(&all[..expected]), "{mode}");
        let none = format!("{search} --min-score 1000000");
        assert!(hits(&scratch.laconic(&none).exits(1)).is_empty());
        let beyond = format!("{search} --min-score {least} --offset {expected}");
        assert!(hits(&scratch.laconic(&beyond).exits(1)).is_empty());
    }
}
