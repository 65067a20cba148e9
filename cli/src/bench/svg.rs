//! Plots of a report, in SVG of our own: latency against whatever took several values.

use std::fmt::Write;

use super::report::{CollectionReport, Point, Report};
use super::table::grouped;
use crate::svg::{COLORS, STYLE, draw_key, escaped, line, short, text};

/// A plot and the name of its file.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    pub(crate) file: String,
    pub(crate) svg: String,
}

/// What a plot's x axis shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    K,
    Documents,
    QueryTerms,
}

/// One measured point by its three coordinates.
#[derive(Clone, Copy)]
struct Sample<'a> {
    collection: &'a CollectionReport,
    point: &'a Point,
}

/// Named lines of (x, milliseconds).
type Lines = Vec<(String, Vec<(f64, f64)>)>;

/// The plots that a report has figures for: one for each value of the other axes.
pub(crate) fn plots(report: &Report) -> Vec<Plot> {
    let samples: Vec<Sample<'_>> = report
        .collections
        .iter()
        .flat_map(|collection| {
            let points = collection.results.iter();
            points.map(move |point| Sample { collection, point })
        })
        .collect();
    let mut plots = Vec::new();
    for axis in [Axis::K, Axis::Documents, Axis::QueryTerms] {
        let mut fixed: Vec<String> = samples.iter().map(|sample| sample.fixed(axis)).collect();
        fixed.sort();
        fixed.dedup();
        for fixed in fixed {
            let along = samples.iter().filter(|s| s.fixed(axis) == fixed).copied();
            plots.extend(plot(axis, &fixed, &along.collect::<Vec<_>>()));
        }
    }
    plots
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Axis::K => "k",
            Axis::Documents => "documents",
            Axis::QueryTerms => "query terms",
        }
    }
}

impl Sample<'_> {
    #[expect(clippy::cast_precision_loss, reason = "a place on an axis")]
    fn x(&self, axis: Axis) -> f64 {
        match axis {
            Axis::K => self.point.k as f64,
            Axis::Documents => self.collection.index.documents as f64,
            Axis::QueryTerms => self.point.mean_query_terms,
        }
    }

    /// The coordinates beside `axis`, in words.
    fn fixed(&self, axis: Axis) -> String {
        let terms = match self.point.query_terms {
            Some(n_terms) => format!("{n_terms} query terms"),
            None => "queries as they are".to_owned(),
        };
        let parts = [
            (Axis::Documents, {
                let documents = grouped(self.collection.index.documents);
                format!("{documents} documents")
            }),
            (Axis::K, format!("k = {}", self.point.k)),
            (Axis::QueryTerms, terms),
        ];
        let parts = parts.into_iter().filter(|(part, _)| *part != axis);
        let parts: Vec<String> = parts.map(|(_, words)| words).collect();
        format!("{}, {}", self.collection.collection, parts.join(", "))
    }
}

fn plot(axis: Axis, fixed: &str, samples: &[Sample<'_>]) -> Option<Plot> {
    let mut lines: Lines = Vec::new();
    for sample in samples {
        for figures in &sample.point.methods {
            let point = (sample.x(axis), figures.mean_ms);
            match lines.iter_mut().find(|(name, _)| *name == figures.method) {
                Some((_, points)) => points.push(point),
                None => lines.push((figures.method.clone(), vec![point])),
            }
        }
    }
    for (_, points) in &mut lines {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points.dedup_by(|a, b| a.0 == b.0);
    }
    let has_line = lines.iter().any(|(_, points)| points.len() > 1);
    let title = format!("Mean latency by {}: {fixed}", axis.name());
    let slug: String = title
        .split_once(" by ")
        .map_or("", |(_, rest)| rest)
        .replace(',', "")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let slug = slug.replace("---", "-").replace("--", "-");
    has_line.then(|| Plot {
        file: format!("latency-by-{slug}.svg"),
        svg: Canvas::new(&lines).draw(&title, axis.name(), &lines),
    })
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 580.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 400.0;

/// Two logarithmic axes.
struct Canvas {
    x: Scale,
    y: Scale,
}

/// A logarithmic axis from the smallest to the largest value.
struct Scale {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Scale {
    fn new(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Scale {
        let low = values.clone().fold(f64::INFINITY, f64::min).max(1e-9);
        let high = values.fold(low, f64::max);
        // A little room, which also keeps a single value from being no range.
        Scale {
            low: (low / 1.15).ln(),
            high: (high * 1.15).ln(),
            start,
            end,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(1e-9).ln() - self.low) / (self.high - self.low);
        self.start + share * (self.end - self.start)
    }

    /// 1, 2 and 5 of each decade in range.
    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        for decade in -9..10 {
            for step in [1.0, 2.0, 5.0] {
                let tick = step * 10f64.powi(decade);
                if (self.low..=self.high).contains(&tick.ln()) {
                    ticks.push(tick);
                }
            }
        }
        ticks
    }
}

impl Canvas {
    fn new(lines: &Lines) -> Canvas {
        let points = || lines.iter().flat_map(|(_, points)| points.iter());
        Canvas {
            x: Scale::new(points().map(|point| point.0), LEFT, RIGHT),
            y: Scale::new(points().map(|point| point.1), BOTTOM, TOP),
        }
    }

    fn draw(&self, title: &str, x_label: &str, lines: &Lines) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n",
            escaped(title)
        );
        text(&mut svg, (LEFT, 28.0), "start\" class=\"title", title);
        self.draw_axes(&mut svg, x_label, lines);
        let mut by_height: Vec<usize> = (0..lines.len()).collect();
        let last = |line: usize| lines[line].1.last().map_or(0.0, |point| point.1);
        by_height.sort_by(|&a, &b| last(b).total_cmp(&last(a)));
        for (place, &line) in by_height.iter().enumerate() {
            self.draw_line(&mut svg, &lines[line], COLORS[line % COLORS.len()]);
            let y = TOP + 10.0 + 22.0 * f64::from(u32::try_from(place).unwrap_or(0));
            draw_key(
                &mut svg,
                (RIGHT + 20.0, y),
                &lines[line].0,
                COLORS[line % COLORS.len()],
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_axes(&self, svg: &mut String, x_label: &str, lines: &Lines) {
        for tick in self.y.ticks() {
            let y = self.y.place(tick);
            line(svg, (LEFT, y), (RIGHT, y), "grid");
            text(svg, (LEFT - 8.0, y + 4.0), "end", &short(tick));
        }
        // Only what was measured is marked, where there is room.
        let mut marked = f64::NEG_INFINITY;
        let mut values: Vec<f64> = lines.iter().flat_map(|l| &l.1).map(|p| p.0).collect();
        values.sort_by(f64::total_cmp);
        for value in values {
            let x = self.x.place(value);
            if x - marked >= 45.0 {
                marked = x;
                line(svg, (x, BOTTOM), (x, BOTTOM + 5.0), "axis");
                text(svg, (x, BOTTOM + 20.0), "middle", &short(value));
            }
        }
        line(svg, (LEFT, BOTTOM), (RIGHT, BOTTOM), "axis");
        line(svg, (LEFT, TOP), (LEFT, BOTTOM), "axis");
        let middle = LEFT + (RIGHT - LEFT) / 2.0;
        let label = format!("{x_label} (log)");
        text(svg, (middle, BOTTOM + 44.0), "middle", &label);
        text(svg, (LEFT, TOP - 14.0), "end", "ms (log)");
    }

    fn draw_line(&self, svg: &mut String, (_, points): &(String, Vec<(f64, f64)>), color: &str) {
        let places = points
            .iter()
            .map(|p| (self.x.place(p.0), self.y.place(p.1)));
        let path: Vec<String> = places
            .clone()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let path = path.join(" ");
        let _ = writeln!(
            svg,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        );
        for (x, y) in places {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{color}\"/>"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_in_the_frame() {
        let lines = vec![("<a>".to_owned(), vec![(10.0, 0.1), (1000.0, 20.0)])];
        let canvas = Canvas::new(&lines);
        for (x, y) in [(10.0, 0.1), (1000.0, 20.0)] {
            assert!((LEFT..=RIGHT).contains(&canvas.x.place(x)));
            assert!((TOP..=BOTTOM).contains(&canvas.y.place(y)));
        }
        assert_eq!(canvas.y.ticks(), [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]);
        let svg = canvas.draw("t", "k", &lines);
        assert!(svg.contains("&lt;a&gt;") && svg.ends_with("</svg>\n"));
    }
}
