//! Whether arguments fit the patterns of a command.
//!
//! Invariant: pure. `*` stands for any part but a leading `-` (an option), a `..` between slashes (a way out of a folder), and
//! control characters; without `*` a pattern is the argument, letter by letter. The number of arguments is the patterns', but for a last
//! pattern `...`, which lets the one before it come any number of times.

/// Arguments of a call.
const ARGS_MAX: usize = 64;
/// Bytes of one argument.
const ARG_BYTES_MAX: usize = 4096;

/// Checks all arguments.
///
/// # Errors
/// A sentence for the model.
pub fn check(patterns: &[String], args: &[String]) -> Result<(), String> {
    let (patterns, repeated) = match patterns {
        [fixed @ .., last, dots] if dots == "..." => (fixed, Some(last)),
        all => (all, None),
    };
    if args.len() > ARGS_MAX {
        return Err(format!("at most {ARGS_MAX} args"));
    }
    if args.len() < patterns.len() || repeated.is_none() && args.len() > patterns.len() {
        let more = if repeated.is_some() { " or more" } else { "" };
        return Err(format!("it takes {}{more} args, and these are {}", patterns.len(), args.len()));
    }
    let all = patterns.iter().map(Some).chain(std::iter::repeat(repeated));
    for (i, (arg, pattern)) in args.iter().zip(all).enumerate() {
        if let Some(pattern) = pattern
            && !fits(pattern, arg)
        {
            return Err(format!("args[{i}] does not fit its pattern {pattern:?}"));
        }
    }
    Ok(())
}

fn fits(pattern: &str, arg: &str) -> bool {
    if arg.len() > ARG_BYTES_MAX || arg.contains('\0') {
        return false;
    }
    if !pattern.contains('*') {
        return pattern == arg;
    }
    let option = pattern.starts_with('*') && arg.starts_with('-');
    let way_out = !pattern.contains("..") && arg.split('/').any(is_way_out);
    !option && !way_out && !arg.chars().any(char::is_control) && matches(pattern, arg)
}

/// Whether a part between slashes is `..`, also where it begins a value, as in `--file=../x`.
fn is_way_out(part: &str) -> bool {
    part.strip_suffix("..").is_some_and(|before| before.is_empty() || before.ends_with(['=', ':', ',', ';', '@']))
}

/// Each text between stars in its order, the first at the beginning and the last at the end.
fn matches(pattern: &str, arg: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = arg.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(patterns: &[&str], args: &[&str], good: bool) {
        let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        assert_eq!(check(&own(patterns), &own(args)).is_ok(), good, "{patterns:?} {args:?}");
    }

    #[test]
    fn numbers() {
        case(&[], &[], true);
        case(&[], &["x"], false);
        case(&["a"], &[], false);
        case(&["a", "*"], &["a", "b"], true);
        case(&["a", "*"], &["a"], false);
        case(&["a", "*"], &["a", "b", "c"], false);
        case(&["a", "*", "..."], &["a"], true);
        case(&["a", "*", "..."], &["a", "b", "c", "d"], true);
        case(&["a", "*", "..."], &[], false);
        case(&["x", "..."], &[], true);
        case(&["x", "..."], &["x", "y"], false);
        case(&["*", "..."], &["a"; 64], true);
        case(&["*", "..."], &["a"; 65], false);
        case(&["*", "..."], &["a", "-b"], false);
    }

    #[test]
    fn patterns() {
        for (pattern, arg, good) in [
            ("a", "a", true),
            ("a", "A", false),
            ("a", "", false),
            ("", "", true),
            ("*", "", true),
            ("*", "a b; c | d && $(e) `f` > g \\ \" '", true), // no shell reads it
            ("*", "-", false),
            ("*", "-rf", false),
            ("*", "--", false),
            ("*", "-oProxyCommand=x", false),
            ("**", "-x", false),
            ("*", "a-x", true),
            ("-*", "-x", true), // the file says so
            ("--n=*", "--n=-5", true),
            ("--n=*", "--m=5", false),
            ("a*b", "ab", true),
            ("a*b", "aXb", true),
            ("a*b", "aXbY", false),
            ("a*a", "a", false),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
            ("*.txt", "x.txt", true),
            ("*.txt", "x.txt.sh", false),
            ("/srv/*", "/srv/a/b", true),
            ("/srv/*", "/srv/../etc/passwd", false),
            ("/srv/*", "/srv/..", false),
            ("/srv/*", "/srv/a/../../etc", false),
            ("/srv/*", "/srv/..a/b..", true),
            ("/srv/*", "/srvx", false),
            ("*", "../x", false),
            ("*", "Loading...", true),
            ("--file=*", "--file=../x", false),
            ("--file=*", "--file=x/..", false),
            ("*", "host:../x", false),
            ("../*", "../x", true), // the file says so
            ("*", "a\nb", false),
            ("*", "a\u{1b}[2J", false),
            ("*", "a\0b", false),
            ("a\tb", "a\tb", true),
            ("*", "你好", true),
            ("?", "x", false),
            ("[a-z]", "b", false),
        ] {
            case(&[pattern], &[arg], good);
        }
        case(&["*"], &[&"x".repeat(4096)], true);
        case(&["*"], &[&"x".repeat(4097)], false);
        case(&[&"*a".repeat(500)], &[&"a".repeat(4096)], true);
        case(&[&format!("{}b", "*a".repeat(500))], &[&"a".repeat(4096)], false);
    }
}
