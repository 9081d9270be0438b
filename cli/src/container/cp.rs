//! `davit cp`: between this side and a container, between two containers, and as an archive on standard input and output.
//!
//! What goes where is decided here, as docker does; packing and extracting inside containers is the engine's, and on this
//! side that of the same code, which lets no archive write beside its target.

mod host;
mod path;
mod remote;
mod stream;

use std::io::IsTerminal as _;

use crate::args::container::CpArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::human;
use crate::{exit, output, usage};

use path::{End, Subject, Target};
use remote::Remote;

/// Copies.
pub async fn run(engine: Engine, args: CpArgs) -> Result<u8, Error> {
    let (source, destination) = (End::parse(&args.source), End::parse(&args.destination));
    for (end, what) in [(&args.source, "source"), (&args.destination, "destination")] {
        if end.is_empty() {
            return Err(Error::Usage(format!("{what} can not be empty")));
        }
    }
    for end in [&source, &destination] {
        if let End::Container { container, .. } = end {
            usage::check_target(container)?;
        }
    }
    let copied = match (&source, &destination) {
        (End::Container { container, path }, End::Host("-")) => {
            to_stdout(&Remote::new(&engine, container), path, args.follow_link).await?;
            return Ok(exit::SUCCESS);
        }
        (End::Host("-"), End::Container { container, path }) => {
            from_stdin(&Remote::new(&engine, container), path, &args).await?
        }
        (End::Host(from), End::Container { container, path }) => {
            to_container(from, &Remote::new(&engine, container), path, &args).await?
        }
        (End::Container { container, path }, End::Host(to)) => {
            to_host(&Remote::new(&engine, container), path, to, &args).await?
        }
        (End::Container { container, path }, End::Container { container: other, path: to }) => {
            let (from, into) = (Remote::new(&engine, container), Remote::new(&engine, other));
            across((&from, path), (&into, to), &args).await?
        }
        (End::Host(_), End::Host(_)) => {
            return Err(Error::Usage("must specify at least one container source".into()));
        }
    };
    if !args.quiet {
        output::complain(&format!("Successfully copied {} to {}", human::size(copied.bytes), copied.to));
    }
    Ok(exit::SUCCESS)
}

/// What is told at the end.
struct Copied {
    /// Bytes of the archive that went over.
    bytes: u64,
    to: String,
}

impl Copied {
    fn to_container(remote: &Remote<'_>, target: &Target, bytes: u64) -> Self {
        Self { bytes, to: format!("{}:{}", remote.container(), target.path) }
    }
}

async fn to_stdout(remote: &Remote<'_>, path: &str, follow: bool) -> Result<(), Error> {
    if std::io::stdout().is_terminal() {
        let why = "an archive is nothing for a terminal: redirect standard output, or name a file";
        return Err(Error::Usage(why.into()));
    }
    let mut archive = remote.out(path, follow, "").await?;
    while let Some(data) = archive.next().await? {
        host::write_stdout(&data)?;
    }
    host::flush_stdout()
}

async fn from_stdin(remote: &Remote<'_>, path: &str, args: &CpArgs) -> Result<Copied, Error> {
    let target = remote.target(path).await?;
    if !target.is_dir {
        let name = format!("{}:{path}", remote.container());
        return Err(Error::Usage(format!("destination {name:?} must be a directory")));
    }
    let bytes = remote.take(&target.path, args.archive, stream::feed_stdin).await?;
    Ok(Copied::to_container(remote, &target, bytes))
}

async fn to_container(from: &str, remote: &Remote<'_>, path: &str, args: &CpArgs) -> Result<Copied, Error> {
    let target = remote.target(path).await?;
    let source = host::source(from, args.follow_link)?;
    let (folder, name) = path::plan(&source.subject, &target)?;
    let bytes = remote
        .take(&folder, args.archive, move |frames| stream::feed_tree(source.handle, name, frames))
        .await?;
    Ok(Copied::to_container(remote, &target, bytes))
}

async fn to_host(remote: &Remote<'_>, path: &str, to: &str, args: &CpArgs) -> Result<Copied, Error> {
    let shown = host::absolute(to)?;
    host::check_output(&shown)?;
    let subject = remote.subject(path, args.follow_link).await?;
    let target = host::target(&shown)?;
    let (folder, name) = path::plan(&subject, &target)?;
    let folder = host::open_folder(&folder)?;
    let archive = remote.out(path, args.follow_link, &name).await?;
    let bytes = stream::extract(archive, folder, args.archive).await?;
    Ok(Copied { bytes, to: shown })
}

async fn across(
    (from, path): (&Remote<'_>, &str),
    (into, to): (&Remote<'_>, &str),
    args: &CpArgs,
) -> Result<Copied, Error> {
    let target = into.target(to).await?;
    let subject: Subject = from.subject(path, args.follow_link).await?;
    let (folder, name) = path::plan(&subject, &target)?;
    let archive = from.out(path, args.follow_link, &name).await?;
    let bytes = into.take(&folder, args.archive, move |frames| stream::pass_on(archive, frames)).await?;
    Ok(Copied::to_container(into, &target, bytes))
}
