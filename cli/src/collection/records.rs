//! [`Records`]: a file's lines as records, each with its place.

use super::error::{InputError, Malformed};
use super::ids::DuplicateIds;
use super::lines::{Line, LineReader, Place};

/// What a line of a collection holds.
pub trait Record {
    /// The id, which names one record of a file.
    fn id(&self) -> &str;
}

/// A record and where it stands.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// The record.
    pub record: T,
    /// Its line.
    pub place: Place,
}

impl<T> Located<T> {
    /// Hands the record to `convert`; what it complains about gets file and line.
    ///
    /// # Errors
    /// When `convert` fails; the error is skippable.
    pub fn try_map<U, E>(
        self,
        convert: impl FnOnce(T) -> Result<U, E>,
    ) -> Result<Located<U>, InputError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match convert(self.record) {
            Ok(record) => Ok(Located {
                record,
                place: self.place,
            }),
            Err(error) => Err(self.place.refuse(error)),
        }
    }
}

type Parse<T> = Box<dyn Fn(&str) -> Result<T, Malformed> + Send>;

/// Iterates over the records of a file.
///
/// After an error that [is skippable](InputError::is_skippable) the iteration goes on with the
/// next line; any other error is its last item.
pub struct Records<T> {
    lines: LineReader,
    parse: Parse<T>,
    seen: Option<DuplicateIds>,
    is_done: bool,
}

impl<T: Record> Records<T> {
    pub(super) fn new(
        lines: LineReader,
        parse: impl Fn(&str) -> Result<T, Malformed> + Send + 'static,
    ) -> Records<T> {
        Records {
            lines,
            parse: Box::new(parse),
            seen: None,
            is_done: false,
        }
    }

    /// Refuses a record whose id an earlier record of the iteration has. Records before the
    /// position a reader was resumed from are unknown.
    #[must_use]
    pub fn with_unique_ids(self) -> Records<T> {
        Records {
            seen: Some(DuplicateIds::default()),
            ..self
        }
    }

    fn read(&mut self) -> Result<Option<Located<T>>, InputError> {
        let Some(line) = self.lines.next_line()? else {
            return Ok(None);
        };
        let located = locate(&self.parse, line)?;
        if let Some(seen) = &mut self.seen {
            seen.insert(located.record.id(), &located.place)?;
        }
        Ok(Some(located))
    }
}

fn locate<T>(parse: &Parse<T>, line: Line<'_>) -> Result<Located<T>, InputError> {
    match parse(line.text) {
        Ok(record) => Ok(Located {
            record,
            place: line.place,
        }),
        Err(malformed) => Err(line.fault(malformed)),
    }
}

impl<T: Record> Iterator for Records<T> {
    type Item = Result<Located<T>, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let item = self.read().transpose();
        self.is_done = match &item {
            Some(Ok(_)) => false,
            Some(Err(error)) => !error.is_skippable(),
            None => true,
        };
        item
    }
}
