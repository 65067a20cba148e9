//! `laconic train`: fitting a checkpoint to pairs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use laconic_model::train::{Example, Recipe, StepReport, StoredAs, Trainer, Validation};
use laconic_model::{Device, LoadOptions};

use super::Global;
use super::options::device;
use crate::collection::{self, LineReader};
use crate::terminal::{Ending, UsageError, note, print, print_json, progress};
use crate::training::{Journal, plot};

/// Fit a checkpoint to pairs of queries and passages
///
/// Phase 1 learns from weakly supervised pairs, such as `pairs` makes, each query against the
/// other passages of its batch. Phase 2 starts from phase 1's model and learns from fewer, better
/// pairs with hard negatives, such as `mine` finds.
///
/// Everything goes into the folder --output: model/ (a plain checkpoint: `index --model` reads
/// it), metrics.jsonl (the figures of every step), training.svg (their plot), recipe.json, and
/// state/, from which --resume goes on after a kill, to the same weights bit for bit.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  laconic train start --pairs pairs.jsonl --output phase1 \
                        --validation validation.jsonl\n  laconic train phase1/model --phase 2 \
                        --pairs triplets.jsonl --output phase2\n  laconic train llama-3.2-1b \
                        --recipe laconic-1b --pairs pairs.jsonl --output phase1 --device cuda \
                        --set steps=2000"
)]
pub(crate) struct Train {
    /// Folder of the checkpoint to start from
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Tokenizer, if the checkpoint's folder has none
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Pairs, JSON lines {"query", "positive", "negatives", "group"}; plain, gzip or zstd
    ///
    /// A passage is {"title", "text"} or a string. Pairs of the same group, such as those made
    /// from one document, are never each other's negatives.
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Folder for model, figures and states
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Whose settings: nano trains all weights of a small model, laconic-1b, -3b and -8b are the
    /// published settings of these models, with adapters
    #[arg(long, value_name = "NAME", default_value = "nano")]
    recipe: String,
    /// Phase of the recipe: 1 without hard negatives, 2 with them
    #[arg(long, default_value_t = 1)]
    phase: u8,
    /// Change a number of the recipe: steps, batch, learning_rate, negatives, query_flops,
    /// document_flops, lora_rank, chunk_tokens, seed, …
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Held-out pairs: how many of their queries find their passage among all of these
    #[arg(long, value_name = "FILE")]
    validation: Option<PathBuf>,
    /// Validate every N steps; in any case before the first and after the last
    #[arg(long, value_name = "N", default_value_t = 100, requires = "validation")]
    validate_every: usize,
    /// Save a state every N steps
    #[arg(long, value_name = "N", default_value_t = 100)]
    save_every: usize,
    /// Go on from the newest state in the folder
    #[arg(long)]
    resume: bool,
    /// Where to train: cpu, cuda, cuda:1, metal
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    device: Device,
    /// How to store the model's weights
    #[arg(long, value_enum, default_value = "f16")]
    store: Store,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    F32,
    F16,
    Bf16,
}

impl Store {
    fn format(self) -> StoredAs {
        match self {
            Self::F32 => StoredAs::F32,
            Self::F16 => StoredAs::F16,
            Self::Bf16 => StoredAs::Bf16,
        }
    }
}

impl Train {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        if self.validate_every == 0 || self.save_every == 0 {
            let message = "--validate-every and --save-every are at least 1";
            return Err(UsageError(message.to_owned()).into());
        }
        if self.device == Device::Cpu && std::env::var_os(CANDLE_THREADS).is_none() {
            return begin_again();
        }
        let recipe = self.recipe()?;
        let states = self.output.join("state");
        let is_begun = states.exists();
        if is_begun && !self.resume {
            let message = format!(
                "{} holds a run; go on with --resume, or choose another folder",
                self.output.display()
            );
            return Err(UsageError(message).into());
        }
        let examples = read(&self.pairs)?;
        let held_out = self.validation.as_deref().map(read).transpose()?;
        let mut options = LoadOptions::new();
        if let Some(tokenizer) = &self.tokenizer {
            options = options.tokenizer(tokenizer);
        }
        let mut trainer = Trainer::load(
            &self.model,
            &options,
            recipe.clone(),
            &examples,
            self.device,
        )?;
        if self.resume && !trainer.restore_state(&states)? {
            note(
                global.quiet,
                "there is no state to go on from; beginning at the first step",
            );
        }
        self.describe(&trainer, &examples, &recipe, global);
        std::fs::create_dir_all(&self.output)
            .and_then(|()| {
                let json = serde_json::to_string_pretty(&recipe)?;
                std::fs::write(self.output.join("recipe.json"), json + "\n")
            })
            .with_context(|| format!("cannot write {}", self.output.display()))?;
        let journal = Journal::open(&self.output.join("metrics.jsonl"), trainer.n_done())?;
        let bar = progress("steps", Some(recipe.steps as u64), global.quiet);
        bar.set_position(trainer.n_done() as u64);
        bar.reset_eta();
        let mut job = Job {
            train: &self,
            states: &states,
            journal,
            held_out: held_out.as_deref(),
            last: None,
            bar,
        };
        job.run(&mut trainer)?;
        let validation = job.end(&trainer)?;
        self.report(&job.journal, validation, global)?;
        Ok(Ending::Done)
    }

    fn recipe(&self) -> Result<Recipe> {
        let mut recipe = Recipe::named(&self.recipe, self.phase)?;
        for setting in &self.settings {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                UsageError(format!(
                    "`--set {setting}` has no `=`; write --set KEY=VALUE"
                ))
            })?;
            recipe.set(key.trim(), value.trim())?;
        }
        recipe.check()?;
        Ok(recipe)
    }

    fn describe(
        &self,
        trainer: &Trainer<'_>,
        examples: &[Example],
        recipe: &Recipe,
        global: &Global,
    ) {
        let begin = match trainer.n_done() {
            0 => String::new(),
            n_done => format!(", going on after step {n_done}"),
        };
        note(
            global.quiet,
            format_args!(
                "{} pairs, {} numbers to train, {} steps of {} pairs{begin}",
                examples.len(),
                trainer.n_trained(),
                recipe.steps,
                recipe.batch.min(examples.len()) * recipe.accumulate,
            ),
        );
    }

    fn report(
        &self,
        journal: &Journal,
        validation: Option<Validation>,
        global: &Global,
    ) -> Result<()> {
        let model = self.output.join("model");
        if global.json {
            let last = journal.entries().last().map(|entry| entry.figures.clone());
            return print_json(&serde_json::json!({
                "model": model.display().to_string(),
                "last": last,
            }));
        }
        if let Some(found) = validation {
            print(format_args!(
                "held out: {:.1} % found first, {:.1} % among ten, nDCG@10 {:.4}; {:.0} terms a \
                 query, {:.0} a passage",
                found.recall_at_1 * 100.0,
                found.recall_at_10 * 100.0,
                found.ndcg_at_10,
                found.query_terms,
                found.document_terms
            ))?;
        }
        Ok(print(format_args!("model: {}", model.display()))?)
    }
}

/// Threads of candle's operations; see [`laconic_model::train`], speed on a CPU.
const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";

/// Begins this command again with candle's threads off, which only the environment can say, and
/// only before the process has begun. On Unix the process stays the same one.
fn begin_again() -> Result<Ending> {
    let program = std::env::current_exe().context("cannot find the program itself")?;
    let mut command = std::process::Command::new(program);
    command
        .args(std::env::args_os().skip(1))
        .env(CANDLE_THREADS, "1");
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        Err(command.exec()).context("cannot begin again with candle's threads off")
    }
    #[cfg(not(unix))]
    {
        let status = command
            .status()
            .context("cannot begin again with candle's threads off")?;
        std::process::exit(status.code().unwrap_or(7))
    }
}

fn read(path: &Path) -> Result<Vec<Example>> {
    let records = collection::examples(LineReader::open(path)?);
    records.map(|record| Ok(record?.record.0)).collect()
}

/// A run under way.
struct Job<'a> {
    train: &'a Train,
    states: &'a Path,
    journal: Journal,
    held_out: Option<&'a [Example]>,
    /// The last validation, and the steps done at it.
    last: Option<(usize, Validation)>,
    bar: ProgressBar,
}

impl Job<'_> {
    fn run(&mut self, trainer: &mut Trainer<'_>) -> Result<()> {
        if trainer.n_done() == 0 {
            self.validate(trainer)?;
            trainer.save_state(self.states)?;
        }
        loop {
            let start = Instant::now();
            let Some(report) = trainer.step()? else {
                return Ok(());
            };
            let seconds = start.elapsed().as_secs_f64();
            self.journal.step(&report, seconds)?;
            self.bar.set_position(report.step as u64);
            self.bar.set_message(summary(&report, seconds));
            if report.step.is_multiple_of(self.train.validate_every) {
                self.validate(trainer)?;
            }
            if report.step.is_multiple_of(self.train.save_every) {
                trainer.save_state(self.states)?;
                self.draw()?;
            }
        }
    }

    /// Writes the model, and says how well the end finds held-out passages.
    fn end(&mut self, trainer: &Trainer<'_>) -> Result<Option<Validation>> {
        trainer.save_state(self.states)?;
        let n_done = trainer.n_done();
        let is_journaled = n_done.is_multiple_of(self.train.validate_every);
        let last = match (self.last, self.held_out) {
            (Some((at, found)), _) if at == n_done => Some(found),
            (_, Some(held_out)) if is_journaled => Some(trainer.validate(held_out)?),
            _ => self.validate(trainer)?,
        };
        trainer.write_model(&self.train.output.join("model"), self.train.store.format())?;
        self.draw()?;
        self.bar.finish_and_clear();
        Ok(last)
    }

    fn validate(&mut self, trainer: &Trainer<'_>) -> Result<Option<Validation>> {
        let Some(held_out) = self.held_out else {
            return Ok(None);
        };
        let found = trainer.validate(held_out)?;
        self.journal.validation(trainer.n_done(), &found)?;
        self.last = Some((trainer.n_done(), found));
        Ok(Some(found))
    }

    fn draw(&self) -> Result<()> {
        let path = self.train.output.join("training.svg");
        std::fs::write(&path, plot(self.journal.entries()))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "printed rounded")]
fn summary(report: &StepReport, seconds: f64) -> String {
    let flops = report.query_flops + report.document_flops;
    format!(
        "loss {:.3}, FLOPs {flops:.1}, {:.0} % first, {:.0} and {:.0} terms, gradient {:.1}, {:.0} pairs/s",
        report.loss,
        report.accuracy * 100.0,
        report.query_terms,
        report.document_terms,
        report.gradient_norm,
        report.examples as f64 / seconds.max(1e-9)
    )
}
