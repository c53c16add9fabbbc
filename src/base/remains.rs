//! What a process that was killed leaves held for a moment.
//!
//! A program that it was about to start has its descriptors until it has become that program: the port and the lock are then free
//! a little later than the process is gone. Who starts at once must not take those remains for a second gatelet.
//!
//! Invariant: it waits for a second at most, and only before anything is served. Fails as the last try did.

use std::time::Duration;

/// With [`PAUSE`] between them: a second.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// Tries `take` until it gives something else than an error that is `held`, or for a second.
///
/// # Errors
/// The last try's.
pub fn outlast<T, E>(mut take: impl FnMut() -> Result<T, E>, held: impl Fn(&E) -> bool) -> Result<T, E> {
    for _ in 1..TRIES {
        match take() {
            Err(e) if held(&e) => std::thread::park_timeout(PAUSE),
            taken => return taken,
        }
    }
    take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_for_a_moment_is_waited_for() {
        for (free_after, refused, expected, tries) in [
            (0, "held", Ok(()), 1),
            (3, "held", Ok(()), 4),
            (u32::MAX, "held", Err("held"), TRIES),
            (u32::MAX, "denied", Err("denied"), 1),
        ] {
            let mut tried = 0;
            let took = outlast(
                || {
                    tried += 1;
                    if tried > free_after { Ok(()) } else { Err(refused) }
                },
                |e| *e == "held",
            );
            assert_eq!((took, tried), (expected, tries), "{free_after} {refused}");
        }
    }
}
