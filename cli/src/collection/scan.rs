//! A vector line of the common form, read in one pass and without memory for every term.
//!
//! Most lines are an id and an object of terms and short decimal numbers. These are read here;
//! at anything else [`scan`] gives up, and the line is for `serde_json`, which also words the
//! complaints. So what is read here has to be exactly what it would read: `vector.rs` tests that.

use laconic_tantivy::MAX_TERMS;

use super::term_weights::TermWeights;
use super::vector::{VectorRecord, VectorScale};

/// The record, `None` for a line that is not of the common form, whether valid or not.
pub(super) fn scan(line: &str, scale: VectorScale) -> Option<VectorRecord> {
    let mut scanner = Scanner {
        line,
        bytes: line.as_bytes(),
        at: 0,
    };
    scanner.record(scale)
}

struct Scanner<'a> {
    line: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn record(&mut self, scale: VectorScale) -> Option<VectorRecord> {
        let (mut id, mut weights) = (None, None);
        let mut key = String::new();
        self.expect(b'{')?;
        loop {
            key.clear();
            self.string(&mut key)?;
            self.expect(b':')?;
            match key.as_str() {
                "_id" | "id" if id.is_none() => {
                    let mut value = String::new();
                    self.string(&mut value)?;
                    id = Some(value);
                }
                "vector" if weights.is_none() => weights = Some(self.weights(scale)?),
                "_id" | "id" | "vector" => return None,
                // Another field is ignored, if it is a string.
                _ => {
                    key.clear();
                    self.string(&mut key)?;
                }
            }
            if !self.goes_on()? {
                break;
            }
        }
        self.skip_space();
        let (id, weights) = (id?, weights?);
        (self.at == self.bytes.len()).then_some(VectorRecord { id, weights })
    }

    fn weights(&mut self, scale: VectorScale) -> Option<TermWeights> {
        // A pair has four bytes at least, and most have sixteen.
        let mut weights = TermWeights::with_capacity(self.bytes.len() / 16);
        self.expect(b'{')?;
        self.skip_space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(weights);
        }
        loop {
            self.string(weights.text_mut())?;
            self.expect(b':')?;
            let number = self.number()?;
            weights.end_term(scale.weight(number));
            if weights.len() > MAX_TERMS {
                return None;
            }
            if !self.goes_on()? {
                return Some(weights);
            }
        }
    }

    /// A comma goes on, a brace ends the object.
    fn goes_on(&mut self) -> Option<bool> {
        self.skip_space();
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(true),
            b'}' => Some(false),
            _ => None,
        }
    }

    /// Appends a string's characters.
    fn string(&mut self, text: &mut String) -> Option<()> {
        self.expect(b'"')?;
        loop {
            let rest = self.bytes.get(self.at..)?;
            let plain = plain_bytes(rest);
            let start = self.at;
            self.at += plain;
            text.push_str(self.line.get(start..self.at)?);
            let special = self.peek()?;
            self.at += 1;
            match special {
                b'"' => return Some(()),
                b'\\' => text.push(self.escaped()?),
                _ => return None,
            }
        }
    }

    /// The character behind a backslash. Half of a surrogate pair is left to others.
    fn escaped(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' => Some(char::from(byte)),
            b'u' => {
                let digits = self.line.get(self.at..self.at + 4)?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                self.at += 4;
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)
            }
            _ => None,
        }
    }

    /// Digits with or without a decimal point: no sign, no exponent.
    fn number(&mut self) -> Option<f64> {
        self.skip_space();
        let start = self.at;
        let mut digits: u64 = 0;
        self.digits(&mut digits)?;
        let n_whole = self.at - start;
        if n_whole > 1 && self.bytes.get(start) == Some(&b'0') {
            return None;
        }
        let mut n_decimals = 0;
        if self.peek()? == b'.' {
            self.at += 1;
            let point = self.at;
            self.digits(&mut digits)?;
            n_decimals = self.at - point;
        }
        if n_whole + n_decimals > MAX_DIGITS || matches!(self.peek()?, b'e' | b'E') {
            return None;
        }
        // As `serde_json` does it: one rounding of the digits, one of the quotient.
        #[expect(clippy::cast_precision_loss, reason = "it rounds")]
        let number = digits as f64;
        Some(number / POWERS_OF_TEN.get(n_decimals)?)
    }

    /// At least one digit, appended to `digits`.
    fn digits(&mut self, digits: &mut u64) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        let (mut number, mut n_digits) = (*digits, 0);
        for byte in rest {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            // Too many digits are refused by their number.
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
            n_digits += 1;
        }
        self.at += n_digits;
        *digits = number;
        (n_digits > 0).then_some(())
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

/// How many bytes there are before a quote, a backslash or a control character; all, if none is.
fn plain_bytes(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (number, chunk) in chunks.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        if special != 0 {
            return number * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let plain = rest.iter().position(is_special);
    chunks.len() * 8 + plain.unwrap_or(rest.len())
}

/// Eight bytes at once: the top bit of the lowest byte that is special is set, and no bit below
/// it. (Bits above it may be.)
fn special_bytes(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes;
    let quote = zero(bytes ^ (ONES * u64::from(b'"')));
    let backslash = zero(bytes ^ (ONES * u64::from(b'\\')));
    let control = bytes.wrapping_sub(ONES * 0x20) & !bytes;
    (quote | backslash | control) & TOPS
}

/// All numbers of so many digits are below 2^64.
const MAX_DIGITS: usize = 19;

/// Exact as `f64`.
const POWERS_OF_TEN: [f64; 20] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn eight_bytes_at_once_are_each_of_them(bytes in proptest::collection::vec(
            prop_oneof![
                4 => any::<u8>(),
                8 => 0x21u8..0x7f,
                1 => Just(b'"'),
                1 => Just(0x1f),
                1 => Just(0x20),
            ],
            0..40,
        )) {
            let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
            let expected = bytes.iter().position(is_special).unwrap_or(bytes.len());
            prop_assert_eq!(plain_bytes(&bytes), expected);
        }
    }
}
