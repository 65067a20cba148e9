//! The pieces of a query: words, phrases, field names, signs, boosts.

use super::escapes::{
    SPECIAL, closes, end_of_set, is_blank, set_bracket, unescaped, without_backslashes,
};
use super::fault::Fault;
use super::syntax::{FieldName, Words};

/// Largest boost; a sum of scores times this stays finite.
pub(super) const MAX_BOOST: f32 = 1e6;

/// A place in a query, and what can be read there. Every method that reads either consumes what
/// it returns or leaves the place alone.
pub(super) struct Lexer<'q> {
    query: &'q str,
    at: usize,
    /// The last `'` that can close a phrase; none after it is looked for.
    last_single_quote: Option<usize>,
}

impl<'q> Lexer<'q> {
    pub(super) fn new(query: &'q str) -> Lexer<'q> {
        let quotes = unescaped(query, '\'');
        Lexer {
            query,
            at: 0,
            last_single_quote: quotes.filter(|at| closes(query, *at)).last(),
        }
    }

    /// Byte of the query that is read next.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn rest(&self) -> &'q str {
        &self.query[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn eat(&mut self, c: char) -> bool {
        let is_there = self.peek() == Some(c);
        if is_there {
            self.at += c.len_utf8();
        }
        is_there
    }

    pub(super) fn skip_blanks(&mut self) {
        self.at = self.query.len() - self.rest().trim_start_matches(is_blank).len();
    }

    /// AND, OR or NOT as a word of its own.
    pub(super) fn operator(&mut self) -> Option<&'static str> {
        let operator = ["AND", "OR", "NOT"].into_iter().find(|operator| {
            let after = self.rest().strip_prefix(operator);
            after.is_some_and(|after| !after.starts_with(|c| !is_blank(c) && !"()".contains(c)))
        })?;
        self.at += operator.len();
        Some(operator)
    }

    /// `+` or `-` right before something; elsewhere they are plain characters.
    pub(super) fn sign(&mut self) -> Option<char> {
        let mut chars = self.rest().chars();
        let sign = chars.next().filter(|c| "+-".contains(*c))?;
        chars
            .next()
            .filter(|c| !is_blank(*c) && !"+-)".contains(*c))?;
        self.at += 1;
        Some(sign)
    }

    /// `name:`, the name without escapes.
    pub(super) fn field_name(&mut self) -> Option<FieldName> {
        let mut name = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((idx, c)) = chars.next() {
            match c {
                ':' if idx > 0 => {
                    let at = self.at;
                    self.at += idx + 1;
                    return Some(FieldName { name, at });
                }
                '\\' => match chars.clone().next().filter(|(_, c)| SPECIAL.contains(*c)) {
                    Some((_, escaped)) => {
                        name.push(escaped);
                        chars.next();
                    }
                    None if idx > 0 => name.push(c),
                    None => return None,
                },
                // Only the first character of a name has to be none of these.
                '-' | '<' | '>' | '/' | '~' if idx > 0 => name.push(c),
                _ if is_blank(c) || SPECIAL.contains(c) => return None,
                _ => name.push(c),
            }
        }
        None
    }

    /// `*` as a word of its own.
    pub(super) fn star(&mut self) -> bool {
        let after = self.rest().strip_prefix('*');
        let is_alone = after.is_some_and(|after| {
            boost_in(after).is_some() || !after.starts_with(|c| !is_blank(c) && c != ')')
        });
        self.at += usize::from(is_alone);
        is_alone
    }

    /// A phrase in quotes. A `'` that nothing closes is an apostrophe.
    pub(super) fn phrase(&mut self) -> Result<Option<Words>, Fault> {
        let open = self.at;
        let inside = |quote| self.rest().strip_prefix(quote);
        let end = if let Some(inside) = inside('"') {
            unescaped(inside, '"').next().ok_or_else(|| {
                let message = "this quote is not closed; add a `\"`, or put a backslash before it";
                Fault::new(open, message)
            })?
        } else if let Some(inside) = inside('\'')
            && self.last_single_quote.is_some_and(|last| last > open)
            && let Some(end) = unescaped(inside, '\'').find(|at| closes(inside, *at))
        {
            end
        } else {
            return Ok(None);
        };
        let place = open + 1..open + 1 + end;
        self.at = place.end + 1;
        let is_prefix = self.eat('*');
        Ok(Some(Words {
            text: without_backslashes(&self.query[place.clone()], |_| true),
            place,
            is_phrase: true,
            slop: if is_prefix { 0 } else { self.slop()? },
            is_prefix,
        }))
    }

    /// `~` and a number.
    fn slop(&mut self) -> Result<u32, Fault> {
        let Some(after) = self.rest().strip_prefix('~') else {
            return Ok(0);
        };
        let digits =
            &after[..after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len()];
        if digits.is_empty() {
            return Ok(0);
        }
        let slop = digits
            .parse()
            .map_err(|_| Fault::new(self.at, format!("the slop {digits} is too large")))?;
        self.at += 1 + digits.len();
        Ok(slop)
    }

    /// A range in brackets or by comparison, or a set, as written.
    pub(super) fn range_or_set(&mut self) -> Result<Option<&'q str>, Fault> {
        let rest = self.rest();
        let len = if rest.starts_with(['[', '{']) {
            rest.find([']', '}']).ok_or_else(|| self.unclosed(0))? + 1
        } else if rest.starts_with(['<', '>']) {
            let value = rest
                .trim_start_matches(['<', '>', '='])
                .trim_start_matches(is_blank);
            let end = value.find(|c| is_blank(c) || c == ')');
            rest.len() - value.len() + end.unwrap_or(value.len())
        } else if let Some(bracket) = set_bracket(rest) {
            end_of_set(&rest[bracket..]).ok_or_else(|| self.unclosed(bracket))? + bracket + 1
        } else {
            return Ok(None);
        };
        self.at += len;
        Ok(Some(&rest[..len]))
    }

    fn unclosed(&self, bracket: usize) -> Fault {
        Fault::new(self.at + bracket, "this bracket is not closed")
    }

    /// Characters up to the next blank, boost, or parenthesis that closes a group.
    pub(super) fn word(&mut self) -> Words {
        let rest = self.rest();
        let mut chars = rest.char_indices();
        let mut n_open = 0usize;
        let mut end = rest.len();
        while let Some((idx, c)) = chars.next() {
            match c {
                '\\' => {
                    chars.next();
                }
                '(' => n_open += 1,
                ')' if n_open > 0 => n_open -= 1,
                _ => {
                    let is_boost = c == '^' && idx > 0 && boost_in(&rest[idx..]).is_some();
                    if is_boost || is_blank(c) || c == ')' {
                        end = idx;
                        break;
                    }
                }
            }
        }
        let place = self.at..self.at + end;
        self.at = place.end;
        Words {
            text: without_backslashes(&rest[..end], |c| SPECIAL.contains(c) || is_blank(c)),
            place,
            is_phrase: false,
            slop: 0,
            is_prefix: false,
        }
    }

    /// `^` and a number.
    pub(super) fn boost(&mut self) -> Result<Option<f32>, Fault> {
        let Some(number) = boost_in(self.rest()) else {
            return Ok(None);
        };
        let boost = number
            .parse::<f32>()
            .ok()
            .filter(|boost| *boost <= MAX_BOOST);
        let boost = boost.ok_or_else(|| {
            Fault::new(
                self.at,
                format!("a boost is a number from 0 to {MAX_BOOST}"),
            )
        })?;
        self.at += 1 + number.len();
        Ok(Some(boost))
    }
}

/// The number of a boost that `text` begins with, if nothing else follows it.
fn boost_in(text: &str) -> Option<&str> {
    let after = text.strip_prefix('^')?;
    let end = after
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(after.len());
    let (number, after) = after.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = !whole.is_empty() && !fraction.is_empty() && !fraction.contains('.');
    let is_end = !after.starts_with(|c| !is_blank(c) && c != ')');
    (is_number && is_end).then_some(number)
}
