//! Batches that memory is too short for.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::cell::RefCell;

use super::*;
use support::Checkpoint;

const TEXTS: [Text<'_>; 6] = [
    Text::Query("a boat"),
    Text::Query(""),
    Text::Document {
        title: Some("Clocks"),
        body: "She repaired the clock at the end of the street.",
    },
    Text::Query("who repaired it?"),
    Text::Document {
        title: None,
        body: "The boat is late.",
    },
    Text::Query("a bell"),
];

/// Encodes with so many bytes for a batch; also what was asked for.
fn encode(encoder: &Encoder, limit: usize) -> (Result<Vec<Encoding>, Error>, Vec<usize>) {
    let tokens = encoder.tokenize_all(&TEXTS, 0).unwrap();
    let asked = RefCell::new(Vec::new());
    let reserve = |n_bytes| {
        asked.borrow_mut().push(n_bytes);
        match n_bytes <= limit {
            true => Ok(()),
            false => Err(Error::out_of_memory("no room")),
        }
    };
    let mut last = 0;
    let done = encoder.encode_within(tokens, &reserve, &mut |n_done| last = n_done);
    assert!(done.is_err() || last == TEXTS.len());
    (done, asked.into_inner())
}

#[test]
fn a_batch_without_room_is_split_and_nothing_else_changes() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(1).write(folder.path());
    let encoder = Encoder::load(folder.path(), LoadOptions::new()).unwrap();
    let (whole, asked) = encode(&encoder, usize::MAX);
    let whole = whole.unwrap();
    let [all] = asked[..] else {
        panic!("one batch: {asked:?}");
    };
    let longest = Pack::new([encoder.token_ids(TEXTS[2]).unwrap().as_slice()]);
    let alone = encoder.engine.room(&longest, encoder.vocab_size());
    for limit in [alone, all / 2, all - 1] {
        let (split, asked) = encode(&encoder, limit);
        assert_eq!(split.unwrap(), whole, "bit for bit");
        assert!(asked.len() > 2 && asked[0] == all, "{asked:?}");
    }
    let (refused, _) = encode(&encoder, alone - 1);
    let error = refused.unwrap_err();
    assert!(error.is_out_of_memory());
    assert_eq!(error.document_idx(), Some(2));
}

/// The estimate is what keeps a batch from being killed: it is no less than what is allocated.
#[test]
fn the_room_of_a_batch_counts_its_widest_rows() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(1).write(folder.path());
    let encoder = Encoder::load(folder.path(), LoadOptions::new()).unwrap();
    let pack = Pack::new([&[1, 2, 3][..], &[4]]);
    // Residual stream, norm and output; gate and up from the hidden size.
    let row = 3 * support::HIDDEN + support::HIDDEN + 2 * support::INNER.next_multiple_of(32);
    let pooled = 2 * support::VOCAB;
    let room = encoder.engine.room(&pack, encoder.vocab_size());
    assert!(room >= 4 * (4 * row + pooled) - 4 * 4 * 64, "{room}");
    assert!(room <= 8 * (4 * row + pooled), "{room}");
}
