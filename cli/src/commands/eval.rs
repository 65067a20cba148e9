//! `laconic eval`: how good is the ranking?

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use laconic_tantivy::{CachedFilter, Fusion};
use serde_json::json;
use tantivy::query::Query;

use super::Global;
use super::hybrid_options::FusionName;
use super::options::QueryOptions;
use super::tune::TuneOptions;

use crate::collection::LineReader;
use crate::corpus::Corpus;
use crate::eval::{Metrics, Qrels, Run, RunWriter, evaluate};
use crate::retrieval::{Mode, Question, Retriever};
use crate::terminal::{Ending, UsageError, note, print, print_json, progress};

/// Measure the ranking against relevance judgments, as trec_eval does
///
/// Prints nDCG@10, MRR@10, Recall@100, Recall@1000 and MAP: the mean over the queries that are
/// asked and judged. Ties are broken as trec_eval breaks them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  laconic eval --index idx --mode bm25 \
                        --queries queries.jsonl.gz --qrels qrels/test.tsv\n  \
                        laconic eval --index idx --tune --query-vectors vectors.jsonl.gz \
                        --queries queries.jsonl.gz --qrels qrels/test.tsv")]
pub(crate) struct Eval {
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Judgments: BEIR's tsv or TREC's qrels
    #[arg(long, value_name = "FILE")]
    qrels: PathBuf,
    /// Number of hits judged
    #[arg(long, short, default_value_t = 1000)]
    k: usize,
    /// Write the ranked lists as a TREC run file
    #[arg(long, value_name = "FILE")]
    run: Option<PathBuf>,
    /// Leave a document with the query's own id out of its hits: when the queries are documents
    /// of the collection. `auto` does so if every query is one, as BEIR's ArguAna asks for
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    exclude_self: ExcludeSelf,
    // Last, for what follows them would stand under their headings.
    #[command(flatten)]
    options: QueryOptions,
    #[command(flatten)]
    tuning: TuneOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExcludeSelf {
    Auto,
    Yes,
    No,
}

impl Eval {
    pub(crate) fn run(mut self, global: &Global) -> Result<Ending> {
        let fusions = match self.tuning.tune {
            true => self.fusions_to_tune()?,
            false => Vec::new(),
        };
        let qrels = Qrels::read(LineReader::open(&self.qrels)?)?;
        let questions = self.questions(&qrels)?;
        let corpus = Corpus::open(&self.index)?;
        let encoder = self.options.encoder()?;
        let mut retriever = self
            .options
            .retriever(&corpus, encoder.as_ref(), global.quiet)?;
        // All questions share it.
        let cached = |filter| -> Box<dyn Query> { Box::new(CachedFilter::new(filter)) };
        retriever.filter = retriever.filter.map(cached);
        let exclude_self = self.excludes_self(&retriever, &questions)?;
        if exclude_self && self.exclude_self == ExcludeSelf::Auto {
            note(
                global.quiet,
                "note: every query is a document of the index; leaving each out \
                                of its own hits (--exclude-self no keeps it)",
            );
        }
        if self.tuning.tune {
            let tuning = &self.tuning;
            tuning.run(
                &retriever,
                &questions,
                &qrels,
                exclude_self,
                &fusions,
                global,
            )?;
            return Ok(Ending::Done);
        }
        let bar = progress("queries", Some(questions.len() as u64), global.quiet);
        let run = retriever.ask_all(&questions, self.k, exclude_self, || bar.inc(1))?;
        bar.finish_and_clear();
        if let Some(path) = &self.run {
            write_run(path, &run)?;
        }
        let evaluation = evaluate(&qrels, &run);
        let mean = evaluation.mean.with_context(|| {
            format!("none of the queries is judged in {}", self.qrels.display())
        })?;
        print_metrics(&mean, evaluation.by_query.len(), global)?;
        Ok(Ending::Done)
    }

    /// The fusions named, or all; and the options made those of a hybrid search.
    fn fusions_to_tune(&mut self) -> Result<Vec<(FusionName, Fusion)>> {
        if self.options.mode == Mode::Bm25 {
            let message = "--tune is about hybrid search, not --mode bm25";
            return Err(UsageError(message.to_owned()).into());
        }
        self.options.mode = Mode::Hybrid;
        let mut names = std::mem::take(&mut self.options.hybrid.fusion);
        if names.is_empty() {
            names = FusionName::value_variants().to_vec();
        }
        let hybrid = &self.options.hybrid;
        if hybrid.rank_constant.is_some() && !names.contains(&FusionName::Rrf) {
            let message = "--rank-constant is for --fusion rrf, which is not among those to tune";
            return Err(UsageError(message.to_owned()).into());
        }
        names
            .into_iter()
            .map(|name| Ok((name, hybrid.formula(name)?)))
            .collect()
    }

    /// The queries to ask: those of the files that are judged.
    fn questions(&self, qrels: &Qrels) -> Result<Vec<Question>> {
        if self.options.queries.is_none() && self.options.query_vectors.is_none() {
            let message = "eval needs queries: --queries or --query-vectors";
            return Err(UsageError(message.to_owned()).into());
        }
        let mut questions = self.options.questions()?;
        questions.retain(|question| qrels.judgments(&question.id).is_some());
        self.keep_named_queries(&mut questions)?;
        Ok(questions)
    }

    /// Where texts and vectors are given, the text file says which queries are asked.
    fn keep_named_queries(&self, questions: &mut Vec<Question>) -> Result<()> {
        let (Some(queries), Some(_)) = (&self.options.queries, &self.options.query_vectors) else {
            return Ok(());
        };
        let named = crate::retrieval::read_queries(queries)?;
        let named: HashSet<String> = named.into_iter().map(|question| question.id).collect();
        questions.retain(|question| named.contains(&question.id));
        Ok(())
    }

    fn excludes_self(&self, retriever: &Retriever<'_>, questions: &[Question]) -> Result<bool> {
        match self.exclude_self {
            ExcludeSelf::Yes => Ok(true),
            ExcludeSelf::No => Ok(false),
            ExcludeSelf::Auto => {
                for question in questions {
                    let id = retriever.corpus.id_term(&question.id);
                    if retriever.searcher.doc_freq(&id)? == 0 {
                        return Ok(false);
                    }
                }
                Ok(!questions.is_empty())
            }
        }
    }
}

fn write_run(path: &Path, run: &Run) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(context)?);
    let mut writer = RunWriter::new(&mut file, "laconic")?;
    for (query, hits) in run.iter() {
        writer.write(query, hits.iter().map(|hit| (hit.doc.as_str(), hit.score)))?;
    }
    drop(writer);
    file.flush().with_context(context)
}

fn print_metrics(mean: &Metrics, n_queries: usize, global: &Global) -> Result<()> {
    let rows = [
        ("nDCG@10", mean.ndcg_at_10),
        ("MRR@10", mean.mrr_at_10),
        ("Recall@100", mean.recall_at_100),
        ("Recall@1000", mean.recall_at_1000),
        ("MAP", mean.map),
    ];
    if global.json {
        let mut object = serde_json::Map::new();
        object.insert("queries".to_owned(), json!(n_queries));
        object.extend(rows.map(|(name, value)| (name.to_owned(), json!(value))));
        return print_json(&object);
    }
    print(format_args!("{:<12} {n_queries}", "queries"))?;
    for (name, value) in rows {
        print(format_args!("{name:<12} {value:.4}"))?;
    }
    Ok(())
}
