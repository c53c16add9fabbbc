//! DNS messages as multicast DNS has them (RFC 6762): bytes → questions and records, and back.
//!
//! Invariant: whatever comes in is read within its bounds: a name has at most 255 bytes, a pointer leads backwards alone, and what is cut
//! or malformed anywhere is no message at all. Nothing is compressed on the way out.

/// An address, a pointer, texts, an IPv6 address, a service, anything.
pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const ANY: u16 = 255;

const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
/// The top bit of a class: "answer me alone" in a question, "these are all" in a record.
const TOP: u16 = 0x8000;
const RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
/// Operation and error of a head: both are 0 in what counts.
const NOT_PLAIN: u16 = 0x780f;
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;

/// A name as it goes over the wire, uncompressed: labels behind their lengths, and a 0. In lower case, so that equal names are equal.
pub type Name = Vec<u8>;

/// A name of labels; what is too long in a label is left out.
pub fn name(labels: &[&str]) -> Name {
    let mut name = Vec::new();
    for label in labels {
        let mut end = label.len().min(LABEL_BYTES_MAX);
        while !label.is_char_boundary(end) {
            end -= 1;
        }
        name.push(end as u8);
        name.extend(label[..end].bytes());
    }
    name.push(0);
    name
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: Name,
    pub kind: u16,
}

/// A record. The names in its data (of `PTR` and `SRV`) are uncompressed, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: Name,
    pub kind: u16,
    /// Whether what is said of that name and kind is all there is.
    pub is_all: bool,
    /// Seconds; 0 takes it back.
    pub ttl: u32,
    pub data: Vec<u8>,
}

impl Record {
    /// Whether both say the same of the same: names, wherever they stand, without regard to case.
    pub fn says_as(&self, other: &Record) -> bool {
        let names_from = match self.kind {
            PTR => 0,
            SRV => 6,
            _ => usize::MAX,
        };
        let (fixed, names) = (names_from.min(self.data.len()), names_from.min(other.data.len()));
        self.kind == other.kind
            && self.name.eq_ignore_ascii_case(&other.name)
            && self.data[..fixed] == other.data[..names]
            && self.data[fixed..].eq_ignore_ascii_case(&other.data[names..])
    }
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub is_response: bool,
    pub questions: Vec<Question>,
    pub answers: Vec<Record>,
    /// What a query is about to claim.
    pub claims: Vec<Record>,
    pub more: Vec<Record>,
}

/// Reads a message; `None` for what is none, or none of ours to answer.
pub fn read(bytes: &[u8]) -> Option<Message> {
    let mut at = Reader { bytes, at: 2 };
    let flags = at.u16()?;
    if flags & NOT_PLAIN != 0 {
        return None;
    }
    let counts = [at.u16()?, at.u16()?, at.u16()?, at.u16()?];
    let mut message = Message { is_response: flags & RESPONSE != 0, ..Message::default() };
    for _ in 0..counts[0] {
        let (name, kind, class) = (at.name()?, at.u16()?, at.u16()? & !TOP);
        if matches!(class, CLASS_IN | CLASS_ANY) {
            message.questions.push(Question { name, kind });
        }
    }
    for (section, count) in [&mut message.answers, &mut message.claims, &mut message.more].into_iter().zip(&counts[1..]) {
        for _ in 0..*count {
            section.extend(at.record()?);
        }
    }
    Some(message)
}

/// Writes a message.
pub fn write(message: &Message) -> Vec<u8> {
    let mut out = vec![0, 0];
    put(&mut out, if message.is_response { RESPONSE | AUTHORITATIVE } else { 0 });
    let sections = [&message.answers, &message.claims, &message.more];
    put(&mut out, message.questions.len() as u16);
    sections.iter().for_each(|section| put(&mut out, section.len() as u16));
    for question in &message.questions {
        out.extend(&question.name);
        put(&mut out, question.kind);
        put(&mut out, CLASS_IN);
    }
    for record in sections.into_iter().flatten() {
        out.extend(&record.name);
        put(&mut out, record.kind);
        put(&mut out, if record.is_all { CLASS_IN | TOP } else { CLASS_IN });
        out.extend(record.ttl.to_be_bytes());
        put(&mut out, record.data.len() as u16);
        out.extend(&record.data);
    }
    out
}

fn put(out: &mut Vec<u8>, number: u16) {
    out.extend(number.to_be_bytes());
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, n: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn name(&mut self) -> Option<Name> {
        let (mut name, mut at, mut behind) = (Name::new(), self.at, None);
        loop {
            let begin = at;
            let length = usize::from(*self.bytes.get(at)?);
            match length >> 6 {
                0 => {
                    name.extend(self.bytes.get(at..at + 1 + length)?.to_ascii_lowercase());
                    at += 1 + length;
                }
                3 => {
                    let to = (length & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                    behind.get_or_insert(at + 2);
                    // Only ever further back, so that it comes to an end; a name that runs into its own pointer is too long soon.
                    at = Some(to).filter(|to| *to < begin)?;
                    if name.len() + 1 > NAME_BYTES_MAX {
                        return None;
                    }
                    continue;
                }
                _ => return None,
            }
            if name.len() > NAME_BYTES_MAX {
                return None;
            }
            if length == 0 {
                self.at = behind.unwrap_or(at);
                return Some(name);
            }
        }
    }

    /// The next record; `Some(None)` for one of another class.
    fn record(&mut self) -> Option<Option<Record>> {
        let (name, kind, class) = (self.name()?, self.u16()?, self.u16()?);
        let ttl = self.take(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))?;
        let length = usize::from(self.u16()?);
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let data = match kind {
            PTR => self.name()?,
            SRV => [self.take(6)?.to_vec(), self.name()?].concat(),
            _ => self.take(length)?.to_vec(),
        };
        if self.at != end {
            return None;
        }
        let is_ours = class & !TOP == CLASS_IN;
        Some(is_ours.then_some(Record { name, kind, is_all: class & TOP != 0, ttl, data }))
    }
}
