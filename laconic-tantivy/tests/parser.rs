//! Query texts and what each side gets of them; mistakes and the column of each.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "test code"
)]

mod common;

use std::collections::BTreeSet;

use laconic_tantivy::{HybridParser, Identity, LaconicField, ParsedQuery, register};
use proptest::prelude::*;
use tantivy::collector::DocSetCollector;
use tantivy::query::{Query, QueryParser};
use tantivy::schema::{
    FAST, FacetOptions, Field, INDEXED, IndexRecordOption, JsonObjectOptions, STORED, STRING,
    Schema, TEXT, TextFieldIndexing, TextOptions,
};
use tantivy::{Index, Searcher, TantivyDocument};

struct Collection {
    index: Index,
    searcher: Searcher,
    parser: HybridParser,
    /// As `parser`, with unknown names looked up in `extra`.
    further: HybridParser,
}

/// Documents 0 to 3.
const DOCS: [&str; 4] = [
    r#"{"id": "d0", "title": "Bone density", "body": "vitamin d and bones", "year": 2018,
        "ratio": 0.5, "open": true, "when": "2021-05-04T00:00:00Z", "part": "/a/b", "extra": {"lang": "de", "n": {"m": 7}}}"#,
    r#"{"id": "d1", "title": "Posting lists", "body": "density of posting lists", "year": 2019,
        "extra": {"lang": "en", "mixed": "seven"}}"#,
    r#"{"id": "d2", "title": "Nothing", "body": "bone bone marrow", "year": 2020, "part": "/a",
        "extra": {"lang": "de", "mixed": 7}}"#,
    r#"{"id": "d3", "title": "Spinal cord", "body": "an injury of the spinal cord; c++ and f(x)"}"#,
];

impl Collection {
    fn new() -> Collection {
        let mut schema = Schema::builder();
        schema.add_text_field("id", STRING | STORED);
        let title = schema.add_text_field("title", TEXT);
        let body = schema.add_text_field("body", TEXT);
        schema.add_u64_field("year", INDEXED | FAST);
        schema.add_f64_field("ratio", INDEXED);
        schema.add_bool_field("open", INDEXED);
        schema.add_date_field("when", INDEXED);
        schema.add_facet_field("part", FacetOptions::default());
        schema.add_u64_field("kept", STORED);
        let without_positions =
            TextFieldIndexing::default().set_index_option(IndexRecordOption::WithFreqs);
        let without_positions = TextOptions::default().set_indexing_options(without_positions);
        schema.add_text_field("flat", without_positions);
        let json =
            TextFieldIndexing::default().set_index_option(IndexRecordOption::WithFreqsAndPositions);
        let json = JsonObjectOptions::default()
            .set_indexing_options(json)
            .set_fast("raw");
        let extra = schema.add_json_field("extra", json);
        LaconicField::add_to(&mut schema, "sparse", Identity::default());
        let schema = schema.build();
        let mut index = Index::create_in_ram(schema.clone());
        register(&mut index).unwrap();
        let mut writer = index.writer_with_num_threads(1, 15_000_000).unwrap();
        for doc in DOCS {
            let doc = TantivyDocument::parse_json(&schema, doc).unwrap();
            writer.add_document(doc).unwrap();
        }
        writer.commit().unwrap();
        let parser = HybridParser::for_index(&index, [(title, 2.0), (body, 1.0)]).unwrap();
        Collection {
            searcher: index.reader().unwrap().searcher(),
            further: parser.clone().with_further_fields(extra).unwrap(),
            parser,
            index,
        }
    }

    fn parse(&self, query: &str) -> ParsedQuery {
        self.parser
            .parse(query)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn field(&self, name: &str) -> Field {
        self.index.schema().get_field(name).unwrap()
    }

    fn docs(&self, query: &dyn Query) -> BTreeSet<u32> {
        let found = self.searcher.search(query, &DocSetCollector).unwrap();
        found.into_iter().map(|address| address.doc_id).collect()
    }

    /// Documents that pass the filter, as a string of digits.
    fn passing(&self, parsed: &ParsedQuery) -> String {
        match &parsed.filter {
            None => "all".to_owned(),
            Some(filter) => self
                .docs(filter.as_ref())
                .iter()
                .map(u32::to_string)
                .collect(),
        }
    }

    /// The words of the body as `word` or `word^boost`; those of other fields with their names.
    fn words(&self, parsed: &ParsedQuery) -> String {
        let schema = self.index.schema();
        let words = parsed.words.iter().map(|(term, boost)| {
            let (value, field) = (term.value(), term.field());
            let word = value.as_str().unwrap().to_owned();
            let name = schema.get_field_name(field);
            let word = if name == "body" {
                word
            } else {
                format!("{name}:{word}")
            };
            if (*boost - 1.0).abs() > 1e-6 {
                format!("{word}^{boost}")
            } else {
                word
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// A query; its text, its words in the body, the number of its clauses, and what its filter lets
/// pass.
type Parts = (
    &'static str,
    &'static str,
    &'static str,
    usize,
    &'static str,
);

const PARTS: &[Parts] = &[
    // Plain text
    ("", "", "", 0, "all"),
    ("  ", "  ", "", 0, "all"),
    ("spinal cord", "spinal cord", "spinal cord", 0, "all"),
    (" Bone,  bone\n!", " Bone,  bone\n!", "bone bone", 0, "all"),
    ("C++ (2017)", "C++ (2017)", "c 2017", 0, "all"),
    ("what's it?", "what's it?", "what s it", 0, "all"),
    (
        "'tis f(x) and 5\" - 3 + x",
        "'tis f(x) and 5\" - 3 + x",
        "tis f x and 5 3 x",
        0,
        "all",
    ),
    (
        "see [1] {2} <b> a^b 2^n ~x /y/",
        "see [1] {2} <b> a^b 2^n ~x /y/",
        "see 1 2 b a b 2 n x y",
        0,
        "all",
    ),
    ("IN and or not", "IN and or not", "in and or not", 0, "all"),
    ("((a) b (c d))", "((a) b (c d))", "a b c d", 0, "all"),
    ("full-text", "full-text", "full text", 0, "all"),
    ("--a", "--a", "a", 0, "all"),
    // Escapes
    (r"a\:b \+c \(d", "a:b +c (d", "a b c d", 0, "all"),
    (r"\section \", r"\section \", "section", 0, "all"),
    (r#""AND" \"x"#, "AND \"x", "and x", 0, "all"),
    // Boosts
    ("bone^2 cord^0.5", "bone cord", "bone^2 cord^0.5", 0, "all"),
    (
        "(bone cord^2)^3 x",
        "bone cord x",
        "bone^3 cord^6 x",
        0,
        "all",
    ),
    // Phrases
    (
        "\"spinal cord\" injury",
        "spinal cord injury",
        "injury",
        1,
        "all",
    ),
    (
        "\"bone\" 'spinal cord'~2",
        "bone spinal cord",
        "bone",
        1,
        "all",
    ),
    ("\"spinal co\"*", "spinal co", "", 1, "all"),
    ("\"a b\", c", "a b, c", "c", 1, "all"),
    ("\"a \\\" b\"", "a \" b", "", 1, "all"),
    // Signs
    ("+bone density", "bone density", "bone density", 0, "2"),
    ("density -bones", "density", "density", 0, "123"),
    ("density NOT bones", "density", "density", 0, "123"),
    ("+\"spinal cord\" x", "spinal cord x", "x", 1, "3"),
    ("+bone +density", "bone density", "bone density", 0, ""),
    ("+(bone density)", "bone density", "bone density", 0, "12"),
    ("-(bone OR density) x", "x", "x", 0, "03"),
    ("+full-text", "full-text", "full text", 0, ""),
    ("+, bone -\"\"", ", bone", "bone", 0, "all"),
    ("(+bone x) y", "bone x y", "bone x y", 0, "2"),
    // Operators
    ("bone AND marrow", "bone marrow", "bone marrow", 0, "2"),
    ("bone OR density", "bone density", "bone density", 0, "12"),
    ("bone AND NOT marrow", "bone", "bone", 0, ""),
    ("bone OR NOT density", "bone", "bone", 0, "023"),
    (
        "density AND (posting OR marrow) cord",
        "density posting marrow cord",
        "density posting marrow cord",
        0,
        "1",
    ),
    (
        "injury OR bone AND marrow",
        "injury bone marrow",
        "injury bone marrow",
        0,
        "23",
    ),
    ("NOT NOT bone", "bone", "bone", 0, "2"),
    ("a AND(b OR c)", "a b c", "a b c", 0, ""),
    // Fields
    ("title:bone x", "x", "title:bone x", 0, "all"),
    (
        "title:(bone cord)^2",
        "",
        "title:bone^2 title:cord^2",
        0,
        "all",
    ),
    ("+title:bone", "", "title:bone", 0, "0"),
    ("title:\"spinal cord\"", "", "", 1, "all"),
    ("title: bone", "", "title:bone", 0, "all"),
    ("title : bone", "title : bone", "title bone", 0, "all"),
    ("id:d2 x", "x", "x", 0, "2"),
    ("-id:d2 x", "x", "x", 0, "013"),
    ("id: IN [d1 'd2']", "", "", 0, "12"),
    // Filters
    ("x year:2019", "x", "x", 0, "1"),
    ("x year:[2019 TO *]", "x", "x", 0, "12"),
    ("x year:{2018 TO 2020}", "x", "x", 0, "1"),
    ("x year:>=2019", "x", "x", 0, "12"),
    ("year:> 2018 year:<2020 x", "x", "x", 0, "1"),
    ("-year:2019", "", "", 0, "023"),
    ("year:* x", "x", "x", 0, "012"),
    ("year: IN [2018 2020]", "", "", 0, "02"),
    ("year:(2018 OR 2019)", "", "", 0, "01"),
    ("year:([2019 TO 2020])", "", "", 0, "12"),
    ("year:2018 OR year:2019 bone", "bone", "bone", 0, "01"),
    ("ratio:0.5", "", "", 0, "0"),
    ("open:true", "", "", 0, "0"),
    ("when:2021-05-04T00:00:00Z", "", "", 0, "0"),
    (
        "when:[2021-01-01T00:00:00Z TO 2022-01-01T00:00:00Z]",
        "",
        "",
        0,
        "0",
    ),
    ("part:/a", "", "", 0, "02"),
    ("part:/a/b", "", "", 0, "0"),
    ("extra.lang:de extra.n.m:[5 TO 9]", "", "", 0, "0"),
    ("extra.mixed:[1 TO 9]", "", "", 0, "2"),
    ("extra.lang:*", "", "", 0, "012"),
    ("*", "", "", 0, "0123"),
    ("* -bone", "", "", 0, "013"),
    ("* bone", "bone", "bone", 0, "all"),
];

#[test]
fn each_side_gets_its_part() {
    let all = Collection::new();
    // Only the body's words, for brevity: the title's are the same, twice as heavy.
    let parser = HybridParser::for_index(&all.index, [(all.field("body"), 1.0)]).unwrap();
    for &(query, text, words, n_clauses, passing) in PARTS {
        let parsed = parser
            .parse(query)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed.text, text, "text of {query}");
        assert_eq!(all.words(&parsed), words, "words of {query}");
        assert_eq!(parsed.clauses.len(), n_clauses, "clauses of {query}");
        assert_eq!(all.passing(&parsed), passing, "filter of {query}");
    }
}

#[test]
fn an_excluded_phrase_may_begin_behind_the_first_document() {
    let all = Collection::new();
    for (query, passing) in [("-\"and x\"", "0123"), ("-\"spinal cord\"", "012")] {
        assert_eq!(all.passing(&all.parse(query)), passing, "{query}");
    }
}

#[test]
fn several_default_fields_are_searched_each_with_its_boost() {
    let all = Collection::new();
    let parsed = all.parse("bone^3 \"spinal cord\" +title:x");
    assert_eq!(all.words(&parsed), "title:bone^6 bone^3 title:x^2");
    assert_eq!(parsed.clauses.len(), 2);
    assert_eq!(all.docs(parsed.clauses[0].as_ref()), [3].into());
    assert_eq!(all.passing(&all.parse("+bone")), "02");
    // A field without positions can look for no phrase; the other can.
    let both = [(all.field("flat"), 1.0), (all.field("body"), 1.0)];
    let both = HybridParser::for_index(&all.index, both).unwrap();
    assert_eq!(both.parse("+\"spinal cord\"").unwrap().clauses.len(), 1);
}

#[test]
fn mistakes_point_at_their_column() {
    let all = Collection::new();
    for (query, column, part) in [
        (
            "foo tilte:bar",
            5,
            "unknown field `tilte`; fields are id, title, body, year",
        ),
        ("10:30", 1, "unknown field `10`"),
        ("what's a:b?", 8, "unknown field `a`"),
        ("für x:y", 5, "unknown field `x`"),
        ("title.sub:x", 1, "unknown field `title.sub`"),
        ("x \"a b", 3, "quote is not closed"),
        ("x \"", 3, "quote is not closed"),
        ("a (b (c)", 3, "parenthesis is not closed"),
        ("a) b", 2, "parenthesis closes nothing"),
        ("f(x y)", 6, "parenthesis closes nothing"),
        ("AND a", 1, "`AND` has to stand between"),
        ("a OR", 3, "`OR` has to stand between"),
        ("a AND OR b", 7, "`OR` has to stand between"),
        ("(a AND) b", 4, "`AND` has to stand between"),
        ("a NOT", 3, "`NOT` has to stand before"),
        ("a title:", 3, "nothing follows `title:`"),
        ("(title: )", 2, "nothing follows `title:`"),
        ("year:abc", 6, "`abc` is not a whole number"),
        ("+year:-1", 7, "`-1` is not a whole number"),
        ("year:[2019 TO abc]", 15, "`abc` is not a whole number"),
        ("year: IN [2019 20x]", 16, "`20x` is not a whole number"),
        ("year:>x", 7, "`x` is not a whole number"),
        ("ratio:x", 7, "`x` is not a number"),
        ("open:maybe", 6, "`maybe` is not true or false"),
        ("when:2021", 6, "`2021` is not a date as in RFC 3339"),
        ("year:[2019", 6, "bracket is not closed"),
        ("year: IN [2019", 10, "bracket is not closed"),
        ("year:[2019 2020]", 12, "missing keyword TO"),
        ("year:[* TO *]", 6, "a range needs a bound"),
        ("year:[(]", 6, "neither a range nor a set"),
        ("kept:[1 TO 2]", 7, "field `kept` is not indexed"),
        ("kept:1", 6, "field `kept` is not indexed"),
        ("title:*", 7, "not a fast field"),
        ("flat:\"a b\"", 6, "without positions"),
        ("\"a\"*", 1, "needs two words"),
        ("x sparse:bone", 3, "holds learned-sparse vectors"),
        ("sparse:[a TO b]", 1, "holds learned-sparse vectors"),
        ("-sparse:(a b)", 2, "holds learned-sparse vectors"),
        ("title:/bo.*/", 7, "regular expressions"),
        (
            "extra.n.m:[1 TO x]",
            11,
            "one bound of the range is a number",
        ),
        ("bone^10000000", 5, "a boost is a number from 0"),
        ("((bone^1000)^1000)^1000", 3, "come to more than"),
        ("\"a b\"~99999999999", 6, "slop"),
    ] {
        let error = match all.parser.parse(query) {
            Err(error) => error,
            Ok(parsed) => panic!("{query} is read: {parsed:?}"),
        };
        assert!(error.is_invalid_input());
        let message = error.to_string();
        assert_eq!(error.column(), Some(column), "{message}");
        assert!(
            message.starts_with(&format!("column {column}: ")),
            "{message}"
        );
        assert!(message.contains(part), "{query}: {message}");
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(
            lines[1..],
            [format!("  {query}"), format!("{}^", " ".repeat(column + 1))]
        );
        assert_eq!(all.parser.plain(query).text, query);
    }
}

#[test]
fn names_of_further_fields_are_paths_of_the_json_field() {
    let all = Collection::new();
    for (query, passing) in [
        ("lang:de x", "02"),
        ("n.m:7", "0"),
        ("n.m:[5 TO 9]", "0"),
        ("lang: IN [en]", "1"),
        ("mixed:*", "12"),
        ("year:2019 lang:en", "1"),
        ("nowhere:x", ""),
    ] {
        let parsed = all
            .further
            .parse(query)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(all.passing(&parsed), passing, "{query}");
    }
    assert_eq!(
        all.further.parse("x sparse:y").unwrap_err().column(),
        Some(3)
    );
}

#[test]
fn default_fields_are_those_that_bm25_ranks_by() {
    let all = Collection::new();
    for (name, boost, part) in [
        ("sparse", 1.0, "is a laconic field"),
        ("year", 1.0, "BM25 needs a text field"),
        ("id", 1.0, "BM25 needs a text field"),
        ("body", -1.0, "boost -1"),
        ("body", f32::NAN, "boost NaN"),
        ("body", f32::INFINITY, "boost inf"),
    ] {
        let error = HybridParser::for_index(&all.index, [(all.field(name), boost)]).unwrap_err();
        assert!(
            error.is_invalid_input() && error.to_string().contains(part),
            "{error}"
        );
    }
    let further = all.parser.clone().with_further_fields(all.field("body"));
    assert!(further.unwrap_err().is_invalid_input());
}

/// The same group for our parser and for Tantivy's, which matches nothing where something is only
/// excluded (`a AND NOT b`, `a OR -b`) and has to be told that everything else is meant.
type Pair = (String, String);

fn group(operator: &'static str, parts: Vec<(bool, Pair)>) -> Pair {
    let is_plain = operator == " ";
    let negate = |(is_negated, (ours, theirs)): &(bool, Pair)| match (is_negated, is_plain) {
        (false, _) => (ours.clone(), theirs.clone()),
        (true, true) => (format!("-{ours}"), format!("-{theirs}")),
        (true, false) => (format!("NOT {ours}"), format!("(* -{theirs})")),
    };
    let (ours, theirs): (Vec<_>, Vec<_>) = parts.iter().map(negate).unzip();
    let all = match is_plain && parts.iter().all(|(is_negated, _)| *is_negated) {
        true => "* ",
        false => "",
    };
    let [ours, theirs] = [ours, theirs].map(|parts| parts.join(operator));
    (format!("({ours})"), format!("({all}{theirs})"))
}

fn expression() -> impl Strategy<Value = Pair> {
    let words = [
        "bone",
        "density",
        "lists",
        "spinal",
        "marrow",
        "\"spinal cord\"",
        "title:bone",
    ];
    // Tantivy drops a clause that is there twice, and what is left of `+a AND +a` is no longer
    // required; boosts make clauses differ.
    let leaf = (prop::sample::select(words.to_vec()), 2..1_000_000_u32);
    let leaf = leaf.prop_map(|(word, boost)| {
        let word = format!("{word}^{boost}");
        (word.clone(), word)
    });
    leaf.prop_recursive(3, 16, 4, |inner| {
        let operator = prop::sample::select(vec![" AND ", " OR ", " "]);
        let alike = (
            operator.clone(),
            prop::collection::vec((any::<bool>(), inner.clone()), 2..5),
        );
        let alike = alike.prop_map(|(operator, parts)| group(operator, parts));
        let sign = prop::sample::select(vec!["", "", "", "+"]);
        let mixed = prop::collection::vec((operator, sign, inner), 2..5);
        let mixed = mixed.prop_map(|parts| {
            let join = |side: fn(&Pair) -> &String| {
                let parts = parts
                    .iter()
                    .enumerate()
                    .map(|(idx, (operator, sign, part))| {
                        let operator = if idx == 0 { "" } else { operator };
                        format!("{operator}{sign}{}", side(part))
                    });
                format!("({})", parts.collect::<String>())
            };
            (join(|pair| &pair.0), join(|pair| &pair.1))
        });
        prop_oneof![alike, mixed]
    })
}

/// Strings of what the syntax is made of, and of anything else.
fn queries() -> impl Strategy<Value = String> {
    let parts = [
        "a", "bone", " ", "  ", "\"", "'", "(", ")", "+", "-", "AND", " OR ", "NOT ", "IN [", "]",
        "[", "{", "}", "title:", "year:", "extra.x:", "sparse:", "kept:", "x:", "id:", "2019",
        "[1 TO 5]", "[a TO *]", ">=", "<", "^2", "^", "~1", "~", "*", "\\", "/", ":", "part:/a",
        "when:", "ratio:", "\u{1}", "\0", "é", "🚀", "\u{3000}", "\n", "^0.5", "^1e5", ".",
    ];
    let part = prop_oneof![
        9 => prop::sample::select(parts.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: common::cases(1000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn required_groups_match_what_tantivys_parser_matches((ours, theirs) in expression()) {
        let all = Collection::shared();
        let fields = vec![all.field("title"), all.field("body")];
        let tantivys = QueryParser::for_index(&all.index, fields);
        let expected = tantivys.parse_query(&theirs).unwrap();
        let parsed = all.parse(&format!("+{ours}"));
        let found = all.docs(parsed.filter.unwrap().as_ref());
        prop_assert_eq!(found, all.docs(expected.as_ref()), "{}", theirs);
    }

    #[test]
    fn any_query_is_parsed_or_refused_with_a_column(query in queries()) {
        let all = Collection::shared();
        for parser in [&all.parser, &all.further] {
            match parser.parse(&query) {
                Ok(parsed) => {
                    for clause in parsed.clauses.iter().chain(&parsed.filter) {
                        all.docs(clause.as_ref());
                    }
                    prop_assert!(parsed.words.iter().all(|(_, boost)| boost.is_finite()));
                }
                Err(error) => {
                    let column = error.column().unwrap();
                    prop_assert!((1..=query.chars().count() + 1).contains(&column), "{}", error);
                    prop_assert!(error.to_string().ends_with("^"));
                }
            }
        }
        prop_assert_eq!(&all.parser.plain(&query).text, &query);
    }

    #[test]
    fn text_without_syntax_goes_to_both_sides_unchanged(text in "[a-z0-9,.;?!%&=#@|_é東🚀 \n\t-]{0,40}") {
        // A dash before a word would exclude it.
        let text = text.split_inclusive(char::is_whitespace);
        let text: String = text.map(|word| word.trim_start_matches('-')).collect();
        let all = Collection::shared();
        let (parsed, plain) = (all.parse(&text), all.parser.plain(&text));
        prop_assert_eq!(&parsed.text, &text);
        let sorted = |parsed: &ParsedQuery| {
            let mut words: Vec<_> = parsed.words.iter().map(|(term, _)| term.clone()).collect();
            words.sort();
            words
        };
        prop_assert_eq!(sorted(&parsed), sorted(&plain));
        prop_assert!(parsed.filter.is_none() && parsed.clauses.is_empty());
    }
}

impl Collection {
    fn shared() -> &'static Collection {
        static SHARED: std::sync::LazyLock<Collection> = std::sync::LazyLock::new(Collection::new);
        &SHARED
    }
}
