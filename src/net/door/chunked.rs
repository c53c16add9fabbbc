//! The decoder of a chunked request body.
//!
//! Invariant: sizes are bare hexadecimal digits and every line ends in CRLF, so that nobody before or behind us can read the
//! same bytes differently; extensions and trailers are read, bounded and ignored. The result does not depend on how the bytes
//! were cut. Fails with the status to answer.

/// Bytes of all extensions and trailers of one body, together.
const EXTRA_MAX: usize = 4096;
/// Digits of one chunk's size: more can't be within any bound, leading zeros included.
const DIGITS_MAX: u8 = 15;

/// Where in the grammar the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a chunk's size, after so many digits.
    Size(u8),
    /// In a chunk's extension.
    Extension,
    /// Behind the CR of a size line.
    SizeLf,
    /// In a chunk's data.
    Data,
    /// Behind a chunk's data.
    DataCr,
    /// Behind the CR there.
    DataLf,
    /// At the beginning of a trailer line.
    TrailerStart,
    /// In a trailer line.
    Trailer,
    /// Behind the CR of a trailer line; `true` where that line was empty and so the last.
    TrailerLf(bool),
    /// The body is whole.
    End,
}

/// A decoder's state.
#[derive(Debug)]
pub(super) struct Chunked {
    at: At,
    left: usize,
    extra: usize,
}

impl Chunked {
    /// At the first byte of a body.
    pub fn new() -> Self {
        Chunked { at: At::Size(0), left: 0, extra: 0 }
    }

    /// Whether the body is whole.
    pub fn is_done(&self) -> bool {
        self.at == At::End
    }

    /// Decodes `input` into `body`, which holds at most `max` bytes; gives how many bytes of `input` were used. Stops behind
    /// the body's end.
    ///
    /// # Errors
    /// The status: 400 where the grammar is broken or the extras are too long, 413 where the body exceeds `max`.
    pub fn feed(&mut self, input: &[u8], body: &mut Vec<u8>, max: usize) -> Result<usize, u16> {
        let mut used = 0;
        while let Some(&b) = input.get(used) {
            if self.at == At::End {
                break;
            }
            if self.at == At::Data {
                let take = self.left.min(input.len() - used);
                body.extend_from_slice(&input[used..used + take]);
                used += take;
                self.left -= take;
                if self.left == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            self.at = self.step(b, body.len(), max)?;
            used += 1;
        }
        Ok(used)
    }

    fn step(&mut self, b: u8, had: usize, max: usize) -> Result<At, u16> {
        Ok(match (self.at, b) {
            (At::Size(digits), _) if b.is_ascii_hexdigit() => {
                if digits == DIGITS_MAX {
                    return Err(400);
                }
                let size = (self.left as u64) << 4 | u64::from((b as char).to_digit(16).unwrap_or(0));
                // Judged digit by digit: the size never leaves the bound, on 32 bits too.
                self.left = usize::try_from(size).ok().filter(|s| s.saturating_add(had) <= max).ok_or(413u16)?;
                At::Size(digits + 1)
            }
            (At::Size(1..), b';') => At::Extension,
            (At::Size(1..) | At::Extension, b'\r') => At::SizeLf,
            (At::SizeLf, b'\n') if self.left == 0 => At::TrailerStart,
            (At::SizeLf, b'\n') => At::Data,
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size(0),
            (At::TrailerStart, b'\r') => At::TrailerLf(true),
            (At::Trailer, b'\r') => At::TrailerLf(false),
            (At::TrailerLf(true), b'\n') => At::End,
            (At::TrailerLf(false), b'\n') => At::TrailerStart,
            (At::Extension | At::Trailer | At::TrailerStart, b'\t' | b' '..=b'~' | 0x80..) if self.extra < EXTRA_MAX => {
                self.extra += 1;
                if self.at == At::Extension { At::Extension } else { At::Trailer }
            }
            _ => return Err(400),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` in pieces of `piece` bytes: the body and what is left behind it, or the status.
    fn decode(input: &[u8], piece: usize, max: usize) -> Result<(Vec<u8>, usize, bool), u16> {
        let (mut decoder, mut body, mut used) = (Chunked::new(), Vec::new(), 0);
        for part in input.chunks(piece) {
            used += decoder.feed(part, &mut body, max)?;
            if decoder.is_done() {
                break;
            }
        }
        Ok((body, used, decoder.is_done()))
    }

    fn check(input: &str, expected: Result<(&str, usize), u16>) {
        let whole = decode(input.as_bytes(), usize::MAX, 64);
        for piece in 1..input.len().max(2) {
            assert_eq!(decode(input.as_bytes(), piece, 64), whole, "{input:?} in pieces of {piece}");
        }
        match (whole, expected) {
            (Ok((body, used, done)), Ok((text, rest))) => {
                assert!(done, "{input:?} has no end");
                assert_eq!((body.as_slice(), input.len() - used), (text.as_bytes(), rest), "{input:?}");
            }
            (Err(status), Err(wanted)) => assert_eq!(status, wanted, "{input:?}"),
            (got, wanted) => panic!("{input:?}: {got:?}, not {wanted:?}"),
        }
    }

    #[test]
    fn bodies() {
        check("0\r\n\r\n", Ok(("", 0)));
        check("5\r\nhello\r\n0\r\n\r\n", Ok(("hello", 0)));
        check("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /next", Ok(("hello world", 9)));
        check("a;name=\"v;w\"\r\n0123456789\r\n0;last\r\nX-T: 1\r\nX-U: 2\r\n\r\n", Ok(("0123456789", 0)));
        check("00000A\r\n0123456789\r\n000\r\n\r\n", Ok(("0123456789", 0)));
    }

    #[test]
    fn what_is_not_strict_is_refused() {
        for input in [
            "\r\n",
            "g\r\n",
            "0x5\r\nhello",
            "+5\r\nhello",
            "-1\r\n",
            " 5\r\nhello",
            "5 \r\nhello",
            "5\nhello",
            "5\r\rhello",
            "5\r\nhelloX\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\rX",
            "5;\0\r\n",
            "5;a\nb\r\n",
            "0\r\nX: a\nb\r\n\r\n",
            "0\r\nX: a\rb\r\n\r\n",
            "0\r\n\n",
            ";x\r\n",
            "0000000000000000\r\n",
            "5;a\x7f\r\n",
        ] {
            check(input, Err(400));
        }
    }

    #[test]
    fn bounds() {
        check("41\r\n", Err(413));
        check("ffffffffffffffff\r\n", Err(413));
        check(&format!("40\r\n{}\r\n1\r\nx", "y".repeat(64)), Err(413));
        check(&format!("40\r\n{}\r\n0\r\n\r\n", "y".repeat(64)), Ok((&"y".repeat(64), 0)));
        let endless = format!("0\r\n{}", "X: y\r\n".repeat(2000));
        assert_eq!(decode(endless.as_bytes(), usize::MAX, 64).unwrap_err(), 400);
        let extended = "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(100);
        assert_eq!(decode(extended.as_bytes(), usize::MAX, 1000).unwrap_err(), 400);
    }
}
