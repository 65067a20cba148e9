//! The output matrix and its bias: which of the names a checkpoint may hold them under counts.

use std::sync::Arc;

use crate::bert::config::BertConfig;
use crate::error::Error;
use crate::matmul::Matrix;
use crate::weights::Weights;

/// The output projection: the embedding, unless the checkpoint holds another.
///
/// Exporters may write a tied matrix twice, and one copy will do. If the two differ, the config's
/// `tie_word_embeddings` is wrong, and the file counts, as in transformers 5.
pub(crate) fn decoder(
    config: &BertConfig,
    weights: &mut Weights,
    words: Arc<Matrix>,
) -> Result<Arc<Matrix>, Error> {
    if config.is_tied && !weights.has(config.names.decoder) {
        return Ok(words);
    }
    let decoder = weights.matrix(config.names.decoder)?;
    if is_same(&decoder, &words, config.vocab_size) {
        return Ok(words);
    }
    Ok(Arc::new(decoder))
}

fn is_same(left: &Matrix, right: &Matrix, vocab_size: usize) -> bool {
    let mut rows = [vec![0.0; left.inputs()], vec![0.0; right.inputs()]];
    (0..vocab_size).all(|token| {
        left.row(token, &mut rows[0]);
        right.row(token, &mut rows[1]);
        rows[0] == rows[1]
    })
}

/// The bias of the output. BERT's has two names; of tied weights both are one.
pub(crate) fn decoder_bias(config: &BertConfig, weights: &mut Weights) -> Result<Vec<f32>, Error> {
    let names = config.names;
    let mut take = |name: &str| match weights.has(name) {
        true => weights.vector(name).map(Some),
        false => Ok(None),
    };
    let bias = take(names.decoder_bias)?;
    let other = names.other_bias.map(&mut take).transpose()?.flatten();
    match (bias, other) {
        (Some(bias), Some(other)) if config.is_tied && bias != other => {
            Err(Error::corrupt(format!(
                "building the network: {} and {} are one tensor if tie_word_embeddings is true, \
                 but differ; say which was trained, and remove the other",
                names.decoder_bias,
                names.other_bias.unwrap_or_default()
            )))
        }
        (Some(bias), _) | (None, Some(bias)) => Ok(bias),
        (None, None) => Err(Error::corrupt(format!(
            "checking the weights against config.json: tensor {} is missing; this is a checkpoint \
             without its head for masked words, load one of {}",
            names.other_bias.unwrap_or(names.decoder_bias),
            match names.family {
                "bert" => "BertForMaskedLM",
                _ => "DistilBertForMaskedLM",
            }
        ))),
    }
}
