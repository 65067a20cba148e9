//! What the terminal sees: progress on stderr, results on stdout, exit codes by cause.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::collection::InputError;

/// A progress bar over `n_steps`, or a counter when their number is unknown. Silent when stderr
/// is not a terminal or `quiet`.
pub(crate) fn progress(what: &'static str, n_steps: Option<u64>, quiet: bool) -> ProgressBar {
    let bar = match n_steps {
        Some(n_steps) => ProgressBar::new(n_steps),
        None => ProgressBar::no_length(),
    };
    let template = match n_steps {
        Some(_) => "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}",
        None => "{spinner} {msg} {human_pos} {per_sec} {elapsed}",
    };
    shown(bar, template, what, quiet)
}

/// A progress bar over bytes, whose number is yet to be told.
#[cfg(feature = "hub")]
pub(crate) fn progress_of_bytes(what: &'static str, quiet: bool) -> ProgressBar {
    let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    shown(ProgressBar::new(0), template, what, quiet)
}

fn shown(bar: ProgressBar, template: &str, what: &'static str, quiet: bool) -> ProgressBar {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    let is_silent = quiet || !io::stderr().is_terminal();
    bar.set_draw_target(match is_silent {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    });
    bar
}

/// Says something to the person at the terminal, on stderr.
pub(crate) fn note(quiet: bool, message: impl Display) {
    if !quiet {
        let _ = writeln!(io::stderr(), "{message}");
    }
}

/// Sends the libraries' log to stderr: warnings, and more with `-v`.
pub fn log_to_stderr(verbosity: u8, quiet: bool) {
    let level = match (quiet, verbosity) {
        (true, _) => log::LevelFilter::Error,
        (_, 0) => log::LevelFilter::Warn,
        (_, 1) => log::LevelFilter::Info,
        _ => log::LevelFilter::Debug,
    };
    // A second call, as in tests, keeps the first logger.
    let _ = log::set_logger(&StderrLog);
    log::set_max_level(level);
}

struct StderrLog;

impl log::Log for StderrLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // Tantivy narrates every commit at `info`.
        let is_ours = metadata.target().starts_with("laconic");
        is_ours || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_lowercase();
            let _ = writeln!(io::stderr(), "{level}: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Something was found or done.
    Done,
    /// A search found nothing.
    NothingFound,
    /// `check` found damage.
    Damaged,
}

/// A mistake in how the command was called.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// An input lacks what is needed.
#[derive(Debug)]
pub(crate) struct MissingError(pub(crate) String);

impl Display for MissingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MissingError {}

/// What is asked for does not fit the index that is there.
#[derive(Debug)]
pub(crate) struct MismatchError(pub(crate) &'static str);

impl Display for MismatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for MismatchError {}

/// Another process is writing to the index; the message names it.
#[derive(Debug)]
pub(crate) struct BusyError(pub(crate) String);

impl Display for BusyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BusyError {}

/// Runs a command and makes a panic an error.
///
/// Tantivy panics on some damaged files, and whoever searches one has to be told what to do, not
/// shown the inside of a library. `-vv` or `RUST_BACKTRACE` still shows it.
pub(crate) fn catch_panics(run: impl FnOnce() -> anyhow::Result<Ending>) -> anyhow::Result<Ending> {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|panic| log::debug!("{panic}")));
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    outcome.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(PanicError(message.unwrap_or("no reason given").to_owned()).into())
    })
}

#[derive(Debug)]
struct PanicError(String);

impl Display for PanicError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "something that cannot happen did: {}; if an index was being read it is most likely \
             damaged, which `laconic check` finds out; if not, please report this",
            self.0
        )
    }
}

impl std::error::Error for PanicError {}

/// Prints the error of a failed command and returns the exit code: 0 done, 1 nothing found,
/// 2 usage, 3 bad input, 4 corrupt, 5 mismatch, 6 busy, 7 anything else (I/O).
pub fn exit_code(outcome: anyhow::Result<Ending>) -> ExitCode {
    match outcome {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::NothingFound) => ExitCode::from(1),
        Ok(Ending::Damaged) => ExitCode::from(4),
        // A reader that has seen enough, as `laconic search | head`, is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "laconic: {}", sentence(&error));
            ExitCode::from(cause(&error))
        }
    }
}

/// The chain of causes, each said once: several of our errors repeat their source's text.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}

fn cause(error: &anyhow::Error) -> u8 {
    error.chain().find_map(cause_of).unwrap_or(7)
}

fn cause_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<UsageError>() {
        return Some(2);
    }
    if cause.is::<PanicError>() {
        return Some(4);
    }
    if cause.is::<BusyError>() {
        return Some(6);
    }
    if cause.is::<MismatchError>() {
        return Some(5);
    }
    if cause.is::<MissingError>() {
        return Some(3);
    }
    if cause.is::<InputError>() || cause.is::<crate::eval::EvalError>() {
        return Some(3);
    }
    #[cfg(feature = "hub")]
    if let Some(error) = cause.downcast_ref::<crate::hub::HubError>() {
        return error.exit_code();
    }
    if let Some(error) = cause.downcast_ref::<laconic_tantivy::Error>() {
        return tantivy_cause(error);
    }
    if let Some(error) = cause.downcast_ref::<tantivy::TantivyError>() {
        return tantivy_cause(&laconic_tantivy::Error::from(error.clone()));
    }
    let error = cause.downcast_ref::<laconic_model::Error>()?;
    match () {
        () if error.is_corrupt() || error.is_not_finite() => Some(4),
        () if error.is_io() || error.is_out_of_memory() || error.is_device() => None,
        () => Some(3),
    }
}

fn tantivy_cause(error: &laconic_tantivy::Error) -> Option<u8> {
    match () {
        () if error.is_mismatch() => Some(5),
        () if error.is_busy() => Some(6),
        () if error.is_corrupt() => Some(4),
        () if error.is_invalid_input() => Some(3),
        () => None,
    }
}

/// Prints a line of results.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn print(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    Ok(print(serde_json::to_string(value)?)?)
}
