//! Text in, learned-sparse vector out: a bidirectional Llama, BERT or
//! DistilBERT with a max-pooled LM head, in pure Rust.
//!
//! A *learned-sparse* encoder gives a text a weight for each entry of its
//! vocabulary: those of words that stand in it and of words that might as
//! well. LACONIC does so with a Llama whose causal mask is taken off:
//!
//! 1. Prefix (`query: ` or `passage: `) and text become token ids, without
//!    special tokens, at most 256.
//! 2. The network computes a hidden state for each position, every position
//!    seeing every other.
//! 3. The LM head turns each hidden state into one logit per vocabulary
//!    entry; the largest over all positions counts.
//! 4. A term weight is log(1 + max(0, logit)); the 512 largest are kept.
//!
//! ```no_run
//! use laconic_model::{Encoder, LoadOptions};
//!
//! let encoder = Encoder::load("laconic-1b", LoadOptions::new().tokenizer("tokenizer.json"))?;
//! let encoding = encoder.encode_document(Some("Copper"), "Copper conducts electricity well.")?;
//! for (token_id, weight) in encoding.weights.iter().take(10) {
//!     println!("{} {weight:.3}", encoder.term(*token_id).unwrap_or("?"));
//! }
//! # Ok::<(), laconic_model::Error>(())
//! ```
//!
//! What differs between checkpoint families (prefixes, special tokens,
//! lengths, pooling, cut) is data: see [`Preset`]. SPLADE and the sparse encoders
//! of OpenSearch are BERT or DistilBERT in place of the Llama, with `[CLS]` and
//! `[SEP]` around a text and a bias in the head; the queries of inference-free ones
//! are looked up in a table. A folder says which it is ([`ModelInfo`] tells), and
//! no preset has to be named.
//!
//! # Files
//!
//! [`Encoder::load`] reads a Hugging Face folder, a `SparseEncoder` of
//! sentence-transformers, or OpenSearch's layout. Model files are taken for
//! hostile: numbers of `config.json` have ranges; modules and settings
//! that are not known are refused by name; names, shapes and types of
//! all tensors are compared with what the config implies before any data is
//! read; shards are plain file names inside the folder; weights must be
//! finite; a tokenizer's regular expressions must be on a list of known ones;
//! nothing is allocated by a number that a file declares. Only safetensors
//! and GGUF are read, never pickles.
//!
//! A GGUF file holds weights in few bits: [`quantize`] writes one, and so does llama.cpp
//! (architecture `llama`). What the header claims is checked against the file's length before any
//! data is read: counts, dimensions, and that tensors lie one behind the other. The tokenizer is
//! `tokenizer.json` beside it.
//!
//! # Precision and memory
//!
//! All arithmetic is f32, whatever the file holds: f16 and bf16 weights are
//! widened exactly on load, so the same tolerance against a reference in f32
//! arithmetic holds for them (1e-4 in a term weight). The other formats of
//! [`WeightFormat`] trade some of that for memory and time. A text has
//! the same bits in any batch, on any number of threads. A logit that is NaN or
//! infinite is an error that names the text and the position, never a zero.
//!
//! Beyond the weights (4 bytes each, or less: [`WeightFormat`]), memory is bounded by the token budget of
//! a batch ([`LoadOptions::batch_tokens`]), not by the number or length of the
//! texts: logits exist only as tiles of 32 KiB a thread, attention scores for 24
//! positions at a time. Loading holds one tensor beside what is packed already.
//!
//! # Speed
//!
//! Products are computed by kernels of our own, chosen by what the processor
//! has: AMX (bytes), AVX-512 with VNNI, AVX2 with or without VNNI; on aarch64 NEON, for bytes with
//! DotProd or I8MM where there are these (tested in an emulator, never timed); or plain loops.
//! `LACONIC_CPU=avx512`, `avx-vnni`, `avx2` or `scalar` in the environment caps the choice, on
//! aarch64 `neon-dotprod`, `neon` or `scalar`. `laconic bench encode` measures.
//!
//! When memory is short, a batch whose estimated room the allocator refuses is halved, down to
//! single texts; [`Error::is_out_of_memory`] then names the text.
//!
//! # Devices
//!
//! With the feature `cuda` or `metal`, [`LoadOptions::device`] runs a Llama on a GPU, by candle, in
//! f32 or bf16. Term weights are those of the CPU within 1e-4 in f32, in bf16 as close as products
//! rounded to 8 bits let them be; a text's last bits may depend on its batch there. Tests run the
//! same code on candle's CPU device (feature `device`); on a GPU it has not been run.
//!
//! # Training
//!
//! With the feature `train` the module `train` fits a checkpoint to pairs of queries and passages, on
//! candle; `cuda` and `metal` let it use a GPU. Encoding on a CPU does not need candle.

#![deny(unsafe_code)]
#![deny(missing_docs)]

mod attention;
mod attribution;
mod backbone;
mod batch;
pub mod bench;
mod bert;
mod blocks;
mod checkpoint;
mod config;
mod device;
mod encoder;
mod encoding;
mod engine;
mod error;
mod family;
mod float16;
mod folder;
mod gguf;
mod head;
mod info;
mod kernels;
mod layout;
mod matmul;
mod memory;
mod network;
mod numbers;
mod options;
mod parts;
mod preset;
mod quantize;
mod query_table;
mod rope;
mod saturation;
mod shard;
mod template;
mod text;
mod timings;
mod tokenize;
#[cfg(feature = "train")]
pub mod train;
mod vocabulary;
mod weights;

pub use attribution::{AttributedTerm, Attribution, Part, Source, Span};
pub use device::Device;
pub use encoder::Encoder;
pub use encoding::{Encoding, Trace};
pub use error::Error;
pub use info::{FileInfo, ModelInfo, QueryEncoding};
pub use options::{LoadOptions, WeightFormat};
pub use preset::Preset;
pub use quantize::{FileFormat, quantize};
pub use text::Text;
