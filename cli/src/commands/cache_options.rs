//! Options of the cache of encodings.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use laconic_model::Encoder;

use crate::encoding::CachedEncoder;
use crate::encoding_cache::{EncodingCache, default_folder};
use crate::terminal::note;

/// Whether and where encodings are kept.
#[derive(Debug, Args)]
pub(crate) struct CacheOptions {
    /// Keep encodings in this folder [default: LACONIC_CACHE, or else laconic in the user's caches]
    ///
    /// A text that the same checkpoint and preset have encoded before is not encoded again. The
    /// folder may be deleted at any time; it is begun anew at 16 GiB.
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Encode every text, and keep nothing
    #[arg(long)]
    no_cache: bool,
}

impl CacheOptions {
    /// The encoder with its cache, if there is to be one.
    pub(crate) fn cached(&self, encoder: Encoder, quiet: bool) -> Result<CachedEncoder> {
        let folder = self.cache.clone().or_else(default_folder);
        let cache = match folder.filter(|_| !self.no_cache) {
            None => None,
            Some(folder) => match EncodingCache::open(&folder, &encoder) {
                Ok(Some(cache)) => Some(cache),
                Ok(None) => {
                    let folder = folder.display();
                    note(
                        quiet,
                        format_args!(
                            "note: another process uses the cache in {folder}; going without"
                        ),
                    );
                    None
                }
                // Only a cache that was asked for has to work.
                Err(error) if self.cache.is_some() => return Err(error),
                Err(error) => {
                    note(quiet, format_args!("note: {error:#}"));
                    None
                }
            },
        };
        Ok(CachedEncoder { encoder, cache })
    }
}
