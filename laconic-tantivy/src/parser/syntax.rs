//! What a query says before fields are looked up: groups of items, each with its place.

use std::ops::Range;

use tantivy::query_grammar::UserInputLeaf;

/// A clause with what stands before and after it.
#[derive(Debug)]
pub(super) struct Item {
    /// The operator between the item before and this one.
    pub(super) joined: Option<Join>,
    pub(super) sign: Option<Sign>,
    pub(super) boost: f32,
    pub(super) node: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    And,
    Or,
}

/// `+`, or `-` and `NOT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Must,
    MustNot,
}

#[derive(Debug)]
pub(super) enum Node {
    Group(Group),
    Leaf(Leaf),
}

/// `(…)`, or `field:(…)`.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) items: Vec<Item>,
    /// Bytes of the query from the opening to the closing parenthesis, both included.
    pub(super) place: Range<usize>,
    pub(super) has_field: bool,
}

#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) field: Option<FieldName>,
    /// Byte of the query where the value begins.
    pub(super) at: usize,
    pub(super) value: Value,
}

/// A field as written, and the byte where.
#[derive(Debug, Clone)]
pub(super) struct FieldName {
    pub(super) name: String,
    pub(super) at: usize,
}

#[derive(Debug)]
pub(super) enum Value {
    Words(Words),
    /// `*`
    All,
    /// A range or a set as Tantivy's grammar reads it; the text is as written.
    Parsed(UserInputLeaf, String),
}

/// A bare word or a phrase in quotes.
#[derive(Debug)]
pub(super) struct Words {
    /// Without quotes and escapes.
    pub(super) text: String,
    /// Bytes of the query that are the text, quotes excluded.
    pub(super) place: Range<usize>,
    pub(super) is_phrase: bool,
    pub(super) slop: u32,
    /// The last word of the phrase may go on: `"…"*`.
    pub(super) is_prefix: bool,
}

/// Items that are joined by AND and OR; alone if by none.
pub(super) fn expressions(items: &[Item]) -> impl Iterator<Item = &[Item]> {
    items.chunk_by(|_, next| next.joined.is_some())
}

impl Group {
    /// True if the parentheses hold free words and nothing else: they are punctuation.
    pub(super) fn is_plain(&self) -> bool {
        let is_plain = |item: &Item| {
            let is_bare = item.joined.is_none() && item.sign.is_none();
            #[expect(
                clippy::float_cmp,
                reason = "1 is what is put where nothing is written"
            )]
            let is_unboosted = item.boost == 1.0;
            let is_free = match &item.node {
                Node::Group(group) => group.is_plain(),
                Node::Leaf(leaf) => leaf.field.is_none() && matches!(leaf.value, Value::Words(_)),
            };
            is_bare && is_unboosted && is_free
        };
        !self.has_field && self.items.iter().all(is_plain)
    }
}
