//! Opening a file or standard input, decompressing by its first bytes. Checksums of gzip and of
//! zstd are verified where the file carries them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

pub(super) type Source = BufReader<Box<dyn Read + Send>>;

const BUFFER_BYTES: usize = 64 * 1024;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// First bytes of content that is not the UTF-8 text of a collection.
const NOT_TEXT: [(&[u8], &str); 7] = [
    (&[0xff, 0xfe], "is UTF-16 text"),
    (&[0xfe, 0xff], "is UTF-16 text"),
    (GZIP_MAGIC, "is compressed twice"),
    (ZSTD_MAGIC, "is compressed twice"),
    (b"PK\x03\x04", "is a zip archive"),
    (b"BZh", "is compressed by bzip2"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "is compressed by xz"),
];

/// What content beginning with `bytes` is, if it is known not to be text.
pub(super) fn not_text(bytes: &[u8]) -> Option<&'static str> {
    NOT_TEXT
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic))
        .map(|(_, is)| *is)
}

/// Opens `path`, or standard input for `-`.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if path.as_os_str() == "-" {
        Ok(Box::new(io::stdin()))
    } else {
        Ok(Box::new(File::open(path)?))
    }
}

/// Wraps `reader` in the decoder its first bytes ask for.
pub(super) fn decompress(mut reader: Box<dyn Read + Send>) -> io::Result<Source> {
    let mut head = Vec::with_capacity(ZSTD_MAGIC.len());
    reader.by_ref().take(4).read_to_end(&mut head)?;
    let is_gzip = head.starts_with(GZIP_MAGIC);
    let is_zstd = head.starts_with(ZSTD_MAGIC);
    let whole = Cursor::new(head).chain(reader);
    let plain: Box<dyn Read + Send> = if is_gzip {
        Box::new(MultiGzDecoder::new(BufReader::with_capacity(
            BUFFER_BYTES,
            whole,
        )))
    } else if is_zstd {
        Box::new(ZstdReader::new(BufReader::with_capacity(
            BUFFER_BYTES,
            whole,
        )))
    } else {
        Box::new(whole)
    };
    Ok(BufReader::with_capacity(BUFFER_BYTES, plain))
}

/// A zstd frame that holds nothing: one segment of no bytes, one last block of no bytes.
const EMPTY_FRAME: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00];

/// Decodes zstd frames one after the other, skipping skippable ones.
///
/// A frame may ask for a window of up to 100 MiB. The decoder holds at most about two and a half
/// times that, and only as far as content really fills it.
struct ZstdReader<R> {
    source: Watched<R>,
    decoder: FrameDecoder,
}

impl<R: BufRead> ZstdReader<R> {
    fn new(reader: R) -> Self {
        let source = Watched {
            reader,
            is_at_end: false,
            failure: None,
        };
        ZstdReader {
            source,
            decoder: bounded_decoder(),
        }
    }

    /// False at the end of the file.
    fn start_frame(&mut self) -> io::Result<bool> {
        use ReadFrameHeaderError::SkipFrame;
        while !self.source.reader.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(SkipFrame { length, .. })) => {
                    self.skip(u64::from(length))?;
                }
                Err(error) => return Err(self.source.explain(error)),
            }
        }
        Ok(false)
    }

    fn skip(&mut self, n_bytes: u64) -> io::Result<()> {
        let skipped = io::copy(
            &mut self.source.reader.by_ref().take(n_bytes),
            &mut io::sink(),
        )?;
        if skipped < n_bytes {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(())
        }
    }

    fn fill(&mut self, n_bytes: usize) -> io::Result<()> {
        while self.decoder.can_collect() < n_bytes && !self.decoder.is_finished() {
            let missing = n_bytes - self.decoder.can_collect();
            self.decoder
                .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(missing))
                .map_err(|error| self.source.explain(error))?;
        }
        Ok(())
    }

    /// Compares the checksum of the frame that was read to its end, if it carries one.
    fn verify_checksum(&self) -> io::Result<()> {
        match (
            self.decoder.get_checksum_from_data(),
            self.decoder.get_calculated_checksum(),
        ) {
            (Some(stored), calculated) if calculated != Some(stored) => {
                let message = "its contents do not match the zstd checksum";
                Err(io::Error::new(io::ErrorKind::InvalidData, message))
            }
            _ => Ok(()),
        }
    }

    fn is_between_frames(&self) -> bool {
        self.decoder.is_finished() && self.decoder.can_collect() == 0
    }
}

/// A decoder that has decoded a frame. `ruzstd` 0.8.3 compares the window a frame asks for with
/// its limit only from the second frame on; the first could ask for terabytes.
fn bounded_decoder() -> FrameDecoder {
    let mut decoder = FrameDecoder::new();
    let mut frame = EMPTY_FRAME;
    // Should this ever fail, the decoder is merely a fresh one.
    if decoder.init(&mut frame).is_ok() {
        let _ = decoder.decode_blocks(&mut frame, BlockDecodingStrategy::All);
    }
    decoder
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if self.is_between_frames() {
                self.verify_checksum()?;
                if !self.start_frame()? {
                    return Ok(0);
                }
            }
            self.fill(buffer.len())?;
            let n_bytes = self.decoder.read(buffer)?;
            if n_bytes > 0 {
                return Ok(n_bytes);
            }
        }
        Ok(0)
    }
}

/// Remembers what the decoder's own errors no longer tell: that the file ended or failed.
struct Watched<R> {
    reader: R,
    is_at_end: bool,
    failure: Option<io::Error>,
}

impl<R> Watched<R> {
    fn explain(&mut self, error: FrameDecoderError) -> io::Error {
        if let Some(failure) = self.failure.take() {
            return failure;
        }
        if self.is_at_end {
            return io::ErrorKind::UnexpectedEof.into();
        }
        let why = match error {
            FrameDecoderError::WindowSizeTooBig { requested } => {
                format!("its window of {requested} bytes is over the limit of 100 MiB")
            }
            other => other.to_string(),
        };
        io::Error::new(io::ErrorKind::InvalidData, why)
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(buffer) {
            Ok(n_bytes) => {
                self.is_at_end = n_bytes == 0 && !buffer.is_empty();
                Ok(n_bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
        }
    }
}
