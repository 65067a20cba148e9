//! The error of putting together judgments and runs.

use std::fmt;

use crate::collection::{InputError, Line};

/// Why a judgment or a ranked list is refused: something in it is given twice or is no number.
#[derive(Debug)]
pub struct EvalError {
    message: String,
}

impl EvalError {
    pub(super) fn new(message: impl Into<String>) -> EvalError {
        EvalError {
            message: message.into(),
        }
    }

    pub(super) fn on(self, line: &Line<'_>) -> InputError {
        line.place.refuse(self)
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EvalError {}
