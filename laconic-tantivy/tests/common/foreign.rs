//! [`Foreign`]: an index of a program that knows nothing of us, with every kind of field; and
//! whether another one holds the same.

#![allow(dead_code, reason = "every test file uses its own part of this module")]

use std::net::Ipv6Addr;
use std::ops::Range;

use tantivy::collector::{Count, TopDocs};
use tantivy::directory::{CompositeFile, Directory, RamDirectory};
use tantivy::index::SegmentComponent;
use tantivy::postings::Postings;
use tantivy::query::{AllQuery, PhraseQuery, Query, TermQuery};
use tantivy::schema::{
    BytesOptions, DateOptions, FAST, Facet, FacetOptions, Field, INDEXED, IndexRecordOption,
    IpAddrOptions, JsonObjectOptions, NumericOptions, STORED, STRING, Schema, TEXT,
    TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{SimpleTokenizer, TextAnalyzer};
use tantivy::{
    DateTime, DocId, DocSet, Index, IndexSettings, Segment, SegmentReader, TERMINATED,
    TantivyDocument, Term,
};

use crate::common::{plain_writer, searcher};

/// A tokenizer that only the program itself has.
const TOKENIZER: &str = "of the program";

pub(crate) struct Foreign {
    schema: Schema,
    ord: Field,
    title: Field,
    body: Field,
    unstored: Field,
    id: Field,
    json: Field,
    facet: Field,
    date: Field,
    ip: Field,
    bytes: Field,
    price: Field,
    flag: Field,
}

impl Foreign {
    pub(crate) fn new() -> Foreign {
        let mut schema = Schema::builder();
        let custom = TextFieldIndexing::default()
            .set_tokenizer(TOKENIZER)
            .set_index_option(IndexRecordOption::WithFreqsAndPositions);
        let custom = TextOptions::default().set_indexing_options(custom);
        Foreign {
            ord: schema.add_u64_field("ord", FAST),
            title: schema.add_text_field("title", TEXT | STORED),
            body: schema.add_text_field("body", TEXT),
            unstored: schema.add_text_field("unstored", custom),
            id: schema.add_text_field("id", STRING | STORED | FAST),
            json: schema.add_json_field("json", JsonObjectOptions::from(TEXT | STORED | FAST)),
            facet: schema.add_facet_field("facet", FacetOptions::default().set_stored()),
            date: schema.add_date_field("date", DateOptions::from(INDEXED | FAST)),
            ip: schema.add_ip_addr_field("ip", IpAddrOptions::default().set_indexed().set_fast()),
            bytes: schema.add_bytes_field("bytes", BytesOptions::from(INDEXED | FAST | STORED)),
            price: schema.add_f64_field("price", NumericOptions::from(INDEXED | FAST)),
            flag: schema.add_bool_field("flag", INDEXED | STORED),
            schema: schema.build(),
        }
    }

    pub(crate) fn schema(&self) -> Schema {
        self.schema.clone()
    }

    pub(crate) fn document(&self, ord: u64) -> TantivyDocument {
        let mut document = TantivyDocument::default();
        document.add_u64(self.ord, ord);
        document.add_text(self.title, format!("the title of number {ord}"));
        let body = "one two three ".repeat(1 + ord as usize % 4);
        document.add_text(self.body, format!("{body} w{} two w{}", ord % 5, ord % 13));
        document.add_text(self.unstored, format!("Case {} kept Case", ord % 7));
        document.add_text(self.id, format!("id{ord}"));
        let json = serde_json::json!({"a": {"b": ord % 3}, "words": format!("deep w{}", ord % 4)});
        let serde_json::Value::Object(json) = json else {
            unreachable!("it is one")
        };
        let json = json.into_iter().map(|(key, value)| (key, value.into()));
        document.add_object(self.json, json.collect());
        document.add_facet(self.facet, Facet::from(&format!("/top/{}", ord % 6)));
        if !ord.is_multiple_of(3) {
            let seconds = i64::try_from(1_600_000_000 + ord * 1000).unwrap();
            document.add_date(self.date, DateTime::from_timestamp_secs(seconds));
        }
        document.add_ip_addr(self.ip, Ipv6Addr::from(u128::from(ord) << 64 | 1));
        document.add_bytes(self.bytes, &ord.to_le_bytes()[..1 + ord as usize % 8]);
        document.add_f64(self.price, ord as f64 / 3.0);
        document.add_bool(self.flag, ord.is_multiple_of(2));
        document
    }

    /// Which only writing takes.
    pub(crate) fn register_tokenizer(index: &Index) {
        let own = TextAnalyzer::builder(SimpleTokenizer::default()).build();
        index.tokenizers().register(TOKENIZER, own);
    }

    /// Three segments, two of them with deletes, and a payload.
    pub(crate) fn index(&self) -> Index {
        self.fill(RamDirectory::create())
    }

    pub(crate) fn fill(&self, directory: impl Directory) -> Index {
        self.fill_with(directory, &[0..70, 70..75, 75..180], &[3, 17, 69, 80, 179])
    }

    /// A commit, and so a segment or more, for each range of numbers.
    pub(crate) fn fill_with(
        &self,
        directory: impl Directory,
        commits: &[Range<u64>],
        deleted: &[u64],
    ) -> Index {
        let settings = IndexSettings {
            docstore_blocksize: 500,
            ..IndexSettings::default()
        };
        let index = Index::create(directory, self.schema(), settings).unwrap();
        Foreign::register_tokenizer(&index);
        let mut writer = plain_writer(&index);
        for ords in commits {
            for ord in ords.clone() {
                writer.add_document(self.document(ord)).unwrap();
            }
            writer.commit().unwrap();
        }
        for ord in deleted {
            writer.delete_term(Term::from_field_text(self.id, &format!("id{ord}")));
        }
        let mut prepared = writer.prepare_commit().unwrap();
        prepared.set_payload("what the program keeps here");
        prepared.commit().unwrap();
        index
    }

    /// Every field of the schema is in `new` what it is in `old`.
    pub(crate) fn assert_same(&self, old: &Index, new: &Index) {
        let segments = |index: &Index| index.searchable_segments().unwrap();
        assert_eq!(segments(old).len(), segments(new).len());
        for (old, new) in segments(old).iter().zip(segments(new)) {
            assert_eq!(old.id(), new.id());
            for component in [SegmentComponent::FastFields, SegmentComponent::Store] {
                let [old, new] = [old, &new].map(|segment| {
                    let file = segment.open_read(component.clone()).unwrap();
                    file.read_bytes().unwrap().to_vec()
                });
                assert_eq!(old, new);
            }
            for (field, _) in self.schema.fields() {
                assert_eq!(sections(old, field), sections(&new, field));
            }
            let [old, new] = [old, &new].map(|segment| SegmentReader::open(segment).unwrap());
            assert_eq!(
                (old.max_doc(), old.num_docs()),
                (new.max_doc(), new.num_docs())
            );
            for (field, entry) in self.schema.fields() {
                if entry.is_indexed() {
                    // Within a JSON field only texts have positions: `sections` compares those.
                    let option = entry.field_type().get_index_record_option();
                    let option = option.filter(|_| field != self.json);
                    let option = option.unwrap_or(IndexRecordOption::WithFreqs);
                    let [old, new] = [&old, &new].map(|reader| postings(reader, field, option));
                    assert_eq!(old, new, "{}", entry.name());
                }
                if entry.has_fieldnorms() {
                    let [old, new] = [&old, &new].map(|reader| norms(reader, field));
                    assert_eq!(old, new, "{}", entry.name());
                }
            }
            let alive = |reader: &SegmentReader| reader.doc_ids_alive().collect::<Vec<_>>();
            assert_eq!(alive(&old), alive(&new));
        }
        for query in self.queries() {
            let [old, new] = [old, new].map(|index| {
                let top = TopDocs::with_limit(500).order_by_score();
                searcher(index).search(&*query, &(top, Count)).unwrap()
            });
            assert!(old.1 > 0, "{query:?} finds nothing");
            assert_eq!(old, new, "{query:?}");
        }
    }

    fn queries(&self) -> Vec<Box<dyn Query>> {
        let word = |field, text| Term::from_field_text(field, text);
        let term = |term| -> Box<dyn Query> {
            Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))
        };
        let phrase = vec![word(self.body, "two"), word(self.body, "three")];
        let own = vec![word(self.unstored, "Case"), word(self.unstored, "3")];
        vec![
            Box::new(AllQuery),
            term(word(self.title, "number")),
            term(word(self.body, "w3")),
            term(word(self.id, "id42")),
            term(Term::from_facet(self.facet, &Facet::from("/top/4"))),
            term(Term::from_field_bool(self.flag, true)),
            term(Term::from_field_f64(self.price, 4.0)),
            term(Term::from_field_ip_addr(
                self.ip,
                Ipv6Addr::from(7 << 64 | 1),
            )),
            Box::new(PhraseQuery::new(phrase)),
            Box::new(PhraseQuery::new(own)),
        ]
    }
}

/// The bytes of a field in the files that have a section per field.
fn sections(segment: &Segment, field: Field) -> Vec<Option<Vec<u8>>> {
    use SegmentComponent::{Positions, Postings, Terms};
    let section = |component| {
        let file = CompositeFile::open(&segment.open_read(component).unwrap()).unwrap();
        let section = file.open_read(field)?;
        Some(section.read_bytes().unwrap().to_vec())
    };
    [Terms, Postings, Positions].map(section).to_vec()
}

/// Every term with its documents, frequencies and positions.
pub(crate) type Lists = Vec<(Vec<u8>, Vec<(DocId, u32, Vec<u32>)>)>;

pub(crate) fn postings(reader: &SegmentReader, field: Field, option: IndexRecordOption) -> Lists {
    let inverted_index = reader.inverted_index(field).unwrap();
    let mut terms = inverted_index.terms().stream().unwrap();
    let mut lists = Vec::new();
    while terms.advance() {
        let list = inverted_index.read_postings_from_terminfo(terms.value(), option);
        let mut list = list.unwrap();
        let mut postings = Vec::new();
        while list.doc() != TERMINATED {
            let mut positions = Vec::new();
            if option.has_positions() {
                list.positions(&mut positions);
            }
            postings.push((list.doc(), list.term_freq(), positions));
            list.advance();
        }
        lists.push((terms.key().to_vec(), postings));
    }
    assert!(!lists.is_empty());
    lists
}

pub(crate) fn norms(reader: &SegmentReader, field: Field) -> Vec<u8> {
    let norms = reader.get_fieldnorms_reader(field).unwrap();
    (0..reader.max_doc())
        .map(|doc| norms.fieldnorm_id(doc))
        .collect()
}
