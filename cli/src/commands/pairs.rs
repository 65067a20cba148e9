//! `laconic pairs`: training pairs out of documents alone.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use laconic_model::train::{Example, PairRecipe};

use super::Global;
use crate::collection::{self, LineReader, example_json};
use crate::terminal::{Ending, MissingError, UsageError, note, progress};

/// Make weakly supervised training pairs from documents alone
///
/// Reads a corpus {"_id", "title", "text"} and writes lines {"query", "positive", "group"}: each
/// title with its body, sentences with the rest of their document, spans of words with what is
/// around them. What stands for the query is taken out of the passage. `train` learns from them.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  laconic pairs corpus.jsonl.gz --output pairs.jsonl \
                        --held-out 300 --held-out-to validation.jsonl"
)]
pub(crate) struct Pairs {
    /// Documents as JSON lines; plain, gzip or zstd; - for standard input
    #[arg(value_name = "FILE")]
    docs: PathBuf,
    /// Where the pairs go; - for standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Make no pairs of title and body
    #[arg(long)]
    no_titles: bool,
    /// Sentences of each document that are paired with the rest of it
    #[arg(long, value_name = "N", default_value_t = PairRecipe::default().sentences)]
    sentences: usize,
    /// Spans of each document that are paired with what is around them
    #[arg(long, value_name = "N", default_value_t = PairRecipe::default().spans)]
    spans: usize,
    /// Fewest words of a span
    #[arg(long, value_name = "N", default_value_t = PairRecipe::default().shortest_span)]
    shortest_span: usize,
    /// Most words of a span
    #[arg(long, value_name = "N", default_value_t = PairRecipe::default().longest_span)]
    longest_span: usize,
    /// Hold out the pairs of about N documents, drawn by their ids
    #[arg(long, value_name = "N", requires = "held_out_to", default_value_t = 0)]
    held_out: usize,
    /// Where the pairs held out go
    #[arg(long, value_name = "FILE")]
    held_out_to: Option<PathBuf>,
    /// Decides which sentences, spans and documents are drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Pairs {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        if self.shortest_span > self.longest_span {
            let message = "--shortest-span is above --longest-span";
            return Err(UsageError(message.to_owned()).into());
        }
        let recipe = PairRecipe {
            title: !self.no_titles,
            sentences: self.sentences,
            spans: self.spans,
            shortest_span: self.shortest_span,
            longest_span: self.longest_span,
            seed: self.seed,
        };
        let lines = LineReader::open(&self.docs)?;
        let bar = progress("documents", None, global.quiet);
        let mut made: Vec<(u64, Vec<Example>)> = Vec::new();
        for document in collection::documents(lines).with_unique_ids() {
            let document = document?.record;
            let pairs = recipe.pairs(&document.id, document.title.as_deref(), &document.text);
            made.push((draw(self.seed, &document.id), pairs));
            bar.inc(1);
        }
        bar.finish_and_clear();
        if made.iter().all(|(_, pairs)| pairs.is_empty()) {
            let message = format!(
                "{} has no document a pair can be made of",
                self.docs.display()
            );
            return Err(MissingError(message).into());
        }
        let mut draws: Vec<u64> = made.iter().map(|(draw, _)| *draw).collect();
        draws.sort_unstable();
        let n_held = self.held_out.min(draws.len());
        let bound = n_held
            .checked_sub(1)
            .and_then(|last| draws.get(last))
            .copied();
        let is_held = |draw: u64| bound.is_some_and(|bound| draw <= bound);
        let (held, kept): (Vec<_>, Vec<_>) = made.into_iter().partition(|(draw, _)| is_held(*draw));
        if kept.iter().all(|(_, pairs)| pairs.is_empty()) {
            let message = format!(
                "all pairs are held out: --held-out {} leaves none of {} documents to learn from",
                self.held_out,
                draws.len()
            );
            return Err(UsageError(message).into());
        }
        let n_kept = write(&self.output, &kept)?;
        let n_held = match &self.held_out_to {
            Some(path) => write(path, &held)?,
            None => 0,
        };
        note(
            global.quiet,
            format_args!(
                "{n_kept} pairs of {} documents; {n_held} pairs of {} documents held out",
                kept.len(),
                held.len()
            ),
        );
        Ok(Ending::Done)
    }
}

/// A number that decides whether a document is held out: it does not depend on other documents.
fn draw(seed: u64, id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(id.as_bytes(), seed ^ 0x6865_6c64)
}

fn write(path: &Path, made: &[(u64, Vec<Example>)]) -> Result<usize> {
    let describe = || format!("cannot write {}", path.display());
    let mut output: Box<dyn Write> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdout().lock()),
        false => Box::new(BufWriter::new(File::create(path).with_context(describe)?)),
    };
    let mut n_pairs = 0;
    for pair in made.iter().flat_map(|(_, pairs)| pairs) {
        writeln!(output, "{}", example_json(pair)).with_context(describe)?;
        n_pairs += 1;
    }
    output.flush().with_context(describe)?;
    Ok(n_pairs)
}
