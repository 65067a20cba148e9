//! `laconic`: learned sparse retrieval inside Tantivy, from the command line.

use std::process::ExitCode;

use clap::Parser;
use laconic_cli::commands::Laconic;
use laconic_cli::terminal::{exit_code, log_to_stderr};

fn main() -> ExitCode {
    let laconic = Laconic::parse();
    log_to_stderr(laconic.global.verbose, laconic.global.quiet);
    exit_code(laconic.run())
}
