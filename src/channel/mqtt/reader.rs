//! Reads the fields of one packet.
//!
//! Invariant: never beyond its end, and texts are UTF-8 without NUL. Fails with [`Malformed`].

use super::codec::Malformed;

/// The value of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Of one, two or four bytes, or of a variable length.
    Number(u32),
    /// A text.
    Text(&'a str),
    /// A user property.
    Pair(&'a str, &'a str),
    /// Bytes, which are of no use to us.
    Bytes,
}

/// What is left of a packet.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    /// A packet's id, which is never 0.
    pub fn id(&mut self) -> Result<u16, Malformed> {
        match self.number(2)? {
            0 => Err(Malformed("a packet id of 0")),
            id => Ok(id as u16),
        }
    }

    /// A text with its length before it.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text that is not UTF-8"))?;
        if text.contains('\0') { Err(Malformed("a text with NUL")) } else { Ok(text) }
    }

    /// Tells each property of a list by its id.
    pub fn properties(&mut self, mut tell: impl FnMut(u8, Value<'a>)) -> Result<(), Malformed> {
        let length = self.variable()?;
        let mut list = Reader(self.take(length)?);
        while !list.is_empty() {
            let id = list.u8()?;
            let value = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Value::Number(list.number(1)?),
                0x13 | 0x21 | 0x22 | 0x23 => Value::Number(list.number(2)?),
                0x02 | 0x11 | 0x18 | 0x27 => Value::Number(list.number(4)?),
                0x0B => Value::Number(list.variable()? as u32),
                0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => Value::Text(list.text()?),
                0x26 => Value::Pair(list.text()?, list.text()?),
                0x09 | 0x16 => list.bytes().map(|_| Value::Bytes)?,
                _ => return Err(Malformed("an unknown property")),
            };
            tell(id, value);
        }
        Ok(())
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Malformed("a packet that ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<u32, Malformed> {
        Ok(self.take(bytes)?.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number(2)? as usize;
        self.take(length)
    }

    fn variable(&mut self) -> Result<usize, Malformed> {
        let mut n = 0;
        for i in 0..4 {
            let byte = self.u8()?;
            n |= usize::from(byte & 0x7F) << (7 * i);
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(Malformed("a length of more than four bytes"))
    }
}
