//! `laconic`: learned sparse retrieval inside Tantivy, from the command line.

fn main() -> std::process::ExitCode {
    laconic_cli::main()
}
