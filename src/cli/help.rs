//! `gatelet help`: the commands, or one of them, from the table.
//!
//! Invariant: no line is longer than [`WIDTH`], whatever the table says. Fails for a command that there isn't.

use crate::cli::define::{self, COMMANDS, Command, EVERYWHERE, Form, Opt};
use crate::cli::options::Options;
use crate::cli::{Failure, output};

/// The longest line.
pub const WIDTH: usize = 80;
/// What gatelet is, in a line.
pub const ABOUT: &str = "a gateway between the places where people write and the AI agents";

/// Runs it.
///
/// # Errors
/// `Usage` for a command that there isn't.
pub fn run(options: &Options) -> Result<(), Failure> {
    match options.arguments.first() {
        None => output::write(&all()),
        Some(name) => match define::command(name) {
            Some(command) => output::write(&one(command)),
            None => return Err(Failure::Usage(format!("there is no command {name:?}"))),
        },
    }
    Ok(())
}

/// The help on all commands.
pub fn all() -> String {
    let mut text = format!("gatelet: {ABOUT}\n\nusage: gatelet [COMMAND] [OPTIONS]\n");
    let mut group = "";
    for command in COMMANDS {
        if command.group != group {
            group = command.group;
            text.push_str(&format!("\n{group}:\n"));
        }
        row(&mut text, command.name, command.about);
    }
    text.push_str("\noptions of every command:\n");
    EVERYWHERE.iter().for_each(|o| row(&mut text, &called(o), o.about));
    text.push_str("\nMore on a command: gatelet help COMMAND. The manual page: gatelet man | man -l -\n");
    text
}

/// The help on a command.
pub fn one(command: &Command) -> String {
    let mut text = format!("gatelet {}: {}\n\n", command.name, command.about);
    for (i, form) in command.forms.iter().enumerate() {
        text.push_str(if i == 0 { "usage: " } else { "       " });
        text.push_str(&usage(command, form, i == 0));
        text.push('\n');
    }
    if command.forms.iter().any(|f| !f.about.is_empty()) {
        text.push('\n');
        command.forms.iter().filter(|f| !f.about.is_empty()).for_each(|f| row(&mut text, f.words, f.about));
    }
    for paragraph in command.more.lines() {
        text.push('\n');
        wrapped(paragraph, WIDTH).iter().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    for (title, options) in headed(command) {
        text.push_str(&format!("\n{title}:\n"));
        options.iter().for_each(|o| row(&mut text, &called(o), &about(o)));
    }
    text
}

/// A form as it is typed; the words of the first one may be left out where it has a name.
pub fn usage(command: &Command, form: &Form, is_first: bool) -> String {
    let words = match form.name() {
        Some(_) if is_first && form.is_silent() => format!(" [{}]", form.words),
        _ if form.words.is_empty() => String::new(),
        _ => format!(" {}", form.words),
    };
    let has_options = !form.options.is_empty() || !command.options.is_empty();
    format!("gatelet {}{words}{}", command.name, if has_options { " [OPTIONS]" } else { "" })
}

/// The options of a command under their headings, those known everywhere last.
pub fn headed(command: &Command) -> Vec<(String, &[&'static Opt])> {
    let mut all: Vec<(String, &[&'static Opt])> = Vec::new();
    for form in command.forms.iter().filter(|f| !f.options.is_empty()) {
        all.push((format!("options of {} {}", command.name, form.words), form.options));
    }
    if !command.options.is_empty() {
        all.push(("options".into(), command.options));
    }
    all.push(("options of every command".into(), EVERYWHERE));
    all
}

/// `-f, --follow`, `--level LEVEL`.
pub fn called(option: &Opt) -> String {
    let short = option.short.map_or(String::new(), |s| format!("-{s}, "));
    let value = option.value.map_or(String::new(), |v| format!(" {v}"));
    format!("{short}--{}{value}", option.name)
}

/// What an option does, with what it takes.
pub fn about(option: &Opt) -> String {
    if option.choices.is_empty() || option.about.contains(option.choices[0]) {
        return option.about.to_string();
    }
    format!("{}: {}", option.about, option.choices.join(", "))
}

/// A name, and beside it what it does.
fn row(text: &mut String, name: &str, about: &str) {
    const COLUMN: usize = 22;
    let mut head = format!("  {name:<width$}", width = COLUMN - 2);
    for line in wrapped(about, WIDTH - COLUMN) {
        if head.chars().count() > COLUMN || (!head.ends_with(' ') && head.len() >= COLUMN) {
            text.push_str(head.trim_end());
            text.push('\n');
            head = " ".repeat(COLUMN);
        }
        text.push_str(format!("{head}{line}").trim_end());
        text.push('\n');
        head = " ".repeat(COLUMN);
    }
}

/// Breaks a text between words into lines of at most `width` characters, but for words that are longer.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().map_or(0, |l| l.chars().count());
        if last > 0 && last + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_fits_and_everything_is_named() {
        let all = all();
        for text in COMMANDS.iter().map(one).chain([all.clone()]) {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH && line.trim_end() == line, "{line:?} in\n{text}");
            }
        }
        for command in COMMANDS {
            assert!(all.contains(&format!("\n  {} ", command.name)), "{}", command.name);
            let text = one(command);
            for form in command.forms {
                assert!(text.contains(form.words), "{}", form.words);
                command.options_of(form).for_each(|o| assert!(text.contains(&called(o)), "{}: {}", command.name, o.name));
            }
        }
    }

    #[test]
    fn texts_are_broken_between_words() {
        for (text, width, expected) in
            [("", 5, ""), ("a b", 3, "a b"), ("a bc", 3, "a|bc"), ("toolong a", 3, "toolong|a"), ("你好 你", 4, "你好 你")]
        {
            assert_eq!(wrapped(text, width).join("|"), expected, "{text}");
        }
    }
}
