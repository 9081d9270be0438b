//! `davit inspect`: anything that has a name or an id.

use davit_proto::status::RemoteError;

use crate::args::system::{InspectArgs, ObjectType};
use crate::client::Engine;
use crate::document::Document;
use crate::error::Error;
use crate::{container, exit, format, image, network, output, volume};

/// What a look-up came to.
#[derive(Debug)]
pub enum Found {
    /// It is there.
    Yes(Box<Document>),
    /// It is not; the engine's sentence.
    No(RemoteError),
}

impl Found {
    /// Turns the one error that means "not there" into an answer.
    pub fn or_missing<T>(
        answer: Result<T, RemoteError>,
        reason: &str,
        document: impl FnOnce(T) -> Option<Document>,
    ) -> Result<Self, Error> {
        let absent = |message: String| RemoteError {
            kind: davit_proto::status::ErrorKind::NotFound,
            reason: reason.to_owned(),
            message,
            values: Vec::new(),
        };
        match answer {
            Ok(answer) => Ok(match document(answer) {
                Some(document) => Self::Yes(Box::new(document)),
                None => Self::No(absent("the engine answered with nothing".into())),
            }),
            // A text that can be no name is the name of nothing.
            Err(error)
                if error.is(reason) || error.kind == davit_proto::status::ErrorKind::InvalidArgument =>
            {
                Ok(Self::No(error))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Found {
    /// The number for those who only ask whether it is there.
    pub fn code(&self) -> u8 {
        match self {
            Self::Yes(_) => exit::SUCCESS,
            Self::No(_) => exit::FAILURE,
        }
    }
}

/// Shows all of some objects.
pub async fn run(engine: Engine, args: InspectArgs) -> Result<u8, Error> {
    let (engine, kind, size) = (&engine, args.kind, args.size);
    show(args.objects, args.format.as_deref(), async move |name| find(engine, &name, kind, size).await).await
}

/// The first object of that name, in docker's order.
async fn find(engine: &Engine, name: &str, kind: Option<ObjectType>, size: bool) -> Result<Found, Error> {
    let mut last = None;
    for tried in [ObjectType::Container, ObjectType::Image, ObjectType::Network, ObjectType::Volume] {
        if kind.is_some_and(|kind| kind != tried) {
            continue;
        }
        let found = match tried {
            ObjectType::Container => container::inspect::find(engine, name, size).await?,
            ObjectType::Image => image::inspect::find(engine, name).await?,
            ObjectType::Network => network::inspect::find(engine, name).await?,
            ObjectType::Volume => volume::inspect::find(engine, name).await?,
        };
        match found {
            Found::Yes(_) => return Ok(found),
            Found::No(error) => last = Some(error),
        }
    }
    let mut error = last.ok_or(Error::Reported)?;
    if kind.is_none() {
        error.message = format!("no such object: {name:?}");
    }
    Ok(Found::No(error))
}

/// Shows what is there as one JSON list or by a template, and complains of what is not.
pub async fn show(
    names: Vec<String>,
    template: Option<&str>,
    find: impl AsyncFn(String) -> Result<Found, Error>,
) -> Result<u8, Error> {
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        match find(name).await {
            Ok(Found::Yes(document)) => documents.push(*document),
            Ok(Found::No(error)) => errors.push(error.into()),
            Err(error @ Error::Unreachable(_)) => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    match template.filter(|template| !template.is_empty()) {
        Some("json") | None if template.is_none_or(str::is_empty) => {
            output::print(&(Document::List(documents).pretty() + "\n"))?;
        }
        Some("json") => output::print(&(Document::List(documents).compact() + "\n"))?,
        Some(template) => {
            let mut text = String::new();
            for document in &documents {
                text.push_str(&format::one(document, template)?);
            }
            output::print(&text)?;
        }
        None => {}
    }
    for error in &errors {
        output::error(error);
    }
    if errors.is_empty() { Ok(exit::SUCCESS) } else { Err(Error::Reported) }
}
