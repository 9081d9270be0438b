//! `--format`: docker's own table, `table TEMPLATE`, `json`, or a Go template over docker's field names.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{Template, Value};

use crate::document::{Document, map};
use crate::error::Error;
use crate::output::{self, Table};

/// A template that is wrong, or asks for what is not there.
#[derive(Debug, thiserror::Error)]
#[error("template {template:?}: {source}")]
pub struct Malformed {
    /// The template.
    template: String,
    /// What is wrong.
    source: Box<gotmpl::TemplateError>,
}

/// How to show a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// The command's own columns.
    Table,
    /// A template a row, its cells laid out in columns under their heads.
    TableOf(String),
    /// A template a row.
    Template(String),
    /// A JSON document a row.
    Json,
}

impl Format {
    /// What `--format` says; the command's own columns without it.
    pub fn of(text: Option<&str>) -> Self {
        let text = text.unwrap_or_default().trim();
        match text {
            "" | "table" => Self::Table,
            "json" => Self::Json,
            _ => match text.strip_prefix("table").filter(|rest| rest.starts_with([' ', '\t', '{'])) {
                Some(columns) => Self::TableOf(unescape(columns.trim_start())),
                None => Self::Template(unescape(text)),
            },
        }
    }
}

/// `\t` and `\n` as people type them in a shell.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// A field of a row and what stands above it.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Docker's name of the field.
    pub field: &'static str,
    /// Docker's head of the column.
    pub head: &'static str,
}

/// A list that can be shown in every format.
#[derive(Debug)]
pub struct Listing {
    /// All fields that a row has.
    pub columns: &'static [Column],
    /// Those that the command's own table shows.
    pub shown: Vec<&'static str>,
    /// The rows, each a document with those fields.
    pub rows: Vec<Document>,
}

impl Listing {
    /// The text to print.
    pub fn render(&self, format: &Format) -> Result<String, Error> {
        match format {
            Format::Table => Ok(self.table()),
            Format::Json => Ok(self.rows.iter().map(|row| row.compact() + "\n").collect()),
            Format::Template(template) => {
                let template = Prepared::parse(template)?;
                let mut text = String::new();
                for row in &self.rows {
                    text.push_str(&template.apply(row)?);
                    text.push('\n');
                }
                Ok(for_reader(text))
            }
            Format::TableOf(template) => self.table_of(template),
        }
    }

    fn table(&self) -> String {
        let mut table = Table::default();
        table.row(self.shown.iter().map(|field| self.head(field)));
        for row in &self.rows {
            table.row(self.shown.iter().map(|field| match row.field(field) {
                Some(Document::Text(text)) => text.clone(),
                Some(other) => other.compact(),
                None => String::new(),
            }));
        }
        table.render()
    }

    fn table_of(&self, template: &str) -> Result<String, Error> {
        let prepared = Prepared::parse(template)?;
        let heads = map(self.columns.iter().map(|column| (column.field, column.head.into())));
        let mut table = Table::default();
        table.row(prepared.heads().apply(&heads)?.split('\t'));
        for row in &self.rows {
            table.row(prepared.apply(row)?.split('\t'));
        }
        Ok(table.render())
    }

    fn head(&self, field: &str) -> &'static str {
        self.columns.iter().find(|column| column.field == field).map_or("", |column| column.head)
    }
}

/// A text that came from a template: raw for a program, harmless for a terminal.
fn for_reader(text: String) -> String {
    if output::to_terminal() { output::visible_lines(&text).into_owned() } else { text }
}

/// Shows one document: with a template, or as JSON.
pub fn one(document: &Document, template: &str) -> Result<String, Error> {
    if template == "json" {
        return Ok(document.compact() + "\n");
    }
    Ok(for_reader(Prepared::parse(&unescape(template))?.apply(document)? + "\n"))
}

/// A template that was read once and is applied to many rows.
struct Prepared {
    source: String,
    template: Template,
}

impl Prepared {
    fn parse(source: &str) -> Result<Self, Error> {
        Self::with(source, false)
    }

    fn with(source: &str, heads: bool) -> Result<Self, Error> {
        // docker's rows have one method that takes an argument; here it is a function of the row.
        let written = source.replace(".Label \"", "label . \"").replace(".Label `", "label . `");
        let mut template = Template::new("").missing_key(gotmpl::MissingKey::Error);
        template = functions().into_iter().fold(template, |template, (name, function)| {
            // Above a column stands its head, whatever function shows its cells.
            let function = if heads && name != "label" { Arc::new(first_text) } else { function };
            template.func(name, move |args: &[Value]| function(args))
        });
        let template = template
            .parse(&written)
            .map_err(|error| Malformed { template: source.to_owned(), source: Box::new(error) })?;
        Ok(Self { source: source.to_owned(), template })
    }

    /// The same template for the line of heads.
    fn heads(&self) -> Self {
        Self::with(&self.source, true).expect("it was parsed before")
    }

    fn apply(&self, document: &Document) -> Result<String, Error> {
        self.template
            .execute_to_string(&value(document))
            .map_err(|error| Malformed { template: self.source.clone(), source: Box::new(error) }.into())
    }
}

type Function = Arc<dyn Fn(&[Value]) -> gotmpl::Result<Value> + Send + Sync>;

fn wrong(what: &str) -> gotmpl::TemplateError {
    gotmpl::TemplateError::Exec(what.to_owned())
}

fn text(args: &[Value], at: usize) -> gotmpl::Result<String> {
    match args.get(at) {
        Some(Value::String(text)) => Ok(text.to_string()),
        Some(other) => Ok(other.to_string()),
        None => Err(wrong("too few arguments")),
    }
}

fn number(args: &[Value], at: usize) -> gotmpl::Result<usize> {
    let number = args.get(at).and_then(Value::as_int).ok_or_else(|| wrong("a whole number is wanted"))?;
    usize::try_from(number).map_err(|_| wrong("a number must not be negative"))
}

fn first_text(args: &[Value]) -> gotmpl::Result<Value> {
    let head = args.iter().find(|arg| matches!(arg, Value::String(_))).cloned();
    Ok(head.unwrap_or_else(|| Value::String("".into())))
}

/// Docker's functions beside Go's own.
fn functions() -> Vec<(&'static str, Function)> {
    vec![
        ("json", Arc::new(|args| Ok(plain(back(args.first().unwrap_or(&Value::Nil)).compact())))),
        ("lower", Arc::new(|args| Ok(plain(text(args, 0)?.to_lowercase())))),
        ("upper", Arc::new(|args| Ok(plain(text(args, 0)?.to_uppercase())))),
        ("title", Arc::new(|args| Ok(plain(title(&text(args, 0)?))))),
        ("split", Arc::new(split)),
        ("join", Arc::new(join)),
        ("pad", Arc::new(pad)),
        ("truncate", Arc::new(|args| Ok(plain(text(args, 0)?.chars().take(number(args, 1)?).collect())))),
        ("label", Arc::new(label)),
    ]
}

fn plain(text: String) -> Value {
    Value::String(text.into())
}

fn title(text: &str) -> String {
    let mut begins = true;
    text.chars()
        .flat_map(|c| {
            let upper = begins;
            begins = c.is_whitespace();
            if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

fn split(args: &[Value]) -> gotmpl::Result<Value> {
    let (whole, by) = (text(args, 0)?, text(args, 1)?);
    Ok(Value::List(whole.split(by.as_str()).map(|part| plain(part.to_owned())).collect()))
}

fn join(args: &[Value]) -> gotmpl::Result<Value> {
    let Some(Value::List(items)) = args.first() else {
        return Err(wrong("join wants a list"));
    };
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    Ok(plain(items.join(&text(args, 1)?)))
}

fn pad(args: &[Value]) -> gotmpl::Result<Value> {
    let (whole, before, after) = (text(args, 0)?, number(args, 1)?, number(args, 2)?);
    if before > 4096 || after > 4096 {
        return Err(wrong("pad takes at most 4096"));
    }
    let padded =
        if whole.is_empty() { whole } else { format!("{}{whole}{}", " ".repeat(before), " ".repeat(after)) };
    Ok(plain(padded))
}

/// `{{.Label "name"}}`: the value of one label of a row whose labels are written `a=b,c=d`.
fn label(args: &[Value]) -> gotmpl::Result<Value> {
    let name = text(args, 1)?;
    let labels = match args.first().and_then(|row| row.field("Labels")) {
        Some(Value::Map(labels)) => {
            return Ok(labels.get(name.as_str()).cloned().unwrap_or_else(|| plain("".into())));
        }
        Some(labels) => labels.to_string(),
        None => return Err(wrong("this list has no labels")),
    };
    if labels == "LABELS" {
        return Ok(plain(name));
    }
    let found = labels.split(',').find_map(|pair| pair.strip_prefix(name.as_str())?.strip_prefix('='));
    Ok(plain(found.unwrap_or_default().to_owned()))
}

fn value(document: &Document) -> Value {
    match document {
        Document::Null => Value::Nil,
        Document::Bool(value) => Value::Bool(*value),
        Document::Int(value) => Value::Int(*value),
        Document::Uint(value) => i64::try_from(*value).map_or(Value::Uint(*value), Value::Int),
        Document::Float(value) => Value::Float(*value),
        Document::Text(text) => Value::String(text.as_str().into()),
        Document::List(items) => Value::List(items.iter().map(value).collect()),
        Document::Map(fields) => Value::Map(Arc::new(
            fields
                .iter()
                .map(|(name, field)| (name.as_str().into(), value(field)))
                .collect::<BTreeMap<_, _>>(),
        )),
    }
}

fn back(value: &Value) -> Document {
    match value {
        Value::Nil | Value::Function(_) => Document::Null,
        Value::Bool(value) => Document::Bool(*value),
        Value::Int(value) => Document::Int(*value),
        Value::Uint(value) => Document::Uint(*value),
        Value::Float(value) => Document::Float(*value),
        Value::String(text) => Document::Text(text.to_string()),
        Value::List(items) => Document::List(items.iter().map(back).collect()),
        Value::Map(fields) => map(fields.iter().map(|(name, field)| (name.to_string(), back(field)))),
    }
}

#[cfg(test)]
mod tests;
