//! Query text to items: Tantivy's syntax, with the place of everything.
//!
//! Tantivy's grammar tells neither where a clause stands nor how often a word was given, and
//! refuses much that people write without meaning syntax. So clauses are taken apart here, and
//! ranges and sets are left to the grammar.

use tantivy::query_grammar::{UserInputAst, UserInputLeaf, parse_query, parse_query_lenient};

use super::fault::Fault;
use super::lex::Lexer;
use super::syntax::{FieldName, Group, Item, Join, Leaf, Node, Sign, Value};

/// Groups within groups; bounds the stack.
const MAX_DEPTH: usize = 64;

/// Takes a query apart.
pub(super) fn scan(query: &str) -> Result<Vec<Item>, Fault> {
    let mut scanner = Scanner {
        lexer: Lexer::new(query),
        open: Vec::new(),
    };
    scanner.items(None)
}

struct Scanner<'q> {
    lexer: Lexer<'q>,
    /// Places of the parentheses that are open.
    open: Vec<usize>,
}

/// What stands before an item.
#[derive(Default)]
struct Lead {
    joined: Option<Join>,
    /// NOT was given: an odd number of times, or an even one.
    negated: Option<bool>,
    /// The last operator and where it is, to be followed by an item.
    dangling: Option<(&'static str, usize)>,
}

impl Scanner<'_> {
    /// Items up to the end of the query or of the innermost group, which is consumed.
    fn items(&mut self, field: Option<&FieldName>) -> Result<Vec<Item>, Fault> {
        let mut items = Vec::new();
        let mut lead = Lead::default();
        loop {
            self.lexer.skip_blanks();
            match (self.lexer.peek(), self.open.last()) {
                (None, Some(&open)) => return Err(unbalanced(open, "is not closed")),
                (Some(')'), None) => return Err(unbalanced(self.lexer.at(), "closes nothing")),
                (None, None) | (Some(')'), Some(_)) => break,
                _ => {}
            }
            if self.operator(&mut lead, items.is_empty())? {
                continue;
            }
            items.push(self.item(std::mem::take(&mut lead), field)?);
        }
        if let Some((operator, at)) = lead.dangling {
            return Err(needs_operands(operator, at));
        }
        self.lexer.eat(')');
        Ok(items)
    }

    /// Reads AND, OR or NOT, if one is there.
    fn operator(&mut self, lead: &mut Lead, is_first: bool) -> Result<bool, Fault> {
        let at = self.lexer.at();
        let Some(operator) = self.lexer.operator() else {
            return Ok(false);
        };
        match operator {
            "NOT" => lead.negated = Some(lead.negated != Some(true)),
            _ if is_first || lead.dangling.is_some() => return Err(needs_operands(operator, at)),
            "AND" => lead.joined = Some(Join::And),
            _ => lead.joined = Some(Join::Or),
        }
        lead.dangling = Some((operator, at));
        Ok(true)
    }

    fn item(&mut self, lead: Lead, field: Option<&FieldName>) -> Result<Item, Fault> {
        let minus = self.lexer.sign().map(|sign| sign == '-');
        let is_excluded = lead.negated.unwrap_or(false) != minus.unwrap_or(false);
        let sign = match (lead.negated, minus) {
            (None, None) => None,
            _ if is_excluded => Some(Sign::MustNot),
            _ => Some(Sign::Must),
        };
        let node = self.node(field)?;
        Ok(Item {
            joined: lead.joined,
            sign,
            boost: self.lexer.boost()?.unwrap_or(1.0),
            node,
        })
    }

    fn node(&mut self, group_field: Option<&FieldName>) -> Result<Node, Fault> {
        if self.lexer.peek() == Some('(') {
            return self.group(group_field, false);
        }
        let own = self.lexer.field_name();
        if let Some(field) = &own {
            self.lexer.skip_blanks();
            if matches!(self.lexer.peek(), None | Some(')')) {
                let message = format!(
                    "nothing follows `{0}:`; write {0}:VALUE, or a backslash before the colon",
                    field.name
                );
                return Err(Fault::new(field.at, message));
            }
        }
        match own.as_ref().or(group_field) {
            Some(field) if self.lexer.peek() == Some('(') => self.group(Some(field), true),
            field => Ok(Node::Leaf(Leaf {
                at: self.lexer.at(),
                value: self.value(field.is_some())?,
                field: field.cloned(),
            })),
        }
    }

    fn group(&mut self, field: Option<&FieldName>, has_field: bool) -> Result<Node, Fault> {
        let start = self.lexer.at();
        if self.open.len() == MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} groups within each other");
            return Err(Fault::new(start, message));
        }
        self.lexer.eat('(');
        self.open.push(start);
        let items = self.items(field)?;
        self.open.pop();
        Ok(Node::Group(Group {
            items,
            place: start..self.lexer.at(),
            has_field: has_field || field.is_some(),
        }))
    }

    /// The value of a field, or a free word or phrase: there, brackets are plain characters.
    fn value(&mut self, has_field: bool) -> Result<Value, Fault> {
        let at = self.lexer.at();
        if self.lexer.star() {
            return Ok(Value::All);
        }
        if let Some(phrase) = self.lexer.phrase()? {
            return Ok(Value::Words(phrase));
        }
        if has_field && let Some(written) = self.lexer.range_or_set()? {
            return Ok(Value::Parsed(parsed(written, at)?, written.to_owned()));
        }
        let word = self.lexer.word();
        if has_field
            && word.text.len() > 1
            && word.text.starts_with('/')
            && word.text.ends_with('/')
        {
            let message = "regular expressions are not supported; write words or a phrase";
            return Err(Fault::new(at, message));
        }
        Ok(Value::Words(word))
    }
}

fn unbalanced(at: usize, why: &str) -> Fault {
    let message = format!("this parenthesis {why}; put a backslash before it if it is text");
    Fault::new(at, message)
}

fn needs_operands(operator: &str, at: usize) -> Fault {
    let message = match operator {
        "NOT" => "`NOT` has to stand before a clause".to_owned(),
        _ => format!("`{operator}` has to stand between two clauses"),
    };
    Fault::new(
        at,
        format!("{message}; to search for the word, write it in quotes"),
    )
}

/// A range or a set, by Tantivy's grammar.
fn parsed(written: &str, at: usize) -> Result<UserInputLeaf, Fault> {
    if let Ok(UserInputAst::Leaf(leaf)) = parse_query(written)
        && matches!(
            *leaf,
            UserInputLeaf::Range { .. } | UserInputLeaf::Set { .. }
        )
    {
        return Ok(*leaf);
    }
    let usage = "ranges are written [1 TO 5], {1 TO 5}, [1 TO *] or >=1, sets IN [a b]";
    // The lenient grammar, which knows the place, recurses into groups without a bound.
    let place = match written.contains('(') {
        true => None,
        false => parse_query_lenient(written).1.into_iter().next(),
    };
    Err(match place {
        Some(error) => {
            let message = format!("{}; {usage}", error.message);
            Fault::new(at + error.pos.min(written.len()), message)
        }
        None => Fault::new(at, format!("this is neither a range nor a set; {usage}")),
    })
}

#[cfg(test)]
mod tests {
    use super::super::escapes::{SPECIAL, is_blank};
    use super::*;

    #[test]
    fn special_characters_are_those_that_a_backslash_takes_away() {
        for c in SPECIAL.chars() {
            let query = format!("\\{c}x\\{c}:y");
            let items = scan(&query).unwrap();
            let Node::Leaf(Leaf { field, .. }) = &items[0].node else {
                panic!("{query}: {items:?}");
            };
            assert_eq!(field.as_ref().unwrap().name, format!("{c}x{c}"));
        }
        assert!(is_blank('\u{3000}') && !is_blank('x'));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n| format!("{}a{}", "(".repeat(n), ")".repeat(n));
        assert!(scan(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(scan(&nested(MAX_DEPTH + 1)).unwrap_err().at, MAX_DEPTH);
        assert!(scan(&"(".repeat(1_000_000)).is_err());
        assert!(scan(&format!("a:[{}]", "(".repeat(1_000_000))).is_err());
    }
}
