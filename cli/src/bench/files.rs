//! [`FileCollection`]: real vectors as documents and queries, as they are or resampled.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use laconic_fixtures::resampled::Resampler;
use laconic_fixtures::synthetic::TermWeights;
use laconic_tantivy::SparseVector;
use xxhash_rust::xxh3::xxh3_64;

use super::collection::{QUERY_TERMS, to_vector};
use crate::collection::{self, InputError, Line, LineReader, VectorScale};
use crate::indexing;

/// Vectors of files.
#[derive(Debug, Clone)]
pub(crate) struct FileCollection {
    pub(crate) documents: Vec<PathBuf>,
    /// Queries; without, documents are drawn as queries.
    pub(crate) queries: Option<PathBuf>,
    pub(crate) scale: VectorScale,
    /// Documents to draw, or the most to read.
    pub(crate) n_docs: Option<u32>,
    pub(crate) is_resampled: bool,
    pub(crate) is_shuffled: bool,
    pub(crate) seed: u32,
}

/// Documents as term ids, for what has to hold them all.
#[derive(Default)]
struct Numbered {
    vocabulary: Vec<String>,
    ids: HashMap<String, u32>,
    vectors: Vec<TermWeights>,
}

impl FileCollection {
    /// Files are told apart by path and size.
    pub(crate) fn key(&self) -> String {
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        let sizes: Vec<u64> = self.documents.iter().map(size).collect();
        let what = FileCollection {
            queries: None,
            ..self.clone()
        };
        let hash = xxh3_64(format!("{what:?} {sizes:?}").as_bytes());
        let stem = self.documents.first().and_then(|path| path.file_name());
        let stem = stem.unwrap_or_default().to_string_lossy();
        format!("{}-{hash:016x}", stem.trim_start_matches('.'))
    }

    pub(super) fn for_each_document(
        &self,
        visit: &mut dyn FnMut(&SparseVector) -> Result<()>,
    ) -> Result<()> {
        if self.is_resampled {
            let (resampler, vocabulary) = self.resampler()?;
            return (0..self.n_docs.unwrap_or(0))
                .try_for_each(|item| visit(&to_vector(&resampler.vector(item), &vocabulary)?));
        }
        if self.is_shuffled {
            return self.shuffled()?.iter().try_for_each(visit);
        }
        self.read(visit)
    }

    pub(super) fn queries(
        &self,
        n_queries: u32,
        n_terms: Option<usize>,
    ) -> Result<Vec<SparseVector>> {
        let Some(path) = &self.queries else {
            let (resampler, vocabulary) = self.resampler()?;
            // Counted from the end, where no document of a resampled collection is.
            let drawn = (0..n_queries).map(|item| resampler.vector(u32::MAX - item));
            let n_terms = n_terms.unwrap_or(QUERY_TERMS);
            return drawn
                .map(|weights| Ok(to_vector(&weights, &vocabulary)?.top_terms(n_terms)))
                .collect();
        };
        let all = read_queries(path, self.scale)?;
        let n_queries = usize::try_from(n_queries)?.min(all.len());
        let evenly = (0..n_queries).map(|idx| &all[idx * all.len() / n_queries.max(1)]);
        Ok(evenly
            .map(|query| query.top_terms(n_terms.unwrap_or(usize::MAX)))
            .collect())
    }

    /// Reads documents, and stops when there are enough.
    fn read(&self, visit: &mut dyn FnMut(&SparseVector) -> Result<()>) -> Result<()> {
        let mut n_left = match self.n_docs {
            Some(n_docs) if !self.is_resampled => n_docs,
            _ => u32::MAX,
        };
        for path in &self.documents {
            for record in collection::vectors(LineReader::open(path)?, self.scale) {
                if n_left == 0 {
                    return Ok(());
                }
                n_left -= 1;
                visit(&indexing::to_vector(record?)?.record.1)?;
            }
        }
        Ok(())
    }

    fn shuffled(&self) -> Result<Vec<SparseVector>> {
        let mut documents = Vec::new();
        self.read(&mut |vector| {
            documents.push(vector.clone());
            Ok(())
        })?;
        // An order by hash is a shuffle that no generator has to be fetched for.
        let mut numbered: Vec<(u64, SparseVector)> = (0u64..)
            .zip(documents)
            .map(|(idx, document)| (shuffle_key(idx, self.seed), document))
            .collect();
        numbered.sort_by_key(|(key, _)| *key);
        Ok(numbered.into_iter().map(|(_, document)| document).collect())
    }

    fn resampler(&self) -> Result<(Resampler, Vec<String>)> {
        let mut numbered = Numbered::default();
        self.read(&mut |vector| numbered.add(vector))?;
        let resampler = Resampler::new(numbered.vectors, u64::from(self.seed));
        Ok((resampler, numbered.vocabulary))
    }
}

impl Numbered {
    fn add(&mut self, vector: &SparseVector) -> Result<()> {
        let mut weights = TermWeights::with_capacity(vector.len());
        for (term, weight) in vector.iter() {
            weights.push((self.id(term)?, weight));
        }
        weights.sort_unstable_by_key(|&(id, _)| id);
        self.vectors.push(weights);
        Ok(())
    }

    fn id(&mut self, term: &str) -> Result<u32> {
        if let Some(&id) = self.ids.get(term) {
            return Ok(id);
        }
        let id = u32::try_from(self.vocabulary.len()).context("too many terms")?;
        self.vocabulary.push(term.to_owned());
        self.ids.insert(term.to_owned(), id);
        Ok(id)
    }
}

fn shuffle_key(idx: u64, seed: u32) -> u64 {
    let bytes = [idx.to_le_bytes(), u64::from(seed).to_le_bytes()].concat();
    xxh3_64(&bytes)
}

/// Reads query vectors: JSON lines, or `id<TAB>term:weight term:weight …`.
fn read_queries(path: &Path, scale: VectorScale) -> Result<Vec<SparseVector>> {
    let mut lines = LineReader::open(path)?;
    let is_json = match lines.next_line()? {
        Some(line) => line.text.trim_start().starts_with('{'),
        None => true,
    };
    let lines = LineReader::open(path)?;
    if is_json {
        let records = collection::vectors(lines, scale);
        return records
            .map(|record| Ok(indexing::to_vector(record?)?.record.1))
            .collect();
    }
    read_columns(lines, scale)
}

fn read_columns(mut lines: LineReader, scale: VectorScale) -> Result<Vec<SparseVector>> {
    let mut queries = Vec::new();
    while let Some(line) = lines.next_line()? {
        queries.push(parse_columns(&line, scale)?);
    }
    Ok(queries)
}

fn parse_columns(line: &Line<'_>, scale: VectorScale) -> Result<SparseVector, InputError> {
    let refuse = |why: String| line.place.refuse(why);
    let (_, vector) = line.text.split_once('\t').ok_or_else(|| {
        refuse("a line is `id`, a tab, and `term:weight` pairs; there is no tab".to_owned())
    })?;
    let pairs = vector.split_whitespace().map(|pair| {
        let parsed = pair
            .rsplit_once(':')
            .and_then(|(term, weight)| Some((term, weight.parse::<f64>().ok()?)));
        let (term, weight) = parsed.ok_or_else(|| refuse(format!("`{pair}` is no term:weight")))?;
        Ok((term, scale.weight(weight)))
    });
    let pairs = pairs.collect::<Result<Vec<_>, InputError>>()?;
    SparseVector::from_pairs(pairs).map_err(|error| line.place.refuse(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Result<Vec<SparseVector>> {
        let lines = LineReader::from_reader("queries.tsv", text.as_bytes())?;
        read_columns(lines, VectorScale::new(64.0).unwrap())
    }

    #[test]
    fn columns_are_terms_and_scaled_weights() {
        let queries = parse("q1\ta:64 b:c:32\nq2\t\n").unwrap();
        assert_eq!(queries[0].weight("a"), Some(1.0));
        assert_eq!(queries[0].weight("b:c"), Some(0.5));
        assert!(queries[1].is_empty());
    }

    #[test]
    fn faulty_columns_are_named() {
        for text in ["q1 a:1\n", "q1\ta\n", "q1\ta:x\n", "q1\ta:1 a:2\n"] {
            let message = parse(text).expect_err(text).to_string();
            assert!(message.contains("queries.tsv, line 1"), "{message}");
        }
    }
}
