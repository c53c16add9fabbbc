//! The corpus of injections against the door: every call that an obedient model would make of it, with the usual rules.
