//! Milliseconds since 1970 as people and log readers want them: RFC 3339 in UTC.
//!
//! Invariant: the text always has 24 characters, so that lines sort by it. A time outside of the years 0 to 9999 is shown as the
//! nearest one inside. It cannot fail.

use time::UtcDateTime;

const FIRST_MS: i64 = -62_167_219_200_000; // 0000-01-01
const LAST_MS: i64 = 253_402_300_799_999; // 9999-12-31, its last millisecond

/// `2026-11-22T08:00:00.123Z`.
pub fn rfc3339(unix_ms: i64) -> String {
    let unix_ms = unix_ms.clamp(FIRST_MS, LAST_MS);
    let at = UtcDateTime::from_unix_timestamp(unix_ms.div_euclid(1000)).unwrap_or(UtcDateTime::UNIX_EPOCH);
    let (year, month, day, ms) = (at.year(), u8::from(at.month()), at.day(), unix_ms.rem_euclid(1000));
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z", at.hour(), at.minute(), at.second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_077_926_400_000, "2004-02-28T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (2_147_483_648_000, "2038-01-19T03:14:08.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
            (FIRST_MS, "0000-01-01T00:00:00.000Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(unix_ms), expected, "{unix_ms}");
        }
    }
}
