//! [`Recipe`]: how the vectors of a job are made, kept in its plan so that every worker, now or
//! after an interruption, makes them the same way.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::collection::VectorScale;
use crate::indexing::InputFile;

/// Where vectors come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Recipe {
    /// Stored fields, encoded; of several, the first is the title.
    Text {
        /// Names of the fields.
        fields: Vec<String>,
    },
    /// A file, joined by id.
    File {
        /// Field of the index that holds the id.
        id_field: String,
        /// The file, whatever it is called.
        file: InputFile,
        /// Factor its weights were multiplied with.
        scale: VectorScale,
    },
    /// What the field has, with another quantizer.
    Requantize {
        /// Name of the field.
        field: String,
    },
    /// Texts of a file, joined by id, encoded.
    TextFile {
        /// Field of the index that holds the id.
        id_field: String,
        /// The file, whatever it is called.
        file: InputFile,
    },
}

impl Recipe {
    /// # Errors
    /// When it has no JSON form.
    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// # Errors
    /// When the plan was made by another program.
    pub(crate) fn from_json(json: &str) -> Result<Recipe> {
        let context =
            "the plan does not say how vectors are made; `laconic plan` writes one that does";
        serde_json::from_str(json).context(context)
    }
}
