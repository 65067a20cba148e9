//! `laconic demo`: the main job on a real collection, with nothing to download.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use laconic_fixtures::{nano, scifact};
use laconic_model::{Encoder, Text, WeightFormat};
use laconic_tantivy::{Approximation, Identity, ImpactQuantizer};

use super::Global;
use super::search::print_hit;
use crate::collection::{DEFAULT_LINE_LIMIT, LineReader};
use crate::corpus::Corpus;
use crate::encoding::{self, CachedEncoder};
use crate::eval::{Metrics, Qrels, evaluate};
use crate::explain::{Explainer, Shown, Sides, Style, legend, readable};
use crate::hybrid::Hybrid;
use crate::indexing::{IndexJob, IndexReport, SegmentOptions, VectorSource, open_or_create};
use crate::retrieval::{Mode, Question, Retriever, read_queries};
use crate::terminal::{Ending, note, print, progress};

const MODES: [(&str, Mode); 3] = [
    ("bm25", Mode::Bm25),
    ("sparse", Mode::Sparse),
    ("hybrid", Mode::Hybrid),
];

/// Of the learned-sparse side and of BM25, in a sum of scores. Chosen on pairs of title and
/// abstract, see laconic-nano's model card.
const HYBRID_WEIGHTS: [f64; 2] = [2.0, 1.0];

/// Queries shown, of the 300: short ones to which both rankings find an answer.
const SHOWN: [&str; 3] = ["641", "539", "1146"];

const ABOUT: &str = "\
laconic-nano: 3.5 million weights, trained on these abstracts alone by `laconic train`; it never
saw the claims or their judgements. It has learnt how much each word counts, and expands
hardly anything. A LACONIC model of a billion weights adds many terms, and ranks much better.
";

/// Index and search a real collection (SciFact) by BM25 and by learned-sparse vectors
///
/// Needs no network: the 5,183 abstracts and 300 claims of SciFact are part of the program, and so
/// is laconic-nano, the small model that encodes them.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Folder for collection, checkpoint and index [default: laconic-demo in the temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Demo {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let dir = self
            .dir
            .unwrap_or_else(|| std::env::temp_dir().join("laconic-demo"));
        print(
            "SciFact: 5,183 abstracts, 300 claims (Wadden et al. 2020; CC BY 4.0, ODC-By 1.0)\n",
        )?;
        print(ABOUT)?;
        let files = scifact::write_to(&dir.join("scifact")).with_context(|| unwritable(&dir))?;
        let checkpoint = dir.join("laconic-nano");
        nano::write_to(&checkpoint).with_context(|| unwritable(&dir))?;
        let corpus = index(&dir.join("index"), &files.corpus, &checkpoint, global)?;
        let encoder = encoding::load(&checkpoint, None, &[], WeightFormat::default())?;
        let questions = read_queries(&files.queries)?;
        let qrels = Qrels::read(LineReader::open(&files.qrels)?)?;
        print_table(&corpus, &encoder, &questions, &qrels, global)?;
        print_queries(&corpus, &encoder, &questions, &qrels)?;
        print_next_steps(&dir)?;
        Ok(Ending::Done)
    }
}

fn unwritable(dir: &Path) -> String {
    format!(
        "cannot write the demo's files to {}; choose a folder with --dir",
        dir.display()
    )
}

fn index(dir: &Path, docs: &Path, checkpoint: &Path, global: &Global) -> Result<Corpus> {
    if Corpus::exists(dir) {
        std::fs::remove_dir_all(dir).with_context(|| unwritable(dir))?;
    }
    let vectors = VectorSource::Model(Box::new(CachedEncoder {
        encoder: encoding::load(checkpoint, None, &[], WeightFormat::default())?,
        cache: None,
    }));
    let identity = Identity {
        quantizer: ImpactQuantizer::default(),
        model: vectors.model(),
    };
    let corpus = open_or_create(dir, Some(identity))?;
    let bar = progress(
        "encoding and indexing",
        Some(scifact::N_DOCS as u64),
        global.quiet,
    );
    let job = IndexJob {
        docs,
        vectors,
        skip_invalid: false,
        line_limit: DEFAULT_LINE_LIMIT,
        segments: SegmentOptions {
            memory_budget: 256 << 20,
            n_threads: 1,
            reorder: false,
        },
        commit_every: Duration::MAX,
        resume: false,
        progress: &mut |n_documents| bar.set_position(n_documents),
    };
    let report = job.run(&corpus);
    bar.finish_and_clear();
    print_report(&report?)?;
    Ok(corpus)
}

#[expect(clippy::cast_precision_loss, reason = "printed rounded")]
fn print_report(report: &IndexReport) -> Result<()> {
    let rate = report.documents as f64 / report.seconds.max(1e-9);
    Ok(print(format_args!(
        "\nencoded and indexed {} documents in {:.1} s ({rate:.0} a second), {} postings",
        report.documents, report.seconds, report.postings
    ))?)
}

fn retriever<'a>(corpus: &'a Corpus, encoder: &'a Encoder, mode: Mode) -> Result<Retriever<'a>> {
    let searcher = corpus.searcher()?;
    let encoder = Some(encoder);
    Ok(Retriever {
        corpus,
        searcher,
        mode,
        encoder,
        vectors_of: None,
        filter: None,
        n_threads: 1,
        bm25: laconic_tantivy::Bm25::default(),
        approximation: Approximation::default(),
        hybrid: Hybrid {
            weights: HYBRID_WEIGHTS,
            ..Hybrid::default()
        },
    })
}

fn print_table(
    corpus: &Corpus,
    encoder: &Encoder,
    questions: &[Question],
    qrels: &Qrels,
    global: &Global,
) -> Result<()> {
    print("\n              nDCG@10  MRR@10  Recall@100  Recall@1000     MAP")?;
    for (name, mode) in MODES {
        let retriever = retriever(corpus, encoder, mode)?;
        match mean(&retriever, questions, qrels, global)? {
            Some(mean) => print(format_args!(
                "{name:<13}  {:.4}  {:.4}      {:.4}       {:.4}  {:.4}",
                mean.ndcg_at_10, mean.mrr_at_10, mean.recall_at_100, mean.recall_at_1000, mean.map
            ))?,
            None => note(global.quiet, "no query of the collection is judged"),
        }
    }
    Ok(())
}

fn mean(
    retriever: &Retriever<'_>,
    questions: &[Question],
    qrels: &Qrels,
    global: &Global,
) -> Result<Option<Metrics>> {
    let bar = progress("queries", Some(questions.len() as u64), global.quiet);
    let run = retriever.ask_all(questions, 1000, false, || bar.inc(1))?;
    bar.finish_and_clear();
    Ok(evaluate(qrels, &run).mean)
}

fn print_queries(
    corpus: &Corpus,
    encoder: &Encoder,
    questions: &[Question],
    qrels: &Qrels,
) -> Result<()> {
    for question in questions
        .iter()
        .filter(|question| SHOWN.contains(&question.id.as_str()))
    {
        print(format_args!(
            "\nquery {}: {}",
            question.id,
            question.text.as_deref().unwrap_or("")
        ))?;
        print_terms(encoder, question.text.as_deref().unwrap_or(""))?;
        for (name, mode) in MODES {
            print(format_args!("  {name}"))?;
            print_answers(&retriever(corpus, encoder, mode)?, question, qrels)?;
        }
    }
    let knows = Sides {
        document: true,
        query: true,
    };
    print(format_args!("\n{}", legend(knows)))?;
    Ok(())
}

/// The heaviest terms that the encoder gives a query: its own words, and what it adds to them.
fn print_terms(encoder: &Encoder, query: &str) -> Result<()> {
    let own = encoder.token_ids(Text::Query(query))?;
    let weights = encoder.encode_query(query)?.weights;
    let (words, expansions): (Vec<_>, Vec<_>) =
        weights.iter().partition(|(id, _)| own.contains(id));
    for (name, terms) in [("words", words), ("expansions", expansions)] {
        let shown = terms.iter().take(8).map(|(id, weight)| {
            let term = encoder.term(*id).unwrap_or_default();
            format!("{} {weight:.2}", readable(term))
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        let shown = if shown.is_empty() { "none" } else { &shown };
        print(format_args!("  {name}: {shown}"))?;
    }
    Ok(())
}

fn print_answers(retriever: &Retriever<'_>, question: &Question, qrels: &Qrels) -> Result<()> {
    let judgments = qrels.judgments(&question.id);
    for (rank, hit) in (1..).zip(&retriever.ask(question, 2)?) {
        print_hit(retriever, rank, hit)?;
        if judgments
            .and_then(|grades| grades.get(&hit.id))
            .is_some_and(|grade| *grade > 0)
        {
            print("       ✓ judged relevant")?;
        }
        if retriever.mode == Mode::Sparse && rank == 1 {
            let explanation = Explainer::of(retriever, question)?.explain(hit)?;
            print(
                explanation
                    .to_text(&Style::of_stdout(), Shown(5))
                    .trim_end(),
            )?;
        }
    }
    Ok(())
}

fn print_next_steps(dir: &Path) -> Result<()> {
    let dir = dir.display();
    Ok(print(format_args!(
        "\nTry it yourself:\n  \
         laconic search --index {dir}/index --mode bm25 'vitamin D and bone density'\n  \
         laconic search --index {dir}/index --model {dir}/laconic-nano --explain 'bone density'\n  \
         laconic info --index {dir}/index"
    ))?)
}
