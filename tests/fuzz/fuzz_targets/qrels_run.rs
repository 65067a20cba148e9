//! Judgments and a run, a NUL byte between them.
#![no_main]

use laconic_cli::eval::{Metrics, Qrels, Run, RunWriter, evaluate};
use laconic_fuzz::lines::reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut files = bytes.splitn(2, |byte| *byte == 0);
    let mut file = || reader(files.next().unwrap_or_default());
    if let (Ok(qrels), Ok(run)) = (Qrels::read(file()), Run::read(file())) {
        check_measures(&qrels, &run);
        check_round_trip(&run);
    }
});

fn check_measures(qrels: &Qrels, run: &Run) {
    let evaluation = evaluate(qrels, run);
    for (query, metrics) in &evaluation.by_query {
        assert!(run.hits(query).is_some() && qrels.judgments(query).is_some());
        check_range(metrics);
    }
    assert_eq!(evaluation.mean.is_some(), !evaluation.by_query.is_empty());
    evaluation.mean.iter().for_each(check_range);
}

fn check_range(metrics: &Metrics) {
    let Metrics {
        ndcg_at_10,
        mrr_at_10,
        recall_at_100,
        recall_at_1000,
        map,
    } = metrics;
    for measure in [ndcg_at_10, mrr_at_10, recall_at_100, recall_at_1000, map] {
        assert!((0.0..=1.0).contains(measure), "{metrics:?}");
    }
}

/// What is written reads back as the same run.
fn check_round_trip(run: &Run) {
    let mut writer = RunWriter::new(Vec::new(), "fuzz").expect("a plain tag");
    for (query, hits) in run.iter() {
        let hits = hits.iter().map(|hit| (hit.doc.as_str(), hit.score));
        writer.write(query, hits).expect("memory can be written");
    }
    let written = writer.finish().expect("memory can be written");
    assert_eq!(&Run::read(reader(&written)).expect("our own file"), run);
}
