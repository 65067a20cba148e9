//! Options that page through a ranking.

use clap::Args;
use tantivy::Score;

use crate::corpus::Found;
use crate::paging::{Cursor, Page};

/// Which hits of the ranking are printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Paging")]
pub(crate) struct PageOptions {
    /// Pass over the first N hits; ranks are counted on
    ///
    /// Every page is found anew from the first hit on, so deep pages cost more than by --after.
    /// While the index and all other options stay the same, no hit is skipped or repeated. Text
    /// output then ends with the place for --after, for the first page too, by --offset 0.
    #[arg(long, value_name = "N")]
    pub(crate) offset: Option<usize>,
    /// Only hits strictly behind this place of the ranking, as printed with the page before it
    ///
    /// The place is that of a hit, by its score and its document's address; ranks are counted
    /// from there. While the index is unchanged no hit is skipped or repeated. In hybrid mode only
    /// --fusion sum knows such places; page other fusions with --offset.
    #[arg(long, value_name = "SCORE:SEGMENT:DOC", conflicts_with = "offset")]
    pub(crate) after: Option<Cursor>,
    /// Only hits with this score or more
    #[arg(long, value_name = "X", value_parser = finite, allow_negative_numbers = true)]
    pub(crate) min_score: Option<Score>,
}

impl PageOptions {
    /// The page of `k` hits.
    pub(crate) fn page(&self, k: usize) -> Page {
        Page {
            k,
            offset: self.offset.unwrap_or(0),
            after: self.after,
            min_score: self.min_score,
        }
    }

    /// True if the user pages, and wants to be told how to go on.
    pub(crate) fn is_paged(&self) -> bool {
        self.offset.is_some() || self.after.is_some()
    }

    /// The rank of the first hit.
    pub(crate) fn first_rank(&self) -> usize {
        self.offset.unwrap_or(0).saturating_add(1)
    }
}

/// Where to go on behind the last hit.
pub(crate) fn last_place(found: &[Found]) -> Option<Cursor> {
    found.last().map(|hit| Cursor {
        score: hit.score,
        address: hit.address,
    })
}

fn finite(text: &str) -> Result<Score, String> {
    let score = text.parse::<Score>().ok().filter(|score| score.is_finite());
    score.ok_or_else(|| "a finite number is needed".to_owned())
}
