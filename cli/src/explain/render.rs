//! Explanations as lines for people: bars of shares, marks of expansions, source words.

use std::fmt::Write;

use super::{Bm25Match, Fragment, HitExplanation, LearnedPart, LearnedTerm, Sides, Style};

/// What an explanation stands below a hit by.
const INDENT: &str = "       ";
/// Columns of a line that are neither bar nor name.
const FIXED: usize = 53;
/// Columns of the bar: a third of what is free, within these.
const BAR: std::ops::RangeInclusive<usize> = 6..=30;

/// Characters of a source word that are shown.
const SOURCE_CHARS: usize = 48;

/// How many terms of a document are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown(pub usize);

impl HitExplanation {
    /// The explanation as lines.
    pub fn to_text(&self, style: &Style, shown: Shown) -> String {
        let mut lines = Lines::new(style);
        for fragment in &self.fragments {
            lines.fragment(fragment);
        }
        for line in super::fusion::lines(&self.fusion) {
            lines.line(&line);
        }
        if let Some(part) = &self.learned {
            lines.learned(part, shown);
        }
        if let Some(part) = &self.bm25 {
            lines.heading("BM25", part.score, "clauses");
            let largest = part
                .clauses
                .iter()
                .map(|clause| clause.share)
                .fold(0.0, f32::max);
            for clause in part.clauses.iter().take(shown.0) {
                lines.clause(clause, largest);
            }
            lines.rest(part.clauses.iter().map(|clause| clause.share), shown);
        }
        lines.text
    }
}

/// What the marks beside terms mean, as far as they can be there.
pub fn legend(knows: Sides<bool>) -> &'static str {
    match (knows.document, knows.query) {
        (true, true) => {
            "expansions, terms that a text itself does not have: +d the document, +q the query"
        }
        (true, false) => {
            "expansions, terms that a text itself does not have: +d the document; unknown of the \
             query, which was given as a vector"
        }
        _ => "which terms are expansions is unknown without the encoder; name it with --model",
    }
}

struct Lines<'s> {
    style: &'s Style,
    bar: usize,
    name: usize,
    text: String,
}

impl Lines<'_> {
    fn new(style: &Style) -> Lines<'_> {
        let free = style.width.saturating_sub(FIXED);
        let bar = (free / 3).clamp(*BAR.start(), *BAR.end());
        Lines {
            style,
            bar,
            name: free.saturating_sub(bar).clamp(12, 24),
            text: String::new(),
        }
    }

    fn line(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{INDENT}{}", line.trim_end());
    }

    fn heading(&mut self, what: &str, score: f32, sum_of: &str) {
        let heading = self.style.bold(&format!("{what} {score:.4}"));
        self.line(&format!("{heading}, sum of {sum_of}"));
    }

    fn times(&self) -> char {
        if self.style.is_unicode { '×' } else { 'x' }
    }

    fn fragment(&mut self, fragment: &Fragment) {
        let mut line = format!("{} ", self.style.dim(&format!("{}:", fragment.part)));
        let mut is_after_space = true;
        for (text, is_word) in fragment.stretches() {
            let mut shown = String::new();
            for c in text.chars() {
                let is_space = c.is_whitespace() || c.is_control();
                if !(is_space && is_after_space) {
                    shown.push(if is_space { ' ' } else { c });
                }
                is_after_space = is_space;
            }
            line.push_str(&if is_word {
                self.style.bold(&shown)
            } else {
                shown
            });
        }
        self.line(&line);
    }

    fn learned(&mut self, part: &LearnedPart, shown: Shown) {
        let sum_of = format!("impact (weight) {} query weight", self.times());
        self.heading("learned-sparse", part.score, &sum_of);
        let shares = || part.terms.iter().map(|term| term.contribution.share);
        let largest = shares().fold(0.0, f32::max);
        for term in part.terms.iter().take(shown.0) {
            self.term(term, largest);
        }
        self.rest(shares(), shown);
    }

    fn term(&mut self, term: &LearnedTerm, largest: f32) {
        let part = &term.contribution;
        let start = self.start(part.share, largest, &term.readable);
        let times = self.times();
        let marks = match (term.is_expansion.document, term.is_expansion.query) {
            (Some(true), Some(true)) => "+d +q",
            (Some(true), _) => "+d",
            (_, Some(true)) => "   +q",
            _ => "",
        };
        self.line(&format!(
            "{start} {:>3} ({:.3}) {times} {:.3} = {:.4} {marks}",
            part.impact, part.document_weight, part.query_weight, part.contribution
        ));
        let from = |side: &str, source: &Option<super::SourceWord>| {
            let source = source.as_ref()?.to_string();
            let shown = source.chars().filter(|c| !c.is_control());
            // Scripts without spaces make words of whole sentences.
            let shown: String = shown.take(SOURCE_CHARS).collect();
            Some(format!("{side}: {shown}"))
        };
        let document = from("document", &term.source.document);
        let query = from("query", &term.source.query);
        let sources: Vec<String> = document.into_iter().chain(query).collect();
        if !sources.is_empty() {
            let gap = " ".repeat(self.bar + 10);
            let sources = self.style.dim(&sources.join(", "));
            self.line(&format!("{gap}{sources}"));
        }
    }

    fn clause(&mut self, clause: &Bm25Match, largest: f32) {
        let start = self.start(clause.share, largest, &clause.label);
        let times = self.times();
        #[expect(
            clippy::float_cmp,
            reason = "1 is what a clause has that was given once"
        )]
        let boost = match clause.boost == 1.0 {
            true => String::new(),
            false => format!(" ({times} {})", clause.boost),
        };
        self.line(&format!("{start} {:.4}{boost}", clause.score));
    }

    /// Share, bar and name, in columns.
    fn start(&self, share: f32, largest: f32, name: &str) -> String {
        let bar = self.style.bar(share / largest, self.bar);
        let name = match self.style.is_unicode {
            true => name.to_owned(),
            false => name.replace('▁', "_"),
        };
        format!(
            "{:>5.1} % {bar} {}",
            100.0 * share,
            fitted(&name, self.name)
        )
    }

    /// What is not shown.
    fn rest(&mut self, shares: impl Iterator<Item = f32>, Shown(n_shown): Shown) {
        let rest: Vec<f32> = shares.skip(n_shown).collect();
        if !rest.is_empty() {
            let share = 100.0 * rest.iter().sum::<f32>();
            let n_more = rest.len();
            let line = format!("{share:>5.1} % in {n_more} more, which --json lists");
            let line = self.style.dim(&line);
            self.line(&line);
        }
    }
}

/// A name in `width` columns, cut if it is longer.
fn fitted(name: &str, width: usize) -> String {
    let n_chars = name.chars().count();
    match n_chars <= width {
        true => format!("{name}{}", " ".repeat(width - n_chars)),
        false => name.chars().take(width - 1).chain(['~']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bm25Part, SourceWord};
    use super::*;
    use laconic_tantivy::TermContribution;
    use tantivy::query::Explanation;

    fn term(readable: &str, share: f32, is_expansion: Sides<Option<bool>>) -> LearnedTerm {
        LearnedTerm {
            contribution: TermContribution {
                term: readable.to_owned(),
                impact: 255,
                document_weight: 31.875,
                query_weight: 1.5,
                contribution: 10.0 * share,
                share,
            },
            readable: readable.to_owned(),
            is_expansion,
            source: Sides::default(),
        }
    }

    fn explanation() -> HitExplanation {
        let known = |document, query| Sides {
            document: Some(document),
            query: Some(query),
        };
        let mut first = term("▁bone", 0.5, known(false, true));
        first.source.document = Some(SourceWord {
            part: "body",
            word: "bo\u{1b}nes".to_owned(),
            place: Some((0..4, 0..4)),
        });
        let learned = LearnedPart {
            score: 10.0,
            terms: vec![
                first,
                term(&"x".repeat(60), 0.25, known(true, true)),
                term("a", 0.15, known(true, false)),
                term("b", 0.1, Sides::default()),
            ],
            knows: Sides {
                document: true,
                query: true,
            },
        };
        let clause = Bm25Match {
            label: "text:bone".to_owned(),
            boost: 2.0,
            score: 1.5,
            share: 1.0,
            explanation: Explanation::new("term", 1.5),
        };
        HitExplanation {
            fusion: Vec::new(),
            learned: Some(learned),
            bm25: Some(Bm25Part {
                score: 1.5,
                clauses: vec![clause],
            }),
            fragments: vec![Fragment {
                part: "body",
                text: "two \n\u{1b} bones é".to_owned(),
                place: 3..17,
                highlighted: std::iter::once(7..12).collect(),
            }],
        }
    }

    #[test]
    fn both_parts_are_shown_one_below_the_other() {
        let plain = Style {
            width: 80,
            is_unicode: true,
            is_coloured: false,
        };
        let text = explanation().to_text(&plain, Shown(3));
        let expected = "       \
       body: two bones é
       learned-sparse 10.0000, sum of impact (weight) × query weight
        50.0 % █████████ ▁bone              255 (31.875) × 1.500 = 5.0000    +q
                          document: `bones` (body)
        25.0 % ████▌     xxxxxxxxxxxxxxxxx~ 255 (31.875) × 1.500 = 2.5000 +d +q
        15.0 % ██▊       a                  255 (31.875) × 1.500 = 1.5000 +d
        10.0 % in 1 more, which --json lists
       BM25 1.5000, sum of clauses
       100.0 % █████████ text:bone          1.5000 (× 2)
";
        assert_eq!(text, expected);
        let coloured = Style {
            is_coloured: true,
            ..plain
        };
        let coloured = explanation().to_text(&coloured, Shown(3));
        assert!(
            coloured.contains("two \x1b[1mbones\x1b[0m é\n"),
            "{coloured}"
        );
        let ascii = Style {
            is_unicode: false,
            ..plain
        };
        let ascii = explanation().to_text(&ascii, Shown(3));
        assert!(
            ascii.replace('é', "").is_ascii() && ascii.contains(" _bone "),
            "{ascii}"
        );
    }

    #[test]
    fn lines_fit_the_terminal() {
        for width in [0, 40, 80, 100, 132, 400] {
            let style = Style {
                width,
                is_unicode: true,
                is_coloured: false,
            };
            let text = explanation().to_text(&style, Shown(9));
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            // Below this nothing can be left out.
            assert!(longest <= width.max(78), "{width}: {longest}");
        }
    }
}
