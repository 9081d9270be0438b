//! One manual page, in the language of man(7).

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use super::{about, shown};
use crate::system::version::VERSION;

/// What is the same for all verbs.
const EXIT: &str = "0 when it was done; 1 when not; 125 for words that make no sense, and when the engine could not. run, \
exec, start --attach and attach answer with the number of the process: 126 when it cannot be executed, 127 when there is \
none, and 128 with the number of a signal that ended it.";

/// The whole page of a command that is built.
pub fn render(name: &str, command: &Command) -> String {
    let mut page = Page(String::new());
    page.request(&format!("TH \"{}\" 1 \"\" \"davit {VERSION}\" \"davit\"", name.to_uppercase()));
    page.section("NAME");
    page.line(&format!("{} \\- {}", name, escape(&about(command))));
    page.section("SYNOPSIS");
    let usage = command.clone().render_usage().to_string();
    for line in usage.trim_start_matches("Usage:").trim().lines() {
        page.line(&format!(".nf\n{}\n.fi", escape(line.trim())));
    }
    let aliases: Vec<&str> = command.get_visible_aliases().collect();
    if !aliases.is_empty() {
        page.section("DESCRIPTION");
        page.text(&format!("Also called {}.", aliases.join(", ")));
    }
    page.verbs(name, command);
    page.options(command);
    if let Some(more) = command.get_after_help() {
        page.section("NOTES");
        page.line(&format!(".nf\n{}\n.fi", escape_lines(&more.to_string())));
    }
    page.section("EXIT STATUS");
    page.text(EXIT);
    page.section("ENVIRONMENT");
    page.item("\\fBDAVIT_HOST\\fR", "The engine to speak to; --host wins.");
    page.item(
        "\\fBDOCKER_CONFIG\\fR",
        "Folder of config.json with credentials of registries; ~/.docker without it.",
    );
    page.section("SEE ALSO");
    page.line("\\fBdavit\\fR(1), \\fBdavitd\\fR(8)");
    page.0
}

/// A page that grows.
struct Page(String);

impl Page {
    fn request(&mut self, text: &str) {
        self.line(&format!(".{text}"));
    }

    fn section(&mut self, name: &str) {
        self.request(&format!("SH {name}"));
    }

    /// A line that is escaped already.
    fn line(&mut self, text: &str) {
        writeln!(self.0, "{text}").expect("writing to a string cannot fail");
    }

    fn text(&mut self, text: &str) {
        self.line(&escape_lines(text));
    }

    fn item(&mut self, head: &str, text: &str) {
        self.request("TP");
        self.line(head);
        self.text(text);
    }

    fn verbs(&mut self, name: &str, command: &Command) {
        if shown(command).next().is_none() {
            return;
        }
        self.section("COMMANDS");
        for verb in shown(command) {
            let reference = escape(&format!("{name}-{}", verb.get_name()));
            self.item(&format!("\\fB{reference}\\fR(1)"), &about(verb));
        }
    }

    /// All flags, those below a heading of their own behind the others.
    fn options(&mut self, command: &Command) {
        let flags = || command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional());
        let mut headings: Vec<Option<&str>> = vec![None];
        for heading in flags().map(Arg::get_help_heading) {
            if !headings.contains(&heading) {
                headings.push(heading);
            }
        }
        if flags().next().is_some() {
            self.section("OPTIONS");
        }
        for heading in headings {
            if let Some(heading) = heading {
                self.request(&format!("SS {heading}"));
            }
            for arg in flags().filter(|arg| arg.get_help_heading() == heading) {
                self.item(&names(arg), &explained(arg));
            }
        }
    }
}

/// How a flag is typed.
fn names(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("\\fB\\-{short}\\fR"));
    let long = arg.get_long().map(|long| format!("\\fB\\-\\-{}\\fR", escape(long)));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let values = match arg.get_action() {
        ArgAction::Set | ArgAction::Append if !arg.is_require_equals_set() => {
            let values = arg.get_value_names().unwrap_or_default();
            values.iter().map(|value| format!(" \\fI{}\\fR", escape(value))).collect()
        }
        _ => String::new(),
    };
    names.join(", ") + &values
}

/// What it does, and what it takes.
fn explained(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut text = help.map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> = arg.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect();
    if !values.is_empty() && !arg.is_require_equals_set() && !arg.is_hide_possible_values_set() {
        write!(text, " [{}]", values.join(", ")).expect("writing to a string cannot fail");
    }
    let defaults = arg.get_default_values();
    if !arg.is_hide_default_value_set() && !defaults.is_empty() {
        let defaults: Vec<_> = defaults.iter().map(|value| value.to_string_lossy()).collect();
        write!(text, " [default: {}]", defaults.join(" ")).expect("writing to a string cannot fail");
    }
    text
}

/// Text without a meaning for the formatter.
fn escape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => plain.push_str("\\e"),
            '-' => plain.push_str("\\-"),
            c if c.is_ascii() => plain.push(c),
            c => write!(plain, "\\[u{:04X}]", u32::from(c)).expect("writing to a string cannot fail"),
        }
    }
    if plain.starts_with(['.', '\'']) { format!("\\&{plain}") } else { plain }
}

/// The same of several lines; an empty one begins a paragraph.
fn escape_lines(text: &str) -> String {
    let lines = text.lines().map(|line| if line.is_empty() { ".PP".to_owned() } else { escape(line) });
    lines.collect::<Vec<_>>().join("\n")
}
