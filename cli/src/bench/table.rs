//! A report as text.

use std::io;

use super::real;
use super::report::{CollectionReport, MethodFigures, Point, Report};
use crate::terminal::print;

/// Prints the whole report.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn print_table(report: &Report) -> io::Result<()> {
    let machine = &report.machine;
    let cpu = machine.cpu.as_deref().unwrap_or(machine.arch);
    print(format_args!(
        "laconic {}, {cpu}, {} cores, {}, {}",
        machine.laconic_version, machine.cores, machine.os, machine.date
    ))?;
    let settings = &report.settings;
    let verified = match settings.verified {
        true => ", scores verified",
        false => "",
    };
    print(format_args!(
        "{} queries, {} rounds, {} thread(s); ratios to {}{verified}",
        settings.queries, settings.rounds, settings.threads, settings.baseline
    ))?;
    report
        .collections
        .iter()
        .try_for_each(|collection| print_collection(collection, settings.bits))
}

fn print_collection(report: &CollectionReport, bits: u8) -> io::Result<()> {
    let index = &report.index;
    let order = report.order.map_or(String::new(), |order| {
        format!(", {} order", format!("{order:?}").to_lowercase())
    });
    print(format_args!(
        "\n{}: {} documents, {} postings, {} terms{order}, {bits} bits, {} segment(s)",
        report.collection,
        grouped(index.documents),
        grouped(index.postings),
        grouped(index.terms),
        index.segments
    ))?;
    let earlier = if index.reused { " (earlier run)" } else { "" };
    print(format_args!(
        "indexing   {:.0} documents/s, {:.2} million postings/s{earlier}",
        index.documents_per_second,
        index.postings_per_second / 1e6
    ))?;
    if index.bisecting_seconds > 0.0 {
        print(format_args!(
            "bisecting  {:.1} s on one thread{earlier}",
            index.bisecting_seconds
        ))?;
    }
    let bytes = &index.bytes_per_posting;
    print(format_args!(
        "bytes      {:.3} a posting: postings {:.3}, dictionary {:.3}, bounds {:.3}",
        bytes.total, bytes.postings, bytes.dictionary, bytes.bounds
    ))?;
    report.results.iter().try_for_each(print_point)
}

fn print_point(point: &Point) -> io::Result<()> {
    print(format_args!(
        "\nk {}, {:.1} query terms, {:.0} postings a query",
        point.k, point.mean_query_terms, point.mean_query_postings
    ))?;
    let width = point.methods.iter().map(|method| method.method.len());
    let width = width.max().unwrap_or(0).max("method".len());
    print(format_args!(
        "{:<width$} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>9} {:>9}",
        "method",
        "mean ms",
        "p50",
        "p95",
        "p99",
        "QPS",
        "CPU ms",
        "ratio",
        "recall",
        "scored",
        "blocks"
    ))?;
    point
        .methods
        .iter()
        .try_for_each(|method| print_method(method, width))
}

fn print_method(figures: &MethodFigures, width: usize) -> io::Result<()> {
    let optional = |value: Option<f64>, digits: usize| {
        value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let share = |part: f64, whole: f64| format!("{:.1} %", 100.0 * part / whole.max(1.0));
    let (scored, blocks) = match figures.work {
        Some(work) => (
            share(work.postings_scored, work.postings),
            share(work.blocks_evaluated, work.blocks),
        ),
        None => ("-".to_owned(), "-".to_owned()),
    };
    print(format_args!(
        "{:<width$} {:>9.4} {:>9.4} {:>9.4} {:>9.4} {:>9.0} {:>9} {:>7.3} {:>7} {:>9} {:>9}",
        figures.method,
        figures.mean_ms,
        figures.p50_ms,
        figures.p95_ms,
        figures.p99_ms,
        figures.queries_per_second,
        optional(figures.cpu_mean_ms, 4),
        figures.ratio,
        optional(figures.recall, 4),
        scored,
        blocks
    ))
}

/// 1234567 as 1,234,567; more than fifteen digits are rounded.
pub(super) fn grouped(count: u64) -> String {
    let digits = format!("{:.0}", real(count));
    let mut grouped = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_in_threes() {
        let counts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
    }
}
