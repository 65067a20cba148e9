//! Vocabulary strings as a person reads them.

/// What stands for the space that a term begins with.
const SPACE: char = '▁';

/// A term of a byte-level BPE vocabulary as text: `Ġbone` is `▁bone`, `Ã¼ber` is `über`.
///
/// Such vocabularies write each byte as a character of its own. A term of another kind, or one
/// that is a part of a character, stays as it is. Control characters are written as escapes.
pub(crate) fn readable(term: &str) -> String {
    let bytes: Option<Vec<u8>> = term.chars().map(byte).collect();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.as_deref().unwrap_or(term);
    let (space, text) = match text.strip_prefix(' ') {
        Some(rest) => (Some(SPACE), rest),
        None => (None, text),
    };
    let mut readable: String = space.into_iter().collect();
    for c in text.chars() {
        match c.is_control() {
            true => readable.extend(c.escape_default()),
            false => readable.push(c),
        }
    }
    readable
}

/// The byte that a character stands for, as GPT-2 has it: printable ones of Latin-1 for
/// themselves, the others in order from U+0100.
fn byte(c: char) -> Option<u8> {
    let is_itself = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(c);
    match u8::try_from(code) {
        Ok(byte) => Some(byte).filter(is_itself),
        Err(_) => {
            let idx = usize::try_from(code - 0x100).ok()?;
            (0..=u8::MAX).filter(|byte| !is_itself(byte)).nth(idx)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_level_terms_are_read_and_others_left() {
        for (term, text) in [
            ("Ġbone", "▁bone"),
            ("bone", "bone"),
            ("Ġ", "▁"),
            ("ĠĠĠ", "▁  "),
            ("Ã¼ber", "über"),
            ("æĿ±äº¬", "東京"),
            ("æĿ", "æĿ"),
            ("Ċ", "\\n"),
            ("##ing", "##ing"),
            ("▁bone", "▁bone"),
            ("東", "東"),
            ("Ġðŀ", "Ġðŀ"),
            ("a b", "a b"),
            ("", ""),
        ] {
            assert_eq!(readable(term), text, "{term}");
        }
    }

    #[test]
    fn every_byte_has_one_character() {
        let known: Vec<u8> = (0..0x200)
            .filter_map(char::from_u32)
            .filter_map(byte)
            .collect();
        let mut sorted = known.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=u8::MAX).collect::<Vec<u8>>());
        assert_eq!(byte('\u{120}'), Some(b' '));
    }
}
