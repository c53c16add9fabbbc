//! What becomes of a delivery that left, and of which it is not known whether it arrived.
//!
//! Invariant: it is sent again only where the service would know the repeat, or where a repeat is wished for and then marked as one. Where
//! the wall clock went back, nothing is known of the time that passed, and the service counts as having forgotten. Pure.

use std::borrow::Cow;
use std::time::Duration;

use crate::config::{ChannelCommon, OnUnknown};
use crate::domain::CutOff;

/// What a text that may be a repeat begins with.
const MARK: &str = "(This may be a repeat.)\n";
/// The room that the mark takes, in bytes, which are its UTF-16 units as well.
pub const MARK_BYTES: usize = MARK.len();

/// How a channel stands to sending again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeats {
    /// How long after the first try the service knows a delivery by its id, so that a repeat is harmless: zero where it takes no
    /// key, `Duration::MAX` where it never forgets one.
    known_for: Duration,
    /// Whether it is sent again beyond that (`onUnknown: resend`).
    is_wished: bool,
}

/// How a delivery whose former try may have arrived goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It is sent again: the service knows the repeat.
    Harmless,
    /// It is sent again, marked as a possible repeat.
    Marked,
    /// It is not sent again: a person looks.
    Held,
}

impl Repeats {
    /// The receiver knows every delivery by its id, for good.
    pub const KNOWN: Repeats = Repeats { known_for: Duration::MAX, is_wished: true };

    /// The service knows a delivery for so long; then the channel's `onUnknown` decides.
    pub fn known_for(known_for: Duration, common: &ChannelCommon) -> Repeats {
        Repeats { known_for, is_wished: common.on_unknown == OnUnknown::Resend }
    }

    /// The service takes no key: the channel's `onUnknown` decides.
    pub fn unknown(common: &ChannelCommon) -> Repeats {
        Repeats::known_for(Duration::ZERO, common)
    }

    /// How a delivery goes on whose first unclear try was begun at `begun_ms`, by the wall clock.
    pub fn again(&self, begun_ms: i64, now_ms: i64) -> Again {
        let age = u64::try_from(now_ms.saturating_sub(begun_ms)).map(Duration::from_millis);
        match age {
            _ if self.known_for == Duration::MAX => Again::Harmless,
            Ok(age) if age < self.known_for => Again::Harmless,
            _ if self.is_wished => Again::Marked,
            _ => Again::Held,
        }
    }

    /// What becomes of a delivery that the death of the process cuts off.
    pub fn cut_off(&self) -> CutOff {
        match (self.is_wished, self.known_for.is_zero()) {
            (true, _) => CutOff::Resent,
            (false, false) => CutOff::Looked,
            (false, true) => CutOff::Held,
        }
    }
}

/// The text of the first part that is sent, marked where it may be a repeat.
pub fn marked(text: &str, is_repeat: bool) -> Cow<'_, str> {
    if is_repeat { Cow::Owned(format!("{MARK}{text}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::memory::common;

    #[test]
    fn it_is_sent_again_where_that_is_known_or_wished_for() {
        let hold = ChannelCommon { on_unknown: OnUnknown::Hold, ..common() };
        let minute = Duration::from_secs(60);
        for (what, repeats, cut_off, at) in [
            ("a receiver that never forgets", Repeats::KNOWN, CutOff::Resent, [Again::Harmless; 3]),
            ("no key, resend", Repeats::unknown(&common()), CutOff::Resent, [Again::Marked; 3]),
            ("no key, hold", Repeats::unknown(&hold), CutOff::Held, [Again::Held; 3]),
            (
                "a minute, resend",
                Repeats::known_for(minute, &common()),
                CutOff::Resent,
                [Again::Harmless, Again::Marked, Again::Marked],
            ),
            ("a minute, hold", Repeats::known_for(minute, &hold), CutOff::Looked, [Again::Harmless, Again::Held, Again::Held]),
        ] {
            let found = [59_999, 60_000, -1].map(|age_ms| repeats.again(1_000_000, 1_000_000 + age_ms));
            assert_eq!((found, repeats.cut_off()), (at, cut_off), "{what}");
        }
    }

    #[test]
    fn a_mark_takes_the_room_that_is_kept_for_it() {
        assert_eq!(marked("hi", false), "hi");
        assert_eq!(marked("hi", true).encode_utf16().count(), "hi".len() + MARK_BYTES);
    }
}
