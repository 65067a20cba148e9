//! The command-line tool, built once more where cargo hands it to this package's tests.

fn main() -> std::process::ExitCode {
    laconic_cli::main()
}
