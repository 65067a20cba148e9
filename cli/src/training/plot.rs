//! A run as SVG: panels of figures by step.

use std::fmt::Write;

use serde_json::Value;

use super::journal::Entry;
use crate::svg::{COLORS, STYLE, draw_key, escaped, line, short, text};

const WIDTH: f64 = 800.0;
const PANEL: f64 = 210.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 600.0;
/// Between a panel's upper edge and its frame, and below the frame.
const MARGIN: f64 = 40.0;

/// A panel: its title, and the lines in it by name and place in an entry.
type Panel = (&'static str, &'static [(&'static str, &'static str)]);

const PANELS: [Panel; 4] = [
    ("Loss", &[("whole", "/loss"), ("contrast", "/contrast")]),
    (
        "Terms of a vector",
        &[("queries", "/query_terms"), ("passages", "/document_terms")],
    ),
    (
        "Share found first",
        &[
            ("in the batch", "/accuracy"),
            ("held out", "/validation/recall_at_1"),
        ],
    ),
    (
        "Length of the gradient",
        &[("before clipping", "/gradient_norm")],
    ),
];

/// Figures of a line, by step.
type Points = Vec<(f64, f64)>;

/// Draws the entries of a journal.
pub(crate) fn plot(entries: &[Entry]) -> String {
    let height = PANEL * 4.0 + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\">\n<title>A training run</title>\n<style>{STYLE}</style>\n"
    );
    for (place, (title, lines)) in (0_u32..).zip(&PANELS) {
        let lines: Vec<(&str, Points)> = lines
            .iter()
            .map(|(name, at)| (*name, points(entries, at)))
            .collect();
        draw_panel(&mut svg, PANEL * f64::from(place), title, &lines);
    }
    svg.push_str("</svg>\n");
    svg
}

#[expect(clippy::cast_precision_loss, reason = "a place on an axis")]
fn points(entries: &[Entry], at: &str) -> Points {
    let figure = |entry: &Entry| entry.figures.pointer(at).and_then(Value::as_f64);
    let points = entries
        .iter()
        .filter_map(|entry| Some((entry.step as f64, figure(entry)?)));
    points.collect()
}

fn draw_panel(svg: &mut String, top: f64, title: &str, lines: &[(&str, Points)]) {
    let all = || lines.iter().flat_map(|(_, points)| points);
    let last = all().map(|point| point.0).fold(1.0, f64::max);
    let high = all().map(|point| point.1).fold(1e-9, f64::max) * 1.05;
    let (start, end) = (top + MARGIN, top + PANEL - MARGIN);
    let x = |step: f64| LEFT + step / last * (RIGHT - LEFT);
    let y = |value: f64| end - value.max(0.0) / high * (end - start);
    text(
        svg,
        (LEFT, top + 26.0),
        "start\" class=\"title",
        &escaped(title),
    );
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let value = share * high / 1.05;
        let class = if share == 0.0 { "axis" } else { "grid" };
        line(svg, (LEFT, y(value)), (RIGHT, y(value)), class);
        text(
            svg,
            (LEFT - 8.0, y(value) + 4.0),
            "end",
            &short(rounded(value)),
        );
        let step = (share * last).round();
        line(svg, (x(step), end), (x(step), end + 5.0), "axis");
        text(svg, (x(step), end + 20.0), "middle", &short(step));
    }
    for (place, (name, points)) in lines.iter().enumerate() {
        let color = COLORS[place % COLORS.len()];
        let path: Vec<String> = points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>",
            path.join(" ")
        );
        let below = 22.0 * f64::from(u32::try_from(place).unwrap_or(0));
        draw_key(svg, (RIGHT + 20.0, start + 10.0 + below), name, color);
    }
}

/// To three digits.
fn rounded(value: f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    let unit = 10f64.powf(value.log10().floor() - 2.0);
    (value / unit).round() * unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_panel_has_its_lines_within_the_frame() {
        let entry = |step: u64, figures: Value| Entry { step, figures };
        let entries = [
            entry(
                1,
                json!({"loss": 3.0, "contrast": 2.5, "query_terms": 10, "accuracy": 0.5}),
            ),
            entry(
                2,
                json!({"loss": 1.0, "contrast": 0.5, "document_terms": 99.0}),
            ),
            entry(2, json!({"validation": {"recall_at_1": 0.25}})),
        ];
        let svg = plot(&entries);
        assert_eq!(svg.matches("<polyline").count(), 7);
        for title in ["Loss", "Terms of a vector", "Share found first", "held out"] {
            assert!(svg.contains(title), "{title}");
        }
        assert!(!svg.contains("NaN") && !plot(&[]).contains("NaN"));
    }
}
