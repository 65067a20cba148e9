//! How the terminal wants things: width, characters, colours.

use std::io::{self, IsTerminal};

/// Columns where nothing says how many there are.
const DEFAULT_WIDTH: usize = 80;

/// How to print for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns of a line.
    pub width: usize,
    /// Whether blocks and arrows can be shown, or ASCII alone.
    pub is_unicode: bool,
    /// Whether text may be bold and coloured.
    pub is_coloured: bool,
}

impl Style {
    /// What standard output wants: colours only on a terminal and not with `NO_COLOR`; ASCII if
    /// the locale says that its characters are not UTF-8.
    pub fn of_stdout() -> Style {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(variable);
        let is_terminal = io::stdout().is_terminal();
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into());
        Style {
            width: width.filter(|_| is_terminal).unwrap_or(DEFAULT_WIDTH),
            is_unicode: locale.is_none_or(|locale| is_utf8(&locale)),
            is_coloured: is_terminal && variable("NO_COLOR").is_none(),
        }
    }

    pub(super) fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn bar_colour(&self, text: &str) -> String {
        self.with("36", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        match self.is_coloured && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// A bar of `share` of `width` columns, filled up with spaces.
    pub(super) fn bar(&self, share: f32, width: usize) -> String {
        const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let share = if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a few hundred columns at most, from 0 up"
        )]
        let n_eighths = (share * (width * 8) as f32).round() as usize;
        let (full, part) = match self.is_unicode {
            true => ("█".repeat(n_eighths / 8), EIGHTHS[n_eighths % 8]),
            false => ("#".repeat((n_eighths + 4) / 8), ""),
        };
        let n_shown = full.chars().count() + part.chars().count();
        let rest = " ".repeat(width.saturating_sub(n_shown));
        format!("{}{rest}", self.bar_colour(&format!("{full}{part}")))
    }
}

/// Whether a locale's name says so; `C` and `POSIX` are ASCII.
fn is_utf8(locale: &str) -> bool {
    let locale = locale.to_lowercase();
    locale.ends_with("utf-8")
        || locale.ends_with("utf8")
        || locale.contains("utf-8@")
        || locale.contains("utf8@")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style {
        width: 80,
        is_unicode: true,
        is_coloured: false,
    };

    #[test]
    fn bars_have_their_width_whatever_the_share() {
        let ascii = Style {
            is_unicode: false,
            ..PLAIN
        };
        for share in [-1.0, 0.0, 0.01, 0.3, 0.5, 0.999, 1.0, 7.0, f32::NAN] {
            for style in [PLAIN, ascii] {
                assert_eq!(style.bar(share, 10).chars().count(), 10, "{share}");
            }
        }
        assert_eq!(PLAIN.bar(0.5, 5), "██▌  ");
        assert_eq!(ascii.bar(0.5, 4), "##  ");
        assert!(ascii.bar(0.3, 9).is_ascii());
        let coloured = Style {
            is_coloured: true,
            ..PLAIN
        };
        assert_eq!(coloured.bar(1.0, 1), "\x1b[36m█\x1b[0m");
    }

    #[test]
    fn a_locale_names_its_characters() {
        for (locale, expected) in [
            ("C", false),
            ("POSIX", false),
            ("de_DE.ISO-8859-1", false),
            ("C.UTF-8", true),
            ("en_GB.utf8", true),
            ("de_DE.UTF-8@euro", true),
        ] {
            assert_eq!(is_utf8(locale), expected, "{locale}");
        }
    }
}
