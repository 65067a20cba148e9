//! The sub-commands, one file each.

mod bench;
mod bench_encode;
mod bench_load;
mod cache_options;
mod check;
mod demo;
mod encode;
mod eval;
mod hybrid_options;
mod index;
mod info;
mod mine;
mod model;
mod model_info;
#[cfg(feature = "hub")]
mod model_pull;
mod model_quantize;
mod optimize;
mod options;
mod page_options;
mod pairs;
mod reindex;
mod reindex_options;
mod reindex_units;
mod search;
mod train;
mod tune;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::terminal::Ending;

/// Learned sparse retrieval that lives inside Tantivy.
///
/// A LACONIC model turns a text into a few hundred weighted vocabulary terms. `laconic` encodes
/// texts, keeps the terms in an ordinary Tantivy index beside BM25 fields, and searches both.
///
/// Start with `laconic demo`. Results go to stdout, everything else to stderr.
#[derive(Debug, Parser)]
#[command(
    name = "laconic",
    version,
    after_help = "Exit codes: 0 done, 1 nothing found, 2 usage, 3 bad input, 4 corrupt data, \
                  5 mismatch of model or index, 6 index busy, 7 other (I/O)."
)]
pub struct Laconic {
    /// Options of every sub-command.
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every sub-command.
#[derive(Debug, Args)]
pub struct Global {
    /// Print results as JSON, for machines
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing on stderr but errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say more on stderr; repeat for still more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Index(index::Index),
    Search(search::Search),
    Eval(eval::Eval),
    Encode(encode::Encode),
    Info(info::Info),
    Optimize(optimize::Optimize),
    Reindex(reindex::Reindex),
    Plan(reindex_units::Plan),
    Work(reindex_units::Work),
    Assemble(reindex_units::Assemble),
    Check(check::Check),
    Model(model::Model),
    Pairs(pairs::Pairs),
    Mine(mine::Mine),
    Train(train::Train),
    Bench(bench::Bench),
}

impl Laconic {
    /// Runs the sub-command.
    ///
    /// # Errors
    /// What went wrong; [`exit_code`](crate::terminal::exit_code) tells the causes apart.
    pub fn run(self) -> Result<Ending> {
        let Laconic { global, command } = self;
        match command {
            Command::Demo(command) => command.run(&global),
            Command::Index(command) => command.run(&global),
            Command::Search(command) => command.run(&global),
            Command::Eval(command) => command.run(&global),
            Command::Encode(command) => command.run(&global),
            Command::Info(command) => command.run(&global),
            Command::Optimize(command) => command.run(&global),
            Command::Reindex(command) => command.run(&global),
            Command::Plan(command) => command.run(&global),
            Command::Work(command) => command.run(&global),
            Command::Assemble(command) => command.run(&global),
            Command::Check(command) => command.run(&global),
            Command::Model(command) => command.run(&global),
            Command::Pairs(command) => command.run(&global),
            Command::Mine(command) => command.run(&global),
            Command::Train(command) => command.run(&global),
            Command::Bench(command) => command.run(&global),
        }
    }
}
