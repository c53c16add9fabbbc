//! Ids and tokens from the system's randomness.
//!
//! Invariant: an id is not guessable (80 random bits) and begins with the time, so that lists read in order. Fails only where
//! the system has no randomness; the gateway then does not start.

use std::cell::RefCell;

use crate::base::error::{Error, ErrorKind, Result};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new id: `prefix_` and 26 characters (48 bits of `unix_ms`, 80 random bits, Crockford base 32).
pub fn new_id(prefix: &str, unix_ms: i64) -> String {
    let random: [u8; 10] = pooled();
    let mut bits = ((unix_ms.max(0) as u128) & 0xffff_ffff_ffff) << 80;
    for (i, byte) in random.iter().enumerate() {
        bits |= u128::from(*byte) << (72 - 8 * i);
    }
    let mut id = String::with_capacity(prefix.len() + 27);
    id.push_str(prefix);
    id.push('_');
    for i in (0..26).rev() {
        id.push(ALPHABET[((bits >> (5 * i)) & 31) as usize] as char);
    }
    id
}

/// Random bytes for ids, which are made by the thousand: one call to the system fills a small pool for this thread. Secrets don't
/// come from here.
fn pooled<const N: usize>() -> [u8; N] {
    thread_local!(static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; 256], left: 0 }) });
    struct Pool {
        bytes: [u8; 256],
        left: usize,
    }
    POOL.with_borrow_mut(|pool| {
        if pool.left < N {
            // The start of the process proved that randomness is there (`check_randomness`); Linux does not take it away again.
            // Were it to fail all the same, ids would repeat and the store's unique index would refuse them: an error, not a
            // mix-up.
            let _ = getrandom::fill(&mut pool.bytes);
            pool.left = pool.bytes.len();
        }
        pool.left -= N;
        let mut out = [0; N];
        out.copy_from_slice(&pool.bytes[pool.left..pool.left + N]);
        out
    })
}

/// A new secret token: 43 characters of `A-Za-z0-9_-` (256 bits).
///
/// # Errors
/// Where the system has no randomness.
pub fn new_token() -> Result<String> {
    use base64::Engine;
    let mut random = [0u8; 32];
    fill(&mut random)?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random))
}

/// Letters and digits of a code: without those that an eye or an ear takes for one another (0 O, 1 I L, 2 Z, 5 S, 8 B, U V).
const CODE_ALPHABET: &[u8; 24] = b"34679ACDEFGHJKMNPQRTVWXY";

/// A new code that people read out to each other: 8 characters, about 36 bits. Guessing has to be bounded by who takes it.
///
/// # Errors
/// Where the system has no randomness.
pub fn new_code() -> Result<String> {
    let mut code = String::with_capacity(8);
    while code.len() < 8 {
        let mut random = [0u8; 16];
        fill(&mut random)?;
        // 240 is a multiple of 24: no letter is likelier than another.
        let fit = random.iter().filter(|b| **b < 240).map(|b| char::from(CODE_ALPHABET[usize::from(*b) % 24]));
        code.extend(fit.take(8 - code.len()));
    }
    Ok(code)
}

/// Refuses where the system has no randomness; called once, at start.
///
/// # Errors
/// Where the system has no randomness.
pub fn check_randomness() -> Result<()> {
    fill(&mut [0u8; 16])
}

fn fill(buffer: &mut [u8]) -> Result<()> {
    getrandom::fill(buffer).map_err(|e| {
        Error::new(ErrorKind::Permanent, format!("the system gives no randomness: {e}"))
            .hint("gatelet needs it for ids and tokens and does not start without")
    })
}

/// A random number below `bound` (0 where `bound` is 0), for jitter; not for secrets.
pub fn jitter(bound: u64) -> u64 {
    u64::from_le_bytes(pooled()).checked_rem(bound).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_do_not_repeat() {
        let ids: Vec<_> = (0..1000).map(|i| new_id("m", 1_700_000_000_000 + i / 10)).collect();
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), 1000);
        assert!(ids[0] < ids[999] && ids[0].len() == 28, "{}", ids[0]);
    }

    #[test]
    fn codes_are_readable_and_do_not_repeat() {
        let codes: std::collections::HashSet<_> = (0..2000).map(|_| new_code().unwrap()).collect();
        assert!(codes.len() >= 1999, "{}", codes.len());
        assert!(codes.iter().all(|c| c.len() == 8 && c.bytes().all(|b| CODE_ALPHABET.contains(&b))));
        let seen: std::collections::BTreeSet<_> = codes.iter().flat_map(|c| c.bytes()).collect();
        assert_eq!(seen.len(), CODE_ALPHABET.len(), "every character comes");
    }
}
