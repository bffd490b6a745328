//! A line being typed: what the keys do to it, and what the terminal shows.

/// Bytes of the longest line, as terminals have it (POSIX's MAX_CANON is 255 at least, Linux has 4095).
pub const MAX_LINE: usize = 4095;

/// The bytes of a line: text in UTF-8, if the terminal sends that.
pub type Text = heapless::Vec<u8, MAX_LINE>;

/// A line in the making.
#[derive(Debug)]
pub struct Line {
    text: Text,
    keys: Keys,
}

/// What the last keys were, where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    Plain,
    /// A return: a line feed behind it belongs to it.
    Return,
    /// An escape.
    Escape,
    /// A sequence that goes on to its final letter (ECMA-48, 5.4).
    Sequence,
}

/// What a key led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Show this.
    Show(&'static str),
    /// Show this byte, which is a character or a part of one.
    Echo(u8),
    /// The line is complete: take it by [`Line::take`].
    Complete,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D on an empty line.
    End,
    /// Nothing.
    Nothing,
}

const ERASE: &str = "\x08 \x08";
const BELL: &str = "\x07";

impl Line {
    /// An empty line.
    pub const fn new() -> Line {
        Line { text: Text::new(), keys: Keys::Plain }
    }

    /// Takes a key.
    pub fn key(&mut self, byte: u8) -> Typed {
        let before = core::mem::replace(&mut self.keys, Keys::Plain);
        match (before, byte) {
            (Keys::Return, b'\n') => Typed::Nothing,
            (Keys::Escape, b'[' | b'O') => self.expect(Keys::Sequence),
            (Keys::Sequence, 0x20..=0x3f) => self.expect(Keys::Sequence),
            (Keys::Escape | Keys::Sequence, 0x20..=0x7e) => Typed::Nothing,
            (_, 0x1b) => self.expect(Keys::Escape),
            (_, b'\r') => {
                self.keys = Keys::Return;
                Typed::Complete
            }
            (_, b'\n') => Typed::Complete,
            (_, 0x08 | 0x7f) => match self.erase() {
                true => Typed::Show(ERASE),
                false => Typed::Show(BELL),
            },
            (_, 0x03) => {
                self.text.clear();
                Typed::Interrupt
            }
            (_, 0x04) if self.text.is_empty() => Typed::End,
            (_, 0x15) => {
                self.text.clear();
                Typed::Show("\r\x1b[K")
            }
            (_, 0x20..=0x7e | 0x80..) => match self.text.push(byte) {
                Ok(()) => Typed::Echo(byte),
                Err(_) => Typed::Show(BELL),
            },
            _ => Typed::Nothing,
        }
    }

    /// Takes the last character away, with all its bytes (RFC 3629: all but the first are 0b10xx_xxxx). Returns false if
    /// there is none.
    fn erase(&mut self) -> bool {
        let mut erased = false;
        while let Some(byte) = self.text.pop() {
            erased = true;
            if byte >> 6 != 0b10 {
                break;
            }
        }
        erased
    }

    fn expect(&mut self, keys: Keys) -> Typed {
        self.keys = keys;
        Typed::Nothing
    }

    /// What has been typed so far.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The line, which is empty again afterwards.
    pub fn take(&mut self) -> Text {
        core::mem::take(&mut self.text)
    }
}

impl Default for Line {
    fn default() -> Line {
        Line::new()
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).expect("whole characters")
    }

    fn type_in(keys: &[u8]) -> (Vec<String>, String) {
        let (mut line, mut lines) = (Line::new(), Vec::new());
        for &key in keys {
            if line.key(key) == Typed::Complete {
                lines.push(text(&line.take()));
            }
        }
        (lines, text(line.text()))
    }

    #[test]
    fn a_line_ends_at_return_however_the_terminal_sends_it() {
        assert_eq!(type_in(b"one\rtwo\nthree\r\nfour").0, ["one", "two", "three"]);
        assert_eq!(type_in(b"\r\r\n\n").0, ["", "", ""]);
    }

    #[test]
    fn backspace_erases_and_rings_where_nothing_is_left() {
        assert_eq!(type_in(b"ab\x7f\x08\x7fc\r").0, ["c"]);
        let mut line = Line::new();
        assert_eq!(line.key(0x7f), Typed::Show(BELL));
        line.key(b'x');
        assert_eq!(line.key(0x7f), Typed::Show(ERASE));
    }

    #[test]
    fn arrow_keys_and_other_sequences_do_nothing() {
        assert_eq!(type_in(b"a\x1b[A\x1bOP\x1b[1;5Cb\x1bxc").1, "abc");
    }

    #[test]
    fn control_c_and_control_u_forget_the_line() {
        assert_eq!(type_in(b"abc\x03d\r").0, ["d"]);
        assert_eq!(type_in(b"abc\x15d\r").0, ["d"]);
        let mut line = Line::new();
        assert_eq!(line.key(0x04), Typed::End);
        line.key(b'x');
        assert_eq!(line.key(0x04), Typed::Nothing);
        assert_eq!(line.key(0x03), Typed::Interrupt);
    }

    #[test]
    fn characters_beyond_ascii_are_kept_and_erased_whole() {
        assert_eq!(type_in("grüße €𝄞\r".as_bytes()).0, ["grüße €𝄞"]);
        assert_eq!(type_in("aü\x7f€𝄞\x7f\x7f\x7fb".as_bytes()).1, "b");
        let mut line = Line::new();
        assert_eq!(line.key(0xc3), Typed::Echo(0xc3));
    }

    #[test]
    fn a_line_has_an_end_and_no_byte_is_too_much() {
        let mut line = Line::new();
        for _ in 0..MAX_LINE {
            assert_eq!(line.key(b'x'), Typed::Echo(b'x'));
        }
        assert_eq!(line.key(b'x'), Typed::Show(BELL));
        for byte in 0..=255 {
            line.key(byte);
        }
    }
}
