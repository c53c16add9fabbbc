//! `gatelet completions SHELL`: what a shell offers at Tab, from the table.
//!
//! Invariant: the scripts call nothing but the shell's own words; a text of the table stands in them quoted. It cannot fail.

use crate::cli::define::{self, COMMANDS, Command, EVERYWHERE, Form, Opt};
use crate::cli::options::{Options, is_everywhere};
use crate::cli::{Failure, output};

/// Runs it.
///
/// # Errors
/// None of its own.
pub fn run(options: &Options) -> Result<(), Failure> {
    output::write(&match options.words().as_slice() {
        ["zsh"] => zsh(),
        ["fish"] => fish(),
        _ => bash(),
    });
    Ok(())
}

/// What a value or an argument of that name is completed with.
fn is_path(value: &str) -> bool {
    matches!(value, "FILE" | "DIR")
}

/// `--a --b -c`, each with what it takes left out.
fn flags<'a>(options: impl Iterator<Item = &'a Opt>) -> String {
    let all = options.flat_map(|o| o.short.map(|s| format!("-{s}")).into_iter().chain([format!("--{}", o.name)]));
    all.collect::<Vec<_>>().join(" ")
}

fn names(of: impl Iterator<Item = &'static str>) -> String {
    of.collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let valued: Vec<&Opt> = define::all_options().into_iter().filter(|o| o.value.is_some()).collect();
    let spelled = |o: &&Opt| o.short.map_or(format!("--{}", o.name), |s| format!("-{s}|--{}", o.name));
    let skipped = valued.iter().map(spelled).collect::<Vec<_>>().join("|");
    let mut values = String::new();
    for option in &valued {
        let offer = match (option.value, option.choices) {
            (_, [_, ..]) => format!("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", option.choices.join(" ")),
            (Some("DIR"), _) => "compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- \"$cur\"))".into(),
            (Some("FILE"), _) => "compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$cur\"))".into(),
            _ => "COMPREPLY=()".into(),
        };
        values.push_str(&format!("        {}) {offer}; return ;;\n", spelled(option)));
    }
    let mut cases = String::new();
    for command in COMMANDS {
        for form in command.forms {
            let own = flags(command.options_of(form));
            let paths = form.arguments().any(|(a, _)| is_path(a));
            let words = if form.arguments().any(|(a, _)| a == "[COMMAND]" || a == "COMMAND") {
                names(COMMANDS.iter().map(|c| c.name))
            } else {
                String::new()
            };
            let pattern = form.name().map_or(format!("'{} '*", command.name), |name| format!("'{} {name}'", command.name));
            cases.push_str(&format!(
                "        {pattern}) words='{}'; {}",
                [words, own].join(" ").trim(),
                if paths { "paths=1 " } else { "" }
            ));
            cases.push_str(";;\n");
        }
        if command.forms.iter().any(|f| f.name().is_some()) {
            let first = flags(command.options_of(&command.forms[0]));
            let words = names(command.forms.iter().filter_map(Form::name));
            cases.push_str(&format!("        '{} ') words='{words} {first}' ;;\n", command.name));
        }
    }
    let (commands, everywhere) = (names(COMMANDS.iter().map(|c| c.name)), flags(EVERYWHERE.iter().copied()));
    format!(
        "# gatelet's completions for bash: source <(gatelet completions bash)
_gatelet() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= form= skip= words= paths= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ $skip ]]; then skip=; continue; fi
        case ${{COMP_WORDS[i]}} in
        {skipped}) skip=1 ;;
        -*) ;;
        *) if [[ -z $command ]]; then command=${{COMP_WORDS[i]}}; elif [[ -z $form ]]; then form=${{COMP_WORDS[i]}}; fi ;;
        esac
    done
    if [[ $skip ]]; then
        case $prev in
{values}        esac
    fi
    case \"$command $form\" in
        ' ') words='{commands} {everywhere} --version' ;;
{cases}    esac
    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))
    if [[ $paths && $cur != -* ]]; then compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$cur\")); fi
}}
complete -F _gatelet gatelet
"
    )
}

/// A text between single quotes, for zsh and fish alike; a quote in it stands between two such texts.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn zsh() -> String {
    let described = |name: &str, about: &str| quoted(&format!("{}:{}", name.replace(':', "\\:"), about));
    let list = |all: Vec<String>| all.join(" ");
    let mut out =
        String::from("#compdef gatelet\n# gatelet's completions for zsh: put this into a file _gatelet in a folder of $fpath\n");
    out.push_str("_gatelet() {\n    local -a commands forms\n    local line state\n    commands=(");
    out.push_str(&list(COMMANDS.iter().map(|c| described(c.name, c.about)).collect()));
    out.push_str(")\n    if (( CURRENT == 2 )); then _describe command commands; return; fi\n    case $words[2] in\n");
    for command in COMMANDS {
        let forms: Vec<String> = command.forms.iter().filter_map(|f| f.name().map(|n| described(n, f.about))).collect();
        out.push_str(&format!("    {})\n", command.name));
        if !forms.is_empty() {
            out.push_str(&format!(
                "        if (( CURRENT == 3 )) && [[ $PREFIX != -* ]]; then forms=({}); _describe form forms; return; fi\n",
                list(forms)
            ));
        }
        let path = command.forms.iter().flat_map(Form::arguments).any(|(a, _)| is_path(a));
        let specs: Vec<String> = options_of(command).iter().flat_map(|o| zsh_option(o)).collect();
        out.push_str(&format!("        _arguments {} '*: :{}' ;;\n", list(specs), if path { "_files" } else { "" }));
    }
    out.push_str("    esac\n}\n_gatelet \"$@\"\n");
    out
}

fn zsh_option(option: &Opt) -> Vec<String> {
    let about = option.about.replace(['[', ']'], "").replace(':', "\\:");
    let value = match (option.value, option.choices) {
        (None, _) => String::new(),
        (Some(value), [_, ..]) => format!(":{value}:({})", option.choices.join(" ")),
        (Some(value), _) => format!(":{value}:{}", if is_path(value) { "_files" } else { "" }),
    };
    let spelled = option.short.map(|s| format!("-{s}")).into_iter().chain([format!("--{}", option.name)]);
    spelled.map(|name| quoted(&format!("{name}[{about}]{value}"))).collect()
}

/// All options of a command, each once.
fn options_of(command: &'static Command) -> Vec<&'static Opt> {
    let own = command.forms.iter().flat_map(|f| f.options).chain(command.options).copied();
    own.chain(EVERYWHERE.iter().copied()).collect()
}

fn fish() -> String {
    let mut out =
        String::from("# gatelet's completions for fish: gatelet completions fish > ~/.config/fish/completions/gatelet.fish\n");
    out.push_str("complete -c gatelet -f\n");
    let line = |when: &str, option: &Opt| {
        let short = option.short.map_or(String::new(), |s| format!(" -s {s}"));
        let value = match (option.value, option.choices) {
            (None, _) => String::new(),
            (Some(_), [_, ..]) => format!(" -x -a {}", quoted(&option.choices.join(" "))),
            (Some(value), _) => if is_path(value) { " -r -F" } else { " -x" }.to_string(),
        };
        format!("complete -c gatelet{when} -l {}{short}{value} -d {}\n", option.name, quoted(option.about))
    };
    EVERYWHERE.iter().for_each(|o| out.push_str(&line("", o)));
    for command in COMMANDS {
        let name = command.name;
        out.push_str(&format!("complete -c gatelet -n __fish_use_subcommand -a {name} -d {}\n", quoted(command.about)));
        let when = format!(" -n '__fish_seen_subcommand_from {name}'");
        for form in command.forms {
            if let Some(word) = form.name() {
                out.push_str(&format!("complete -c gatelet{when} -a {word} -d {}\n", quoted(form.about)));
            }
            if form.arguments().any(|(a, _)| is_path(a)) {
                out.push_str(&format!("complete -c gatelet{when} -F\n"));
            }
        }
        options_of(command).iter().filter(|o| !is_everywhere(o)).for_each(|o| out.push_str(&line(&when, o)));
    }
    out
}
