//! [`LineReader`]: the lines of a hostile text file, bounded, with the position of each.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use super::error::{InputError, Malformed, Reason};
use super::ids::check_id;
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
    pub fn refuse(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> InputError {
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
    pub(super) fn fault(&self, malformed: Malformed) -> InputError {
        self.place.fault(malformed.into_reason(self.is_terminated))
    }

    /// Checks ids of a file that has them in columns.
    pub(crate) fn check_ids(&self, ids: [(&str, &str); 2]) -> Result<(), InputError> {
        for (field, id) in ids {
            check_id(field, id).map_err(|malformed| self.fault(malformed))?;
        }
        Ok(())
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
        let file = if is_stdin {
            "standard input".into()
        } else {
            path.display().to_string()
        };
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
        Ok(LineReader {
            source,
            file,
            limit,
            buffer: Vec::new(),
            position,
        })
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
        let place = Place {
            file: Arc::clone(&self.file),
            start,
            end: self.position,
        };
        let is_terminated = self.buffer.ends_with(b"\n");
        let bytes = content(&self.buffer, start);
        match str::from_utf8(bytes) {
            Ok(text) => Ok(Some(Line {
                text,
                place,
                is_terminated,
            })),
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
            let n_bytes = self
                .source
                .skip_until(b'\n')
                .map_err(|error| self.explain(error))?;
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
            let step = self
                .buffer
                .len()
                .max(GROWTH_BYTES)
                .min(most - self.buffer.len());
            self.buffer.reserve_exact(step);
            let mut part = self
                .source
                .by_ref()
                .take(u64::try_from(step).unwrap_or(u64::MAX));
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
        InputError::new(
            &self.file,
            Some(self.position.n_lines.saturating_add(1)),
            reason,
        )
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
        _ => Reason::NotUtf8 {
            byte: error.valid_up_to().saturating_add(1),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reader(content: impl AsRef<[u8]> + Send + 'static) -> LineReader {
        LineReader::from_reader("f", io::Cursor::new(content)).unwrap()
    }

    /// (line, offset, text) of each line; `Err` for a fault, with its line.
    fn read_all(mut lines: LineReader) -> Vec<Result<(u64, u64, String), u64>> {
        let mut read = Vec::new();
        loop {
            match lines.next_line() {
                Ok(Some(line)) => {
                    read.push(Ok((
                        line.place.line(),
                        line.place.offset(),
                        line.text.to_owned(),
                    )));
                }
                Ok(None) => return read,
                Err(error) if error.is_skippable() => read.push(Err(error.line().unwrap())),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A line of `n_bytes` and a short one, made while it is read.
    struct LongLine {
        n_bytes: usize,
        rest: &'static [u8],
    }

    impl Read for LongLine {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.n_bytes == 0 {
                return self.rest.read(buffer);
            }
            let n_bytes = buffer.len().min(self.n_bytes);
            buffer[..n_bytes].fill(b'x');
            self.n_bytes -= n_bytes;
            Ok(n_bytes)
        }
    }

    #[test]
    fn byte_order_mark_crlf_and_blank_lines() {
        let read = read_all(reader("\u{feff}a\r\n\r\n \t\n\u{feff}b\nc"));
        let line = |number, offset, text: &str| Ok((number, offset, text.to_owned()));
        assert_eq!(
            read,
            [line(1, 0, "a"), line(4, 11, "\u{feff}b"), line(5, 16, "c")]
        );
        for blank in ["", "\u{feff}", "\u{feff}\r\n\n  \n", "\n"] {
            assert!(read_all(reader(blank)).is_empty(), "{blank:?}");
        }
    }

    #[test]
    fn limit_boundary() {
        for (text, is_accepted) in [
            ("123", true),
            ("1234", true),
            ("12345", false),
            ("123\r", true),
            ("1234\r", false),
        ] {
            for end in ["", "\n", "\nnext"] {
                let lines = reader(format!("{text}{end}")).with_line_limit(4);
                assert_eq!(read_all(lines)[0].is_ok(), is_accepted, "{text:?}{end:?}");
            }
        }
    }

    /// The line is drained without being held, and the next one can be read.
    #[test]
    fn a_line_of_100_mb_stays_within_the_limit() {
        for limit in [0, 1, 1000, 100_000, DEFAULT_LINE_LIMIT] {
            let source = LongLine {
                n_bytes: 100_000_000,
                rest: b"\n\nok\n",
            };
            let mut lines = LineReader::from_reader("long", source)
                .unwrap()
                .with_line_limit(limit.max(2));
            let error = lines.next_line().map(|_| ()).unwrap_err();
            assert_eq!((error.line(), error.is_skippable()), (Some(1), true));
            let largest = limit.max(2) + 1;
            assert!(
                lines.buffer.capacity() <= largest,
                "{} bytes",
                lines.buffer.capacity()
            );
            assert_eq!(
                lines.position(),
                Position {
                    n_lines: 1,
                    n_bytes: 100_000_001
                }
            );
            let next = lines.next_line().unwrap().unwrap();
            assert_eq!((next.text, next.place.line()), ("ok", 3));
        }
    }

    #[test]
    fn skipping_and_resuming() {
        let text = "\u{feff}one\n\nthree\r\nfour";
        let mut lines = reader(text);
        assert_eq!(lines.skip_lines(2).unwrap(), 2);
        let third = lines.next_line().unwrap().unwrap().place;
        assert_eq!((third.line(), third.offset()), (3, 8));
        let stored = third.end();

        let mut lines = reader(text);
        lines.resume(stored).unwrap();
        assert_eq!(lines.next_line().unwrap().unwrap().text, "four");
        assert_eq!(lines.skip_lines(9).unwrap(), 0);

        for changed in ["one\n\nthree\nfour", "\u{feff}one\n", ""] {
            let error = reader(changed).resume(stored).unwrap_err();
            assert!(
                error.is_position_mismatch() && !error.is_malformed(),
                "{error}"
            );
        }
        assert!(lines.resume(stored).is_err(), "cannot go back");
    }

    #[test]
    fn failures_of_the_system_are_io() {
        let error = LineReader::open(Path::new("/no/such/file")).err().unwrap();
        assert!(error.is_io() && error.line().is_none(), "{error}");
        let mut folder = LineReader::open(Path::new(env!("CARGO_MANIFEST_DIR")));
        let error = match &mut folder {
            Ok(lines) => lines.next_line().map(|_| ()).unwrap_err(),
            Err(_) => folder.err().unwrap(),
        };
        assert!(error.is_io() && !error.is_skippable(), "{error}");
    }

    /// Hands out a few bytes at a time, with an interruption now and then.
    struct Dribble {
        bytes: Vec<u8>,
        position: usize,
        is_interrupted: bool,
    }

    impl Read for Dribble {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.is_interrupted = !self.is_interrupted;
            if self.is_interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let part = &self.bytes[self.position..];
            let n_bytes = part.len().min(buffer.len()).min(1 + self.position % 3);
            buffer[..n_bytes].copy_from_slice(&part[..n_bytes]);
            self.position += n_bytes;
            Ok(n_bytes)
        }
    }

    /// What the reader should do, written for the whole content at once.
    fn expected(content: &[u8], limit: usize) -> Vec<Result<(u64, u64, String), u64>> {
        let mut offset = 0;
        let mut read = Vec::new();
        for (number, raw) in (1..).zip(content.split_inclusive(|byte| *byte == b'\n')) {
            let start = Position {
                n_lines: number - 1,
                n_bytes: offset,
            };
            offset += u64::try_from(raw.len()).unwrap();
            let is_short = raw.strip_suffix(b"\n").unwrap_or(raw).len() <= limit;
            match str::from_utf8(super::content(raw, start)) {
                Ok(text) if is_short && text.trim_ascii().is_empty() => {}
                Ok(text) if is_short => read.push(Ok((number, start.n_bytes, text.to_owned()))),
                _ => read.push(Err(number)),
            }
        }
        read
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_portions(
            content in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b' '), Just(b'{'), any::<u8>()],
                0..80,
            ),
            limit in 1usize..12,
        ) {
            // Other first bytes mean compression or no text, which have their own tests.
            let mut content = content;
            content.iter_mut().take(1).for_each(|byte| *byte &= 0x7f);
            let expected = expected(&content, limit);
            let source = Dribble { bytes: content.clone(), position: 0, is_interrupted: false };
            let dribbled = LineReader::from_reader("f", source).unwrap().with_line_limit(limit);
            prop_assert_eq!(read_all(dribbled), expected.clone());
            prop_assert_eq!(read_all(reader(content).with_line_limit(limit)), expected);
        }
    }
}
