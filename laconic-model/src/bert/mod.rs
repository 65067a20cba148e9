//! BERT (Devlin et al. 2019) and DistilBERT (Sanh et al. 2019) with the head they were pretrained
//! with: what SPLADE (Formal et al. 2021) and the sparse encoders of OpenSearch are made of.

mod activation;
mod backbone;
mod config;
mod decoder;
mod layers;
mod names;

pub(crate) use backbone::Backbone;
pub(crate) use config::BertConfig;
pub(crate) use decoder::{decoder, decoder_bias};
