//! Options that several sub-commands share.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use laconic_model::{Device, Encoder, LoadOptions, WeightFormat};
use laconic_tantivy::{Approximation, Bm25, LaconicField, ModelIdentity};

use super::hybrid_options::HybridOptions;
use crate::collection::VectorScale;
use crate::corpus::Corpus;
use crate::encoding;
use crate::retrieval::{self, Mode, Question, Retriever};
use crate::terminal::{UsageError, note};

/// Which checkpoint encodes, and how.
#[derive(Debug, Args)]
pub(crate) struct ModelOptions {
    /// Folder of a checkpoint (config.json, safetensors, tokenizer.json), or a GGUF file
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Tokenizer, if the checkpoint's folder has none (LACONIC checkpoints ship none)
    #[arg(long, value_name = "FILE", requires = "model")]
    pub(crate) tokenizer: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) preset: PresetOptions,
    /// How to hold the checkpoint's weights; docs/formats.md has the measurements
    #[arg(long, value_enum, default_value = "stored", requires = "model")]
    pub(crate) weights: Weights,
    /// Where to encode: cpu, cuda, cuda:1, metal; GPUs need a build with their feature, and take
    /// Llamas with --weights stored, f32 or bf16
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device, requires = "model")]
    pub(crate) device: Device,
}

/// Parses the name of a device.
pub(crate) fn device(text: &str) -> Result<Device, String> {
    text.parse()
        .map_err(|error: laconic_model::Error| error.to_string())
}

/// What a checkpoint needs around its network.
#[derive(Debug, Args)]
pub(crate) struct PresetOptions {
    /// Preset to begin with instead of the one that fits the checkpoint: laconic, splade or
    /// opensearch
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Override a knob of the preset: query_prefix, document_prefix, add_bos, max_length,
    /// top_k=none, … (all of them: laconic model info DIR)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

impl PresetOptions {
    /// These, and a tokenizer from elsewhere.
    pub(crate) fn load_options(&self, tokenizer: Option<&Path>) -> Result<LoadOptions> {
        let pairs = self
            .overrides
            .iter()
            .map(|pair| match pair.split_once('=') {
                Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
                None => Err(UsageError(format!(
                    "`--set {pair}` has no `=`; write --set KEY=VALUE"
                ))),
            });
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        encoding::load_options(tokenizer, self.preset.as_deref(), &pairs)
    }

    fn is_given(&self) -> bool {
        self.preset.is_some() || !self.overrides.is_empty()
    }
}

/// How weights are held and computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weights {
    /// As the file holds them: safetensors in f32, GGUF in its own formats
    Stored,
    /// 4 bytes a weight: exact; a query takes 5 times as long as in int8, a document 3.5 times
    F32,
    /// 2 bytes a weight; nearest to f32 (cosine 0.99997); 2.7 and 1.6 times as long as int8
    Bf16,
    /// 1.03 bytes a weight; fastest; cosine 0.9998
    Int8,
    /// 1.06 bytes a weight; 1.2 times as long as int8; cosine 0.9998
    #[value(name = "q8_0")]
    Q8_0,
    /// 1.06 bytes a weight, computed in f32: its memory, not its speed; cosine 0.9999
    #[value(name = "q8_0-f32")]
    Q8_0WeightOnly,
    /// 0.82 bytes a weight; 1.6 times as long as int8; cosine 0.999
    #[value(name = "q6_k")]
    Q6K,
    /// 0.70 bytes a weight; 1.7 times as long as int8; cosine 0.995
    #[value(name = "q5_k")]
    Q5K,
    /// 0.58 bytes a weight; 1.6 times as long as int8; cosine 0.98; LOSES 0.5 % nDCG@10
    #[value(name = "q4_k")]
    Q4K,
}

impl Weights {
    pub(crate) fn format(self) -> WeightFormat {
        match self {
            Self::Stored => WeightFormat::Stored,
            Self::F32 => WeightFormat::F32,
            Self::Bf16 => WeightFormat::Bf16,
            Self::Int8 => WeightFormat::Int8,
            Self::Q8_0 => WeightFormat::Q8_0,
            Self::Q8_0WeightOnly => WeightFormat::Q8_0WeightOnly,
            Self::Q6K => WeightFormat::Q6K,
            Self::Q5K => WeightFormat::Q5K,
            Self::Q4K => WeightFormat::Q4K,
        }
    }
}

impl Display for Weights {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stored => "stored",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Q8_0 => "q8_0",
            Self::Q8_0WeightOnly => "q8_0-f32",
            Self::Q6K => "q6_k",
            Self::Q5K => "q5_k",
            Self::Q4K => "q4_k",
        })
    }
}

impl ModelOptions {
    /// Loads the encoder, if one is named.
    pub(crate) fn load(&self) -> Result<Option<Encoder>> {
        let Some(folder) = &self.model else {
            if self.preset.is_given() {
                let message = "--preset and --set are about a checkpoint; name one with --model";
                return Err(UsageError(message.to_owned()).into());
            }
            return Ok(None);
        };
        let options = self.preset.load_options(self.tokenizer.as_deref())?;
        let options = options.weights(self.weights.format()).device(self.device);
        Ok(Some(Encoder::load(folder, options)?))
    }
}

/// Parses the factor the weights of a vector file were multiplied with.
pub(crate) fn vector_scale(text: &str) -> Result<VectorScale, String> {
    let scale = text.parse::<f32>().ok().and_then(VectorScale::new);
    scale.ok_or_else(|| "a number greater than 0 is needed".to_owned())
}

/// What to ask and how.
#[derive(Debug, Args)]
pub(crate) struct QueryOptions {
    /// Queries as JSON lines {"_id", "text"}; plain, gzip or zstd
    #[arg(long, value_name = "FILE")]
    pub(crate) queries: Option<PathBuf>,
    /// Queries as vectors, JSON lines {"_id", "vector": {term: weight}}
    #[arg(long, value_name = "FILE")]
    pub(crate) query_vectors: Option<PathBuf>,
    /// Factor the weights of the vector file were multiplied with
    #[arg(long, value_name = "S", default_value = "1", value_parser = vector_scale)]
    pub(crate) vector_scale: VectorScale,
    /// Name of the model that made the query vectors, to be compared with the index's
    #[arg(long, value_name = "NAME", requires = "query_vectors")]
    pub(crate) vectors_model: Option<String>,
    #[command(flatten)]
    pub(crate) model: ModelOptions,
    /// How to score; sparse and hybrid need an index with vectors
    ///
    /// hybrid needs every query as text and as vector: a text with --model, or --queries and
    /// --query-vectors with the same ids.
    #[arg(long, value_enum, default_value = "sparse")]
    pub(crate) mode: Mode,
    /// Only documents that match this, in Tantivy's query syntax, e.g. 'year:[2019 TO *]'
    #[arg(long, value_name = "QUERY")]
    pub(crate) filter: Option<String>,
    /// BM25: how slowly a repeated word stops to count
    #[arg(long, value_name = "K1", default_value_t = 1.2)]
    pub(crate) k1: f32,
    /// BM25: how much long documents are held back, 0 to 1
    #[arg(long, value_name = "B", default_value_t = 0.75)]
    pub(crate) b: f32,
    /// Threads of one search; large segments are split
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) threads: usize,
    /// Approximate: find candidates by the N heaviest learned terms, score them by all
    #[arg(long, value_name = "N")]
    pub(crate) query_terms: Option<usize>,
    /// Approximate: pass over what cannot beat the threshold by this factor, e.g. 1.2
    #[arg(long, value_name = "FACTOR")]
    pub(crate) overestimate: Option<f32>,
    /// Approximate: evaluate about N documents, the most promising ones
    #[arg(long, value_name = "N")]
    pub(crate) max_documents: Option<u64>,
    #[command(flatten)]
    pub(crate) hybrid: HybridOptions,
}

impl QueryOptions {
    /// The questions of the files named.
    pub(crate) fn questions(&self) -> Result<Vec<Question>> {
        match (&self.queries, &self.query_vectors) {
            (_, Some(path)) if self.mode == Mode::Sparse => {
                retrieval::read_query_vectors(path, self.vector_scale)
            }
            (Some(texts), Some(vectors)) if self.mode == Mode::Hybrid => {
                let vectors = retrieval::read_query_vectors(vectors, self.vector_scale)?;
                retrieval::join(retrieval::read_queries(texts)?, vectors)
            }
            (None, Some(_)) if self.mode == Mode::Hybrid => {
                let message = "hybrid search needs the queries as text too: give them with \
                               --queries, with the same ids";
                Err(UsageError(message.to_owned()).into())
            }
            (Some(path), _) => retrieval::read_queries(path),
            (None, Some(path)) => retrieval::read_query_vectors(path, self.vector_scale),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Loads the encoder if the mode needs one.
    pub(crate) fn encoder(&self) -> Result<Option<Encoder>> {
        match self.mode {
            Mode::Sparse | Mode::Hybrid => self.model.load(),
            Mode::Bm25 => Ok(None),
        }
    }

    fn approximation(&self) -> Result<Approximation> {
        let approximation = Approximation {
            query_terms: self.query_terms,
            overestimate: self.overestimate,
            max_documents: self.max_documents,
        };
        if approximation != Approximation::default() && self.mode == Mode::Bm25 {
            let message = "--query-terms, --overestimate and --max-documents are for \
                           learned-sparse and hybrid search";
            return Err(UsageError(message.to_owned()).into());
        }
        Ok(approximation)
    }

    /// Prepares the search, and says what it takes on trust.
    pub(crate) fn retriever<'a>(
        &self,
        corpus: &'a Corpus,
        encoder: Option<&'a Encoder>,
        quiet: bool,
    ) -> Result<Retriever<'a>> {
        let filter = self
            .filter
            .as_deref()
            .map(|filter| corpus.filter(filter))
            .transpose()?;
        let vectors_of = self.vectors_model.as_deref().map(given_model).transpose()?;
        let trusts_encoder = |field: &LaconicField| field.identity().model.is_none();
        if encoder.is_some() && corpus.laconic().is_some_and(trusts_encoder) {
            note(
                quiet,
                "note: the index does not say which model made its vectors; taking it to be the \
                 one given",
            );
        }
        let searcher = corpus.searcher()?;
        Ok(Retriever {
            corpus,
            searcher,
            mode: self.mode,
            encoder,
            vectors_of,
            filter,
            n_threads: self.threads,
            bm25: Bm25::new(self.k1, self.b)?,
            approximation: self.approximation()?,
            hybrid: self.hybrid.hybrid(self.mode)?,
        })
    }
}

/// The identity of vectors that come from a file.
pub(crate) fn given_model(name: &str) -> Result<ModelIdentity> {
    Ok(ModelIdentity::new(name, "given")?)
}
