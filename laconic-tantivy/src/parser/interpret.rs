//! Items to the sides of a [`ParsedQuery`]: text, words, clauses, filter.

use tantivy::query::{AllQuery, BooleanQuery, BoostQuery, EmptyQuery, Occur, Query};
use tantivy::{Score, Term};

use super::excluded::Excluded;
use super::fault::Fault;
use super::fields::TextField;
use super::lex::MAX_BOOST;
use super::syntax::{Group, Item, Join, Leaf, Node, Sign, Value, Words, expressions};
use super::text::Kept;
use super::{HybridParser, ParsedQuery};

type Clause = (Occur, Box<dyn Query>);

pub(super) struct Interpreter<'p> {
    parser: &'p HybridParser,
    kept: Kept,
    words: Vec<(Term, Score)>,
    clauses: Vec<Box<dyn Query>>,
    filter: Vec<Clause>,
    /// `*` was given.
    is_all: bool,
}

impl<'p> Interpreter<'p> {
    pub(super) fn new(parser: &'p HybridParser) -> Interpreter<'p> {
        Interpreter {
            parser,
            kept: Kept::default(),
            words: Vec::new(),
            clauses: Vec::new(),
            filter: Vec::new(),
            is_all: false,
        }
    }

    pub(super) fn finish(mut self, query: &str) -> ParsedQuery {
        let is_empty = self.words.is_empty() && self.clauses.is_empty();
        let text = self.kept.join(query);
        if self.is_all && is_empty && text.trim().is_empty() && self.filter.is_empty() {
            self.filter.push((Occur::Must, Box::new(AllQuery)));
        }
        ParsedQuery {
            text,
            words: self.words,
            clauses: self.clauses,
            filter: boolean(self.filter),
        }
    }

    /// Items that are not within anything that is required or excluded.
    pub(super) fn optional(&mut self, items: &[Item], boost: Score) -> Result<(), Fault> {
        for expression in expressions(items) {
            match expression {
                [item] => self.single(item, boost)?,
                joined => {
                    let clauses = self.clauses(joined)?;
                    self.require(Occur::Must, boolean(clauses));
                    self.score_all(joined, boost)?;
                }
            }
        }
        Ok(())
    }

    fn single(&mut self, item: &Item, boost: Score) -> Result<(), Fault> {
        match (item.sign, &item.node) {
            (Some(Sign::MustNot), node) => {
                let query = self.query(node)?;
                self.require(Occur::MustNot, query);
                Ok(())
            }
            (None, Node::Group(group)) => self.optional_group(group, boost * item.boost),
            (None, Node::Leaf(leaf)) if self.is_ranked(leaf)? => self.score(item, boost),
            (
                None,
                Node::Leaf(Leaf {
                    value: Value::All,
                    field: None,
                    ..
                }),
            ) => {
                self.is_all = true;
                Ok(())
            }
            (_, node) => {
                let query = self.query(node)?;
                self.require(Occur::Must, query);
                self.score(item, boost)
            }
        }
    }

    /// Parentheses alone change nothing; around plain words they are even part of the text.
    fn optional_group(&mut self, group: &Group, boost: Score) -> Result<(), Fault> {
        #[expect(
            clippy::float_cmp,
            reason = "1 is what is put where nothing is written"
        )]
        let is_text = group.is_plain() && boost == 1.0;
        let (open, close) = (group.place.start, group.place.end - 1);
        if is_text {
            self.kept.push(open..open + 1, "(");
        }
        self.optional(&group.items, boost)?;
        if is_text {
            self.kept.push(close..close + 1, ")");
        }
        Ok(())
    }

    fn require(&mut self, occur: Occur, query: Option<Box<dyn Query>>) {
        self.filter.extend(query.map(|query| (occur, query)));
    }

    // What is scored.

    fn score_all(&mut self, items: &[Item], boost: Score) -> Result<(), Fault> {
        let mut wanted = items.iter().filter(|item| item.sign != Some(Sign::MustNot));
        wanted.try_for_each(|item| self.score(item, boost))
    }

    fn score(&mut self, item: &Item, boost: Score) -> Result<(), Fault> {
        let boost = boost * item.boost;
        match &item.node {
            Node::Group(group) => self.score_all(&group.items, boost),
            Node::Leaf(leaf) => match &leaf.value {
                Value::Words(words) if self.is_ranked(leaf)? => {
                    self.score_words(leaf, words, boost)
                }
                _ => Ok(()),
            },
        }
    }

    fn score_words(&mut self, leaf: &Leaf, words: &Words, boost: Score) -> Result<(), Fault> {
        if boost > MAX_BOOST {
            let message = format!("the boosts of this clause come to more than {MAX_BOOST}");
            return Err(Fault::new(leaf.at, message));
        }
        if leaf.field.is_none() {
            self.kept.push(words.place.clone(), words.text.as_str());
        }
        let mut refused = None;
        let mut n_phrases = 0;
        for field in self.targets(leaf)? {
            let tokens = field.tokens(&words.text);
            let boost = boost * field.boost;
            if !words.is_prefix && (tokens.len() == 1 || !words.is_phrase) {
                let term = |token: String| (Term::from_field_text(field.field, &token), boost);
                self.words.extend(tokens.into_iter().map(term));
            } else if !tokens.is_empty() {
                match self.parser.fields.words_in(field.field, words, leaf.at) {
                    Ok(phrase) => {
                        n_phrases += 1;
                        self.clauses.push(Box::new(BoostQuery::new(phrase, boost)));
                    }
                    Err(fault) => refused = Some(fault),
                }
            }
        }
        // A phrase that one of several fields can look for is no mistake.
        match refused {
            Some(fault) if n_phrases == 0 => Err(fault),
            _ => Ok(()),
        }
    }

    /// The text fields that a word or phrase is sought in.
    fn targets(&self, leaf: &Leaf) -> Result<Vec<TextField>, Fault> {
        let HybridParser { fields, defaults } = self.parser;
        let Some(name) = &leaf.field else {
            return Ok(defaults.clone());
        };
        let named = fields.named(name)?;
        let default = defaults.iter().find(|default| default.field == named.field);
        let field = default.cloned().or_else(|| fields.ranked(named.field, 1.0));
        Ok(field.into_iter().collect())
    }

    /// Whether a leaf is words that BM25 ranks by.
    fn is_ranked(&self, leaf: &Leaf) -> Result<bool, Fault> {
        Ok(matches!(leaf.value, Value::Words(_)) && !self.targets(leaf)?.is_empty())
    }

    // What is required or excluded.

    /// The query of a clause; none if nothing of it is left, as of a lone comma.
    fn query(&self, node: &Node) -> Result<Option<Box<dyn Query>>, Fault> {
        match node {
            Node::Group(group) => Ok(boolean(self.clauses(&group.items)?)),
            Node::Leaf(leaf) => self.leaf(leaf),
        }
    }

    fn leaf(&self, leaf: &Leaf) -> Result<Option<Box<dyn Query>>, Fault> {
        let fields = &self.parser.fields;
        let Some(name) = &leaf.field else {
            return match &leaf.value {
                Value::Words(words) => self.in_any_default(words, leaf.at),
                _ => Ok(Some(Box::new(AllQuery))),
            };
        };
        let named = fields.named(name)?;
        let query = match &leaf.value {
            Value::Words(words) => {
                let text = fields.ranked(named.field, 1.0);
                if text.is_some_and(|text| text.tokens(&words.text).is_empty()) {
                    return Ok(None);
                }
                fields.words(&named, words, leaf.at)?
            }
            Value::All => fields.exists(&named, leaf.at)?,
            Value::Parsed(parsed, written) => fields.parsed(&named, parsed, written, leaf.at)?,
        };
        Ok(Some(query))
    }

    fn in_any_default(&self, words: &Words, at: usize) -> Result<Option<Box<dyn Query>>, Fault> {
        let mut clauses = Vec::new();
        let mut refused = None;
        for field in &self.parser.defaults {
            if !field.tokens(&words.text).is_empty() {
                match self.parser.fields.words_in(field.field, words, at) {
                    Ok(query) => clauses.push((Occur::Should, query)),
                    Err(fault) => refused = Some(fault),
                }
            }
        }
        match refused {
            Some(fault) if clauses.is_empty() => Err(fault),
            _ => Ok(boolean(clauses)),
        }
    }

    /// The clauses of items as Tantivy's grammar combines them: AND binds more tightly than OR,
    /// and what stands beside others may match or not.
    fn clauses(&self, items: &[Item]) -> Result<Vec<Clause>, Fault> {
        let runs: Vec<&[Item]> = items
            .chunk_by(|_, next| next.joined == Some(Join::And))
            .collect();
        let mut clauses = Vec::new();
        for (idx, run) in runs.iter().enumerate() {
            match run {
                [item] => {
                    let next = runs.get(idx + 1).and_then(|run| run.first());
                    let is_or = |item: &Item| item.joined == Some(Join::Or);
                    let is_alternative = is_or(item) || next.is_some_and(is_or);
                    clauses.extend(self.clause(item, is_alternative)?);
                }
                run => {
                    let all = self.all(run)?;
                    match runs.len() {
                        1 => clauses.extend(all),
                        _ => clauses.extend(boolean(all).map(|all| (Occur::Should, all))),
                    }
                }
            }
        }
        Ok(clauses)
    }

    fn clause(&self, item: &Item, is_alternative: bool) -> Result<Option<Clause>, Fault> {
        let query = self.query(&item.node)?;
        Ok(query.and_then(|query| match item.sign {
            None => Some((Occur::Should, query)),
            Some(Sign::Must) => Some((Occur::Must, query)),
            Some(Sign::MustNot) if is_alternative => {
                boolean(vec![(Occur::MustNot, query)]).map(|others| (Occur::Should, others))
            }
            Some(Sign::MustNot) => Some((Occur::MustNot, query)),
        }))
    }

    fn all(&self, items: &[Item]) -> Result<Vec<Clause>, Fault> {
        let mut clauses = Vec::with_capacity(items.len());
        for item in items {
            let occur = match item.sign {
                Some(Sign::MustNot) => Occur::MustNot,
                _ => Occur::Must,
            };
            clauses.extend(self.query(&item.node)?.map(|query| (occur, query)));
        }
        Ok(clauses)
    }
}

/// One query of several clauses. Excluding alone leaves everything else.
fn boolean(mut clauses: Vec<Clause>) -> Option<Box<dyn Query>> {
    if clauses.is_empty() {
        return None;
    }
    if let [(Occur::Must | Occur::Should, query)] = clauses.as_mut_slice() {
        return Some(std::mem::replace(query, Box::new(EmptyQuery)));
    }
    for (_, query) in clauses
        .iter_mut()
        .filter(|(occur, _)| *occur == Occur::MustNot)
    {
        let bare = std::mem::replace(query, Box::new(EmptyQuery));
        *query = Box::new(Excluded(bare));
    }
    if clauses.iter().all(|(occur, _)| *occur == Occur::MustNot) {
        clauses.push((Occur::Must, Box::new(AllQuery)));
    }
    Some(Box::new(BooleanQuery::new(clauses)))
}
