//! COPY and ADD: files that become a layer without a command.

use crate::change;
use crate::error::{Error, Problem};
use crate::expand::{self, Lookup};
use crate::flag::Flags;
use crate::lexer::{Delimiter, Statement};
use crate::remote::Remote;
use crate::word::Word;

/// A transfer as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Whether it is ADD, which fetches and unpacks.
    pub add: bool,
    /// The stage, image or context that the files are from; none for the context of the build.
    pub from: Option<Word>,
    /// Whether the layer stands for itself, whatever is below it.
    pub link: bool,
    /// Whether the folders above each source go with it.
    pub parents: bool,
    /// ADD: whether a repository's own folder stays.
    pub keep_git_dir: bool,
    /// ADD: whether archives are unpacked; none where it depends on what they are.
    pub unpack: Option<bool>,
    sources: Vec<Written>,
    destination: Word,
    chown: Option<Word>,
    chmod: Option<Word>,
    checksum: Option<Word>,
    exclude: Vec<Word>,
}

/// A source as written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Written {
    Place(Word),
    Document { name: String, content: Word, expand: bool },
}

/// A transfer whose variables have their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferStep {
    /// What goes.
    pub sources: Vec<Source>,
    /// Where to, relative to the working folder. A folder when it ends with a slash.
    pub destination: String,
    /// Whose it will be, as `user:group` by name or number.
    pub chown: Option<String>,
    /// The permissions it will have.
    pub chmod: Option<String>,
    /// What the source must be, as `sha256:…` or a commit.
    pub checksum: Option<String>,
    /// Patterns of what stays behind.
    pub exclude: Vec<String>,
}

/// Something that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, which may have wildcards.
    Path(String),
    /// A file on a web server.
    Url(String),
    /// A repository, perhaps with `#branch:folder`.
    Git(String),
    /// A document of the file itself.
    Document {
        /// The name of the file that it becomes in a folder.
        name: String,
        /// Its text.
        text: String,
    },
}

impl Transfer {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.add { "ADD" } else { "COPY" }
    }

    pub(super) fn read(
        name: &'static str,
        mut flags: Flags,
        rest: &Word,
        statement: &Statement,
    ) -> Result<Self, Error> {
        let add = name == "ADD";
        let mut transfer = Self {
            add,
            from: if add { None } else { flags.value("from")? },
            link: flags.switch("link")?,
            parents: !add && flags.switch("parents")?,
            keep_git_dir: add && flags.switch("keep-git-dir")?,
            unpack: if add && flags.has("unpack") { Some(flags.switch("unpack")?) } else { None },
            sources: Vec::new(),
            destination: rest.clone(),
            chown: flags.value("chown")?,
            chmod: flags.value("chmod")?,
            checksum: if add { flags.value("checksum")? } else { None },
            exclude: flags.values("exclude")?,
        };
        flags.finish(&[])?;
        if let Some(from) = transfer.from.as_ref().filter(|from| from.text().contains('$')) {
            let reason =
                "a variable cannot name a stage here: give the stage a name of its own with FROM … AS";
            let problem = Problem::Word { what: "stage", word: from.text().to_owned(), reason };
            return Err(Error::new(from.at(), problem));
        }
        let mut words = change::list(rest)?;
        let what = "at least one source and a destination";
        let missing = || Error::new(statement.name.at(), Problem::Missing { instruction: name, what });
        let destination = words.pop().ok_or_else(missing)?;
        if words.is_empty() {
            return Err(missing());
        }
        if !statement.heredocs.is_empty() && Delimiter::parse(destination.text()).is_some() {
            let word = destination.text().to_owned();
            let problem = Problem::Word { what: "destination", word, reason: "it cannot be a here-document" };
            return Err(Error::new(destination.at(), problem));
        }
        if let Some(word) = words.iter().chain([&destination]).find(|word| word.text().is_empty()) {
            let problem = Problem::Word { what: "path", word: String::new(), reason: "it is empty" };
            return Err(Error::new(word.at(), problem));
        }
        transfer.destination = destination;
        transfer.sources = written(&words, statement);
        Ok(transfer)
    }

    /// Replaces its variables.
    ///
    /// # Errors
    /// A word cannot be expanded, or is empty then.
    pub fn expand(&self, lookup: Lookup<'_>) -> Result<TransferStep, Error> {
        let one = |word: &Word| {
            let text = expand::word(word, lookup)?;
            if text.is_empty() {
                let problem =
                    Problem::Word { what: "path", word: word.text().to_owned(), reason: "it is empty" };
                return Err(Error::new(word.at(), problem));
            }
            Ok(text)
        };
        let optional = |word: &Option<Word>| word.as_ref().map(|word| expand::word(word, lookup)).transpose();
        let sources = self.sources.iter().map(|source| match source {
            Written::Place(word) => one(word).map(|text| self.place(text)),
            Written::Document { name, content, expand } => {
                let text =
                    if *expand { expand::document(content, lookup)? } else { content.text().to_owned() };
                Ok(Source::Document { name: name.clone(), text })
            }
        });
        let sources: Vec<Source> = sources.collect::<Result<_, Error>>()?;
        let destination = one(&self.destination)?;
        if sources.len() > 1 && !destination.ends_with('/') && !matches!(destination.as_str(), "." | "..") {
            let reason = "several sources go into a folder, whose name ends with a slash";
            let problem = Problem::Word { what: "destination", word: destination, reason };
            return Err(Error::new(self.destination.at(), problem));
        }
        Ok(TransferStep {
            sources,
            destination,
            chown: optional(&self.chown)?.filter(|owner| !owner.is_empty()),
            chmod: optional(&self.chmod)?.filter(|mode| !mode.is_empty()),
            checksum: optional(&self.checksum)?.filter(|sum| !sum.is_empty()),
            exclude: self.exclude.iter().map(|word| expand::word(word, lookup)).collect::<Result<_, _>>()?,
        })
    }

    /// Only ADD looks beyond the context.
    fn place(&self, text: String) -> Source {
        if !self.add {
            return Source::Path(text);
        }
        match Remote::parse(&text) {
            Ok(None) => Source::Path(text),
            Ok(Some(Remote::Web(_))) => Source::Url(text),
            // What is wrong with one is told by who goes there.
            Ok(Some(Remote::Git(_))) | Err(_) => Source::Git(text),
        }
    }
}

/// Parts documents from places. The documents are in the order in which the line names them.
fn written(words: &[Word], statement: &Statement) -> Vec<Written> {
    let mut documents = statement.heredocs.iter();
    let one = |word: &Word| {
        let named = Delimiter::parse(word.text()).and_then(|_| documents.next());
        match named {
            Some(document) => Written::Document {
                name: document.name.clone(),
                content: document.content(),
                expand: document.expand,
            },
            None => Written::Place(word.clone()),
        }
    };
    words.iter().map(one).collect()
}
