//! `laconic search`: questions in, ranked documents out.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use laconic_tantivy::Approximation;
use serde_json::{Value, json};

use super::Global;
use super::options::QueryOptions;
use super::page_options::{PageOptions, last_place};
use crate::corpus::{Corpus, Found};
use crate::explain::{Explainer, Shown, Style, legend};
use crate::retrieval::{Question, Retriever, Verification};
use crate::terminal::{Ending, UsageError, note, print, print_json};

/// Search an index by learned-sparse vectors, by BM25, or by both
///
/// The query is a text (encoded with --model in sparse and hybrid mode), a file of texts, or a
/// file of vectors; hybrid search takes both files.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  laconic search --index idx --mode bm25 'spinal cord injury'\n  \
                        laconic search --index idx --model laconic-1b --explain 'spinal cord injury'\n  \
                        laconic search --index idx --query-vectors q.jsonl --format trec\n  \
                        laconic search --index idx --query-vectors q.jsonl --verify\n  \
                        laconic search --index idx --model laconic-1b --mode hybrid 'spinal cord injury'\n  \
                        laconic search --index idx --mode hybrid --fusion tmm \
                        --weight sparse=0.8,bm25=0.2 --queries q.jsonl --query-vectors v.jsonl"
)]
pub(crate) struct Search {
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// The query as text
    #[arg(value_name = "QUERY", conflicts_with_all = ["queries", "query_vectors"])]
    query: Option<String>,
    /// Take the query as plain words, with no syntax
    ///
    /// In hybrid mode a typed query may say more than words: +must -not "a phrase" title:word
    /// word^2 year:[2019 TO *] (a AND b). That acts on BM25 and as a filter, while the free words
    /// go to the encoder. Queries of files are always plain.
    #[arg(long)]
    plain: bool,
    /// Number of hits
    #[arg(long, short, default_value_t = 10)]
    k: usize,
    /// How to print hits
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Show how each score came about: which terms made it, which words they come from, and
    /// what each side of a hybrid search adds
    ///
    /// Below each hit: the best piece of title and text with the words of the query (bold on a
    /// terminal), then what the score is made of, largest first, each with its share as a bar. A
    /// learned term is shown with its impact (and the weight that stands for), the query's weight
    /// and the product; `▁` is the space it begins with. With --model, `+d` marks expansions,
    /// terms that are none of the document's own tokens, `+q` those of the query, and the words
    /// are named that put the weights there: the document is encoded anew, which takes its time.
    /// For BM25, each clause is shown with its score. --json has all terms under stable keys, and
    /// Tantivy's own explanation.
    #[arg(long)]
    explain: bool,
    /// Compare with exhaustive search, and tell on stderr how much was skipped
    ///
    /// Documents, order and every bit of the scores have to be the same; if they are not, the
    /// command fails. With an approximation, tells the recall instead.
    #[arg(long, conflicts_with_all = ["offset", "after"])]
    verify: bool,
    // Last, for what follows them would stand under their headings.
    #[command(flatten)]
    options: QueryOptions,
    #[command(flatten)]
    paging: PageOptions,
}

/// Terms of a document that people are shown; `--json` lists all.
const SHOWN: Shown = Shown(12);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object per query
    Json,
    /// TREC run lines
    Trec,
}

impl Search {
    pub(crate) fn run(mut self, global: &Global) -> Result<Ending> {
        if global.json {
            self.format = Format::Json;
        }
        let questions = self.questions()?;
        let corpus = Corpus::open(&self.index)?;
        let encoder = self.options.encoder()?;
        let mut retriever = self
            .options
            .retriever(&corpus, encoder.as_ref(), global.quiet)?;
        retriever.hybrid.with_parts = self.explain;
        if self.paging.after.is_some() && questions.len() > 1 {
            let message = "--after is a place in the ranking of one query; ask one at a time";
            return Err(UsageError(message.to_owned()).into());
        }
        if self.verify {
            retriever.check_verifiable()?;
        }
        let mut n_found = 0;
        for question in &questions {
            let found = retriever.page(question, &self.paging.page(self.k))?;
            n_found += found.len();
            self.print(&retriever, question, &found)?;
            if self.verify {
                self.verify(&retriever, question)?;
            }
        }
        Ok(if n_found > 0 {
            Ending::Done
        } else {
            Ending::NothingFound
        })
    }

    fn verify(&self, retriever: &Retriever<'_>, question: &Question) -> Result<()> {
        let verification = retriever.verify(question, self.k)?;
        let Verification {
            hits,
            agreeing,
            expected,
            equal,
            work,
        } = verification;
        let id = &question.id;
        let verdict = if equal {
            format!("its {hits} hits equal exhaustive search, bit for bit")
        } else if retriever.approximation != Approximation::default() {
            format!("approximate: {agreeing} of the {expected} exact hits")
        } else {
            bail!("query {id}: pruned search and exhaustive search differ; please report this");
        };
        // What was asked for is no remark that `--quiet` would silence.
        note(
            false,
            format_args!(
                "query {id}: {verdict}; {} of {} postings scored, {} of {} blocks evaluated",
                work.postings_scored, work.postings, work.blocks_evaluated, work.blocks
            ),
        );
        Ok(())
    }

    fn questions(&self) -> Result<Vec<Question>> {
        if let Some(text) = &self.query {
            let text = Some(text.clone());
            return Ok(vec![Question {
                id: "1".to_owned(),
                text,
                vector: None,
                has_syntax: !self.plain,
            }]);
        }
        if self.options.queries.is_none() && self.options.query_vectors.is_none() {
            let message = "search needs a query: a text, --queries or --query-vectors";
            return Err(UsageError(message.to_owned()).into());
        }
        self.options.questions()
    }

    fn print(&self, retriever: &Retriever<'_>, question: &Question, found: &[Found]) -> Result<()> {
        match self.format {
            Format::Text => self.print_text(retriever, question, found),
            Format::Json => self.print_json(retriever, question, found),
            Format::Trec => self.print_trec(question, found),
        }
    }

    fn print_text(
        &self,
        retriever: &Retriever<'_>,
        question: &Question,
        found: &[Found],
    ) -> Result<()> {
        if self.query.is_none() {
            let text = question.text.as_deref().unwrap_or("(vector)");
            print(format_args!("# {}: {text}", question.id))?;
        }
        let explainer = self.explainer(retriever, question)?;
        let style = Style::of_stdout();
        let mut knows = None;
        for (rank, hit) in (self.paging.first_rank()..).zip(found) {
            print_hit(retriever, rank, hit)?;
            if let Some(explainer) = &explainer {
                let explanation = explainer.explain(hit)?;
                print(explanation.to_text(&style, SHOWN).trim_end())?;
                knows = knows.or(explanation.learned.map(|part| part.knows));
            }
        }
        if let Some(knows) = knows {
            print(legend(knows))?;
        }
        if found.is_empty() {
            print("nothing found")?;
        }
        match last_place(found) {
            Some(place) if self.paging.is_paged() && retriever.knows_places() => {
                Ok(print(format_args!("go on with --after {place}"))?)
            }
            _ => Ok(()),
        }
    }

    fn explainer<'a>(
        &self,
        retriever: &'a Retriever<'_>,
        question: &Question,
    ) -> Result<Option<Explainer<'a>>> {
        let explainer = || Explainer::of(retriever, question);
        self.explain.then(explainer).transpose()
    }

    fn print_json(
        &self,
        retriever: &Retriever<'_>,
        question: &Question,
        found: &[Found],
    ) -> Result<()> {
        let explainer = self.explainer(retriever, question)?;
        let hits = (self.paging.first_rank()..)
            .zip(found)
            .map(|(rank, hit)| -> Result<Value> {
                let stored = retriever
                    .corpus
                    .document(&retriever.searcher, hit.address)?;
                let mut value = json!({
                    "rank": rank, "_id": hit.id, "score": hit.score,
                    "title": stored.title, "text": stored.text,
                });
                if let Some(explainer) = &explainer {
                    value["explanation"] = explainer.explain(hit)?.to_json()?;
                }
                Ok(value)
            });
        let hits = hits.collect::<Result<Vec<_>>>()?;
        let place = last_place(found).filter(|_| retriever.knows_places());
        print_json(&json!({
            "query_id": question.id, "query": question.text, "hits": hits,
            "after": place.map(|place| place.to_string()),
        }))
    }

    fn print_trec(&self, question: &Question, found: &[Found]) -> Result<()> {
        for (rank, hit) in (self.paging.first_rank()..).zip(found) {
            print(format_args!(
                "{} Q0 {} {rank} {} laconic",
                question.id, hit.id, hit.score
            ))?;
        }
        Ok(())
    }
}

pub(crate) fn print_hit(retriever: &Retriever<'_>, rank: usize, hit: &Found) -> Result<()> {
    let stored = retriever
        .corpus
        .document(&retriever.searcher, hit.address)?;
    let title = stored.title.as_deref().unwrap_or_default();
    print(format_args!(
        "{rank:>4}  {:<9.4} {}  {}",
        hit.score,
        hit.id,
        one_line(title, 90)
    ))?;
    Ok(print(format_args!(
        "       {}",
        one_line(&stored.text, 150)
    ))?)
}

/// The start of a text on one line, free of control characters that could move the cursor.
fn one_line(text: &str, max_chars: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line: String = words
        .chars()
        .filter(|c| !c.is_control())
        .take(max_chars)
        .collect();
    if words.chars().count() > max_chars {
        line.push('…');
    }
    line
}
