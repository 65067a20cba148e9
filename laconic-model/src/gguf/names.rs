//! Names of tensors: llama.cpp's and those of Hugging Face checkpoints.

use crate::weights::{EMBEDDING, LM_HEAD, NORM};

/// The factors that inverse frequencies are divided by, of Llama 3.1 and later.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", EMBEDDING),
    ("output_norm.weight", NORM),
    ("output.weight", LM_HEAD),
];

const OF_LAYER: [(&str, &str); 9] = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_gate.weight", "mlp.gate_proj.weight"),
    ("ffn_up.weight", "mlp.up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
];

/// llama.cpp's name of a tensor of the manifest.
pub(super) fn to_gguf(name: &str) -> Option<String> {
    let whole = WHOLE.iter().find(|(_, ours)| *ours == name);
    if let Some((theirs, _)) = whole {
        return Some((*theirs).to_owned());
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (theirs, _) = OF_LAYER.iter().find(|(_, ours)| *ours == part)?;
    Some(format!("blk.{layer}.{theirs}"))
}

/// Whether rows of a tensor are in another order in GGUF.
pub(super) fn is_rotated(name: &str) -> bool {
    name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight")
}

/// Moves the rows of queries or keys from one order to the other.
///
/// RoPE turns pairs of channels. Hugging Face pairs channel i of a head with i + half of it; in
/// llama.cpp's Llama pairs are neighbours, so its converter interleaves the halves of each head.
pub(super) fn reorder(rows: &[u8], n_rows: usize, head_dim: usize, order: Order) -> Vec<u8> {
    let row_bytes = rows.len() / n_rows.max(1);
    let mut out = vec![0; rows.len()];
    for row in 0..n_rows {
        let (head, channel) = (row / head_dim, row % head_dim);
        let (half, pair) = (channel / (head_dim / 2), channel % (head_dim / 2));
        let interleaved = head * head_dim + 2 * pair + half;
        let (from, to) = match order {
            Order::Interleave => (row, interleaved),
            Order::Separate => (interleaved, row),
        };
        let from = &rows[from * row_bytes..(from + 1) * row_bytes];
        out[to * row_bytes..(to + 1) * row_bytes].copy_from_slice(from);
    }
    out
}

/// Which way rows are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// To llama.cpp's.
    Interleave,
    /// From llama.cpp's.
    Separate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_there_and_back() {
        // Two heads of 6 channels, rows of two bytes.
        let rows: Vec<u8> = (0..12).flat_map(|row| [row, row + 100]).collect();
        let there = reorder(&rows, 12, 6, Order::Interleave);
        let first: Vec<u8> = there.iter().copied().step_by(2).collect();
        assert_eq!(first, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        assert_eq!(reorder(&there, 12, 6, Order::Separate), rows);
    }

    #[test]
    fn layers_keep_their_numbers() {
        let name = to_gguf("model.layers.17.mlp.up_proj.weight");
        assert_eq!(name.as_deref(), Some("blk.17.ffn_up.weight"));
        assert_eq!(to_gguf("lm_head.weight").as_deref(), Some("output.weight"));
        assert_eq!(to_gguf("model.layers.17.mlp.bias"), None);
    }
}
