//! [`LineReader`]: the lines of a hostile text file, bounded, with the position of each.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use super::error::{InputError, Malformed, Reason};
use super::source::{self, Source};

/// The longest line accepted unless another limit is asked for: 16 MiB.
pub const DEFAULT_LINE_LIMIT: usize = 16 << 20;

/// The line buffer grows by at least this much, and never beyond the limit.
const GROWTH_BYTES: usize = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How far a file has been read, in its uncompressed form: where to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Lines read whole, blank ones counted.
    pub n_lines: u64,
    /// Bytes read, line ends and byte-order mark counted.
    pub n_bytes: u64,
}

/// Where a line stands.
#[derive(Debug, Clone)]
pub struct Place {
    file: Arc<str>,
    start: Position,
    end: Position,
}

impl Place {
    /// The file's path as it was given, or a name for standard input.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line's number, counted from 1.
    pub fn line(&self) -> u64 {
        self.end.n_lines
    }

    /// Uncompressed bytes before the line.
    pub fn offset(&self) -> u64 {
        self.start.n_bytes
    }

    /// The position to resume from once the line has been dealt with.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The error for a record that was read but is not accepted for the reason `source`.
    pub fn refuse(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> InputError {
        self.fault(Reason::Refused(source.into()))
    }

    pub(super) fn fault(&self, reason: Reason) -> InputError {
        InputError::new(&self.file, Some(self.line()), reason)
    }
}

/// A line that is not blank, without its line end.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// The text, without line end and without the byte-order mark of the file's start.
    pub text: &'a str,
    /// Where the line stands.
    pub place: Place,
    is_terminated: bool,
}

impl Line<'_> {
    /// Names the line in a complaint about it.
    pub(crate) fn fault(&self, malformed: Malformed) -> InputError {
        self.place.fault(malformed.into_reason(self.is_terminated))
    }
}

/// Reads lines of plain, gzip or zstd text without ever holding more than the line limit.
///
/// A byte-order mark at the start is dropped, `\r\n` ends a line as `\n` does, and blank lines
/// are counted but not returned. After an error that
/// [is skippable](InputError::is_skippable) the next call goes on with the next line.
pub struct LineReader {
    source: Source,
    file: Arc<str>,
    limit: usize,
    buffer: Vec<u8>,
    position: Position,
}

impl LineReader {
    /// Opens a file, or standard input for `-`. Compression is told by the first bytes, not by
    /// the name.
    ///
    /// # Errors
    /// `is_io` when the file cannot be opened or its first bytes cannot be read.
    pub fn open(path: &Path) -> Result<LineReader, InputError> {
        let is_stdin = path.as_os_str() == "-";
        let file = if is_stdin { "standard input".into() } else { path.display().to_string() };
        let reader = source::open(path)
            .map_err(|error| InputError::new(&file.as_str().into(), None, Reason::Open(error)))?;
        LineReader::from_boxed(file.into(), reader)
    }

    /// Reads from `reader`; `name` stands for the file in messages.
    ///
    /// # Errors
    /// `is_io` when the first bytes cannot be read.
    pub fn from_reader(
        name: &str,
        reader: impl Read + Send + 'static,
    ) -> Result<LineReader, InputError> {
        LineReader::from_boxed(name.into(), Box::new(reader))
    }

    fn from_boxed(file: Arc<str>, reader: Box<dyn Read + Send>) -> Result<LineReader, InputError> {
        let source = source::decompress(reader)
            .map_err(|error| InputError::new(&file, None, Reason::Open(error)))?;
        let (limit, position) = (DEFAULT_LINE_LIMIT, Position::default());
        Ok(LineReader { source, file, limit, buffer: Vec::new(), position })
    }

    /// Accepts lines of up to `limit` bytes, their `\n` not counted.
    #[must_use]
    pub fn with_line_limit(self, limit: usize) -> LineReader {
        LineReader { limit, ..self }
    }

    /// How far the file has been read.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next line that is not blank; `None` at the end of the file.
    ///
    /// # Errors
    /// `is_skippable` for a line that is too long or not UTF-8. Not skippable: a failing file
    /// (`is_io`), a damaged or truncated compressed stream, content that is not text at all.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, InputError> {
        let start = loop {
            let start = self.position;
            if !self.fill()? {
                return Ok(None);
            }
            if !content(&self.buffer, start).trim_ascii().is_empty() {
                break start;
            }
        };
        let place = Place { file: Arc::clone(&self.file), start, end: self.position };
        let is_terminated = self.buffer.ends_with(b"\n");
        let bytes = content(&self.buffer, start);
        match str::from_utf8(bytes) {
            Ok(text) => Ok(Some(Line { text, place, is_terminated })),
            Err(error) => Err(place.fault(explain_utf8(error, bytes, start, is_terminated))),
        }
    }

    /// Skips up to `n_lines` lines, blank ones counted, without looking into them. Returns how
    /// many there were.
    ///
    /// # Errors
    /// `is_io`, or a damaged or truncated compressed stream.
    pub fn skip_lines(&mut self, n_lines: u64) -> Result<u64, InputError> {
        for n_skipped in 0..n_lines {
            let n_bytes = self.source.skip_until(b'\n').map_err(|error| self.explain(error))?;
            if n_bytes == 0 {
                return Ok(n_skipped);
            }
            self.advance(n_bytes);
        }
        Ok(n_lines)
    }

    /// Goes on from a position that was stored in an earlier run over the same file.
    ///
    /// # Errors
    /// `is_position_mismatch` when the file has no line end there, so is not the same file;
    /// otherwise as [`skip_lines`](LineReader::skip_lines).
    pub fn resume(&mut self, position: Position) -> Result<(), InputError> {
        let ahead = position.n_lines.saturating_sub(self.position.n_lines);
        self.skip_lines(ahead)?;
        if self.position == position {
            return Ok(());
        }
        let line = Some(position.n_lines);
        Err(InputError::new(&self.file, line, Reason::PositionMissing))
    }

    /// Reads one line with its end into the buffer; false at the end of the file.
    fn fill(&mut self) -> Result<bool, InputError> {
        self.buffer.clear();
        self.read_bounded().map_err(|error| self.explain(error))?;
        if self.buffer.len() > self.limit && !self.buffer.ends_with(b"\n") {
            return Err(self.pass_long_line());
        }
        if self.buffer.is_empty() {
            return Ok(false);
        }
        self.advance(self.buffer.len());
        Ok(true)
    }

    /// Stops at the line end, at the end of the file, or one byte past the limit.
    fn read_bounded(&mut self) -> io::Result<()> {
        let most = self.limit.saturating_add(1);
        while self.buffer.len() < most {
            let step = self.buffer.len().max(GROWTH_BYTES).min(most - self.buffer.len());
            self.buffer.reserve_exact(step);
            let mut part = self.source.by_ref().take(u64::try_from(step).unwrap_or(u64::MAX));
            let n_bytes = part.read_until(b'\n', &mut self.buffer)?;
            if n_bytes == 0 || self.buffer.ends_with(b"\n") {
                break;
            }
        }
        Ok(())
    }

    /// Drains what the buffer does not hold of a line, so that the next one can be read.
    fn pass_long_line(&mut self) -> InputError {
        let limit = self.limit;
        match self.source.skip_until(b'\n') {
            Ok(n_bytes) => {
                self.advance(n_bytes.saturating_add(self.buffer.len()));
                let line = Some(self.position.n_lines);
                InputError::new(&self.file, line, Reason::LineTooLong { limit })
            }
            Err(error) => self.explain(error),
        }
    }

    fn advance(&mut self, n_bytes: usize) {
        let n_bytes = u64::try_from(n_bytes).unwrap_or(u64::MAX);
        self.position.n_lines = self.position.n_lines.saturating_add(1);
        self.position.n_bytes = self.position.n_bytes.saturating_add(n_bytes);
    }

    /// The operating system's errors carry its code, the decoders' do not.
    fn explain(&self, error: io::Error) -> InputError {
        let reason = match error.kind() {
            _ if error.raw_os_error().is_some() => Reason::Read(error),
            io::ErrorKind::UnexpectedEof => Reason::StreamCutShort,
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Reason::StreamDamaged(error)
            }
            _ => Reason::Read(error),
        };
        InputError::new(&self.file, Some(self.position.n_lines.saturating_add(1)), reason)
    }
}

/// A raw line without its end and without the byte-order mark of a file's start.
fn content(raw: &[u8], start: Position) -> &[u8] {
    let line = raw.strip_suffix(b"\n").unwrap_or(raw);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) if start.n_bytes == 0 => rest,
        _ => line,
    }
}

fn explain_utf8(
    error: std::str::Utf8Error,
    bytes: &[u8],
    start: Position,
    is_terminated: bool,
) -> Reason {
    match source::not_text(bytes) {
        Some(is) if start.n_bytes == 0 => Reason::NotText { is },
        _ if error.error_len().is_none() && !is_terminated => {
            Reason::LineCutShort("it ends within a character".into())
        }
        _ => Reason::NotUtf8 { byte: error.valid_up_to().saturating_add(1) },
    }
}
