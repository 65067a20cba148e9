//! How the two families name fields and tensors, and which tensors there are.

use crate::bert::config::BertConfig;
use crate::weights::{Architecture, Expected};

/// The names of one family: fields of its config, tensors of its checkpoints.
#[derive(Debug, PartialEq)]
pub(crate) struct Names {
    pub(crate) family: &'static str,
    pub(crate) hidden: &'static str,
    pub(crate) inner: &'static str,
    pub(crate) heads: &'static str,
    pub(crate) layers: &'static str,
    pub(crate) embeddings: &'static str,
    /// What stands before a layer's number.
    pub(crate) layer: &'static str,
    pub(crate) query: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    pub(crate) attention_output: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) output_norm: &'static str,
    pub(crate) transform: &'static str,
    pub(crate) transform_norm: &'static str,
    pub(crate) decoder: &'static str,
    /// The bias of the output that is added, and its other name if there are two.
    pub(crate) decoder_bias: &'static str,
    pub(crate) other_bias: Option<&'static str>,
    /// Beginnings of what may lie about: other heads, and buffers.
    harmless: &'static [&'static str],
}

pub(crate) static BERT: Names = Names {
    family: "bert",
    hidden: "hidden_size",
    inner: "intermediate_size",
    heads: "num_attention_heads",
    layers: "num_hidden_layers",
    embeddings: "bert.embeddings",
    layer: "bert.encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
    transform: "cls.predictions.transform.dense",
    transform_norm: "cls.predictions.transform.LayerNorm",
    decoder: "cls.predictions.decoder.weight",
    decoder_bias: "cls.predictions.decoder.bias",
    other_bias: Some("cls.predictions.bias"),
    harmless: &[
        "bert.pooler.",
        "bert.embeddings.position_ids",
        "bert.embeddings.token_type_ids",
        "cls.seq_relationship.",
    ],
};

pub(crate) static DISTILBERT: Names = Names {
    family: "distilbert",
    hidden: "dim",
    inner: "hidden_dim",
    heads: "n_heads",
    layers: "n_layers",
    embeddings: "distilbert.embeddings",
    layer: "distilbert.transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    output_norm: "output_layer_norm",
    transform: "vocab_transform",
    transform_norm: "vocab_layer_norm",
    decoder: "vocab_projector.weight",
    decoder_bias: "vocab_projector.bias",
    other_bias: None,
    harmless: &["distilbert.embeddings.position_ids"],
};

impl Architecture for BertConfig {
    fn manifest(&self) -> Vec<Expected> {
        let names = self.names;
        let hidden = (names.hidden, self.hidden_size);
        let inner = (names.inner, self.intermediate_size);
        let vocab = ("vocab_size", self.vocab_size);
        let mut all = Vec::new();
        let embedding = |part: &str| format!("{}.{part}", names.embeddings);
        all.push(Expected::new(
            embedding("word_embeddings.weight"),
            &[vocab, hidden],
        ));
        let positions = ("max_position_embeddings", self.max_positions);
        all.push(Expected::table(
            embedding("position_embeddings.weight"),
            &[positions, hidden],
        ));
        if self.n_token_types > 0 {
            all.push(Expected::table(
                embedding("token_type_embeddings.weight"),
                &[("type_vocab_size", self.n_token_types), hidden],
            ));
        }
        push_norm(&mut all, embedding("LayerNorm"), hidden);
        for idx in 0..self.n_layers {
            let name = |part: &str| format!("{}.{idx}.{part}", names.layer);
            for part in [names.query, names.key, names.value, names.attention_output] {
                push_linear(&mut all, name(part), hidden, hidden);
            }
            push_norm(&mut all, name(names.attention_norm), hidden);
            push_linear(&mut all, name(names.up), inner, hidden);
            push_linear(&mut all, name(names.down), hidden, inner);
            push_norm(&mut all, name(names.output_norm), hidden);
        }
        push_linear(&mut all, names.transform.to_owned(), hidden, hidden);
        push_norm(&mut all, names.transform_norm.to_owned(), hidden);
        if !self.is_tied {
            all.push(Expected::new(names.decoder.to_owned(), &[vocab, hidden]));
        }
        if names.other_bias.is_none() {
            all.push(Expected::new(names.decoder_bias.to_owned(), &[vocab]));
        }
        all
    }

    fn optional(&self) -> Vec<Expected> {
        let names = self.names;
        let vocab = ("vocab_size", self.vocab_size);
        let hidden = (names.hidden, self.hidden_size);
        let mut all = Vec::new();
        if self.is_tied {
            all.push(Expected::new(names.decoder.to_owned(), &[vocab, hidden]));
        }
        if let Some(other) = names.other_bias {
            all.push(Expected::new(names.decoder_bias.to_owned(), &[vocab]));
            all.push(Expected::new(other.to_owned(), &[vocab]));
        }
        all
    }

    /// Norms were called so by TensorFlow, and in files made of its checkpoints they still are.
    fn renamed(&self, name: &str) -> Option<String> {
        let gamma = name.strip_suffix("LayerNorm.gamma");
        let beta = name.strip_suffix("LayerNorm.beta");
        gamma
            .map(|path| format!("{path}LayerNorm.weight"))
            .or_else(|| beta.map(|path| format!("{path}LayerNorm.bias")))
    }

    fn is_harmless(&self, name: &str) -> bool {
        let beginnings = self.names.harmless.iter();
        beginnings.copied().any(|known| name.starts_with(known))
    }

    fn summary(&self) -> String {
        format!(
            "model_type = {}, {} = {}, tie_word_embeddings = {}",
            self.names.family, self.names.layers, self.n_layers, self.is_tied
        )
    }
}

fn push_linear(
    all: &mut Vec<Expected>,
    name: String,
    outputs: (&'static str, usize),
    inputs: (&'static str, usize),
) {
    all.push(Expected::new(format!("{name}.weight"), &[outputs, inputs]));
    all.push(Expected::new(format!("{name}.bias"), &[outputs]));
}

fn push_norm(all: &mut Vec<Expected>, name: String, width: (&'static str, usize)) {
    all.push(Expected::new(format!("{name}.weight"), &[width]));
    all.push(Expected::new(format!("{name}.bias"), &[width]));
}
