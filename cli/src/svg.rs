//! What plots are drawn with: lines, words, colours.

use std::fmt::Write;

/// Colours that stand out from black and from white (after Paul Tol's bright scheme).
pub(crate) const COLORS: [&str; 8] = [
    "#ee6677", "#4477aa", "#228833", "#b8a000", "#3fa7c4", "#aa3377", "#ee7733", "#888888",
];

/// Text and lines take the colour that the reader's background asks for.
pub(crate) const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#222}.grid{stroke:#ddd}\
.axis{stroke:#222}.title{font-weight:600;font-size:15px}\
@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}.axis{stroke:#ddd}}";

/// A stroke of a line's colour and the line's name, from `x` to the right.
pub(crate) fn draw_key(svg: &mut String, (x, y): (f64, f64), name: &str, color: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{color}\" stroke-width=\"3\"/>",
        x + 22.0
    );
    text(svg, (x + 30.0, y + 4.0), "start", name);
}

pub(crate) fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), class: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"/>",
        from.0, from.1, to.0, to.1
    );
}

pub(crate) fn text(svg: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
        at.0,
        at.1,
        escaped(words)
    );
}

pub(crate) fn escaped(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// 0.05, 24.3, 1000, 100k, 10M.
pub(crate) fn short(value: f64) -> String {
    let (value, unit) = match value {
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = if value >= 100.0 { 0 } else { 1 };
    match value {
        ..0.1 => format!("{value}"),
        _ => {
            let text = format!("{value:.decimals$}");
            let text = text.strip_suffix(".0").unwrap_or(&text);
            format!("{text}{unit}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let values = [0.002, 0.05, 0.5, 5.0, 24.25, 1000.0, 100_000.0, 1e7];
        let expected = ["0.002", "0.05", "0.5", "5", "24.2", "1000", "100k", "10M"];
        assert_eq!(values.map(short), expected);
    }
}
