//! Cron lines over the years and over the nights on which clocks change. The zones are the system's own.

use super::*;

/// The next times of a line after a time, as its zone's clocks show them with their offsets.
fn check(line: &str, zone: &str, after: &str, expected: &[&str]) {
    let (cron, zone) = (Cron::parse(line).unwrap(), Zone::named(zone).unwrap());
    let mut at = parse_time(after).unwrap();
    for want in expected {
        at = cron.next(at, &zone).unwrap_or_else(|| panic!("{line} after {after}: nothing, expected {want}"));
        let shown = Timestamp::from_millisecond(at).unwrap().to_zoned(zone.0.clone());
        assert_eq!(shown.strftime("%Y-%m-%d %H:%M %:z").to_string(), *want, "{line} after {after}");
    }
}

#[test]
fn plain_lines() {
    let at = "2026-11-22T12:34:56.789Z"; // a Sunday
    check("* * * * *", "UTC", at, &["2026-11-22 12:35 +00:00", "2026-11-22 12:36 +00:00"]);
    check("*/15 * * * *", "UTC", at, &["2026-11-22 12:45 +00:00", "2026-11-22 13:00 +00:00"]);
    check("0 8 * * mon-fri", "UTC", at, &["2026-11-23 08:00 +00:00", "2026-11-24 08:00 +00:00"]);
    check("0 8 * * 5-7", "UTC", at, &["2026-11-27 08:00 +00:00", "2026-11-28 08:00 +00:00", "2026-11-29 08:00 +00:00"]);
    check("0 8 * * FRI-SUN/2", "UTC", at, &["2026-11-27 08:00 +00:00", "2026-11-29 08:00 +00:00"]);
    check("0 0 * * sun", "UTC", at, &["2026-11-29 00:00 +00:00"]);
    check("5,10-12 23 31 Dec *", "UTC", at, &["2026-12-31 23:05 +00:00", "2026-12-31 23:10 +00:00"]);
    check("50/4 * * * *", "UTC", at, &["2026-11-22 12:50 +00:00", "2026-11-22 12:54 +00:00", "2026-11-22 12:58 +00:00"]);
    check("@yearly", "UTC", at, &["2027-01-01 00:00 +00:00", "2028-01-01 00:00 +00:00"]);
    // Exactly then is not after it; the ms before it is.
    check("0 8 * * *", "UTC", "2026-11-22T08:00:00Z", &["2026-11-23 08:00 +00:00"]);
    check("0 8 * * *", "UTC", "2026-11-22T07:59:59.999Z", &["2026-11-22 08:00 +00:00"]);
    check("0 8 * * *", "UTC", "1969-12-31T23:59:59Z", &["1970-01-01 08:00 +00:00"]);
}

#[test]
fn days() {
    let at = "2026-11-22T12:00:00Z";
    // Both restricted: either is enough.
    check("0 0 1 * mon", "UTC", at, &["2026-11-23 00:00 +00:00", "2026-11-30 00:00 +00:00", "2026-12-01 00:00 +00:00"]);
    // One is open, also with a step: both have to fit.
    check("0 0 */2 * mon", "UTC", at, &["2026-11-23 00:00 +00:00", "2026-12-07 00:00 +00:00"]);
    check("0 0 13 * *", "UTC", at, &["2026-12-13 00:00 +00:00", "2027-01-13 00:00 +00:00"]);
    check("0 0 31 * *", "UTC", at, &["2026-12-31 00:00 +00:00", "2027-01-31 00:00 +00:00", "2027-03-31 00:00 +00:00"]);
    // Leap days, over a century that has none.
    check("0 12 29 2 *", "UTC", at, &["2028-02-29 12:00 +00:00", "2032-02-29 12:00 +00:00"]);
    check("0 12 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29 12:00 +00:00"]);
    check("0 12 29 2 */7", "UTC", at, &["2032-02-29 12:00 +00:00", "2060-02-29 12:00 +00:00"]);
    check("0 12 29 2 */7", "UTC", "2088-03-01T00:00:00Z", &["2128-02-29 12:00 +00:00"]);
}

#[test]
fn clocks_that_change() {
    // Berlin, 29 March 2026: 02:00 → 03:00; 25 October 2026: 03:00 → 02:00.
    let (spring, autumn) = ("2026-03-28T12:00:00+01:00", "2026-10-24T12:00:00+02:00");
    let berlin = |line, after, expected: &[&str]| check(line, "Europe/Berlin", after, expected);
    berlin("30 2 * * *", spring, &["2026-03-29 03:00 +02:00", "2026-03-30 02:30 +02:00"]);
    berlin("0 2 * * *", spring, &["2026-03-29 03:00 +02:00", "2026-03-30 02:00 +02:00"]);
    berlin("0 3 * * *", spring, &["2026-03-29 03:00 +02:00", "2026-03-30 03:00 +02:00"]);
    berlin("*/30 2 * * *", spring, &["2026-03-29 03:00 +02:00", "2026-03-30 02:00 +02:00"]);
    berlin("30 2 * * mon", spring, &["2026-03-30 02:30 +02:00"]);
    berlin("30 * * * *", "2026-03-29T01:00:00+01:00", &["2026-03-29 01:30 +01:00", "2026-03-29 03:30 +02:00"]);
    berlin("30 2 * * *", autumn, &["2026-10-25 02:30 +02:00", "2026-10-26 02:30 +01:00"]);
    berlin("0,30 2 * * *", autumn, &["2026-10-25 02:00 +02:00", "2026-10-25 02:30 +02:00", "2026-10-26 02:00 +01:00"]);
    let twice = ["2026-10-25 02:30 +02:00", "2026-10-25 02:30 +01:00", "2026-10-25 03:30 +01:00"];
    berlin("30 * * * *", "2026-10-25T02:00:00+02:00", &twice);
    berlin("0 8 * * *", autumn, &["2026-10-25 08:00 +01:00", "2026-10-26 08:00 +01:00"]);
    // Asked within the hour that comes again.
    berlin("30 2 * * *", "2026-10-25T02:10:00+01:00", &["2026-10-26 02:30 +01:00"]);
    berlin("30 3 * * *", "2026-10-25T02:10:00+02:00", &["2026-10-25 03:30 +01:00"]);
    // New York, 8 March 2026 and 1 November 2026, at 02:00.
    let york = |line, after, expected: &[&str]| check(line, "America/New_York", after, expected);
    york("15 2 * * *", "2026-03-07T12:00:00-05:00", &["2026-03-08 03:00 -04:00", "2026-03-09 02:15 -04:00"]);
    york("15 1 * * *", "2026-10-31T12:00:00-04:00", &["2026-11-01 01:15 -04:00", "2026-11-02 01:15 -05:00"]);
    york("0 */6 * * *", "2026-03-07T20:00:00-05:00", &["2026-03-08 00:00 -05:00", "2026-03-08 06:00 -04:00"]);
    // Half an hour, midnight itself, and a day that a place left out.
    check(
        "15,40 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T12:00:00Z",
        &["2026-10-04 02:30 +11:00", "2026-10-04 02:40 +11:00"],
    );
    check("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", &["2026-04-24 01:00 +03:00", "2026-04-25 00:00 +03:00"]);
    check("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", &["2011-12-31 00:00 +14:00", "2012-12-30 12:00 +14:00"]);
}

#[test]
fn lines_that_are_none() {
    for (line, expected) in [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("0 0 8 * * *", "has 6 fields"),
        ("60 * * * *", "the minute is \"60\"; expected numbers from 0 to 59"),
        ("-1 * * * *", "the minute"),
        ("+1 * * * *", "the minute"),
        ("* 24 * * *", "the hour"),
        ("* * 0 * *", "the day"),
        ("* * * 13 *", "the month"),
        ("* * * * 8", "the day of week"),
        ("* * * * monday", "the day of week"),
        ("5-1 * * * *", "the minute"),
        ("*/0 * * * *", "the minute"),
        ("*/x * * * *", "the minute"),
        ("1,,2 * * * *", "the minute"),
        ("mon * * * *", "the minute"),
        ("@never", "has 1 fields"),
        ("0 0 31 2 *", "never comes"),
        ("0 0 30 feb *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
    ] {
        let told = Cron::parse(line).expect_err(line);
        assert!(told.starts_with(expected), "{line}: {told}");
    }
    // A weekday beside it makes it possible: either is enough.
    check("0 0 31 2 mon", "UTC", "2026-11-22T00:00:00Z", &["2027-02-01 00:00 +00:00"]);
}

#[test]
fn zones_and_times() {
    for (name, ok) in [("UTC", true), ("europe/berlin", true), ("Mars/Olympus", false), ("../../etc/passwd", false), ("", false)]
    {
        assert_eq!(Zone::named(name).is_ok(), ok, "{name}");
    }
    assert_eq!(Zone::named("Mars/Olympus"), Err(NoZone::Unknown));
    for (text, ms) in [
        ("1970-01-01T00:00:01Z", Some(1000)),
        ("2027-01-31T08:00:00.5+01:00", Some(1_801_378_800_500)),
        ("2027-01-31T08:00:00", None),
        ("2027-02-30T08:00:00Z", None),
        ("2027-01-31T08:00:00+01:00[Europe/Berlin]", None),
        ("tomorrow", None),
    ] {
        assert_eq!(parse_time(text).ok(), ms, "{text}");
    }
}
