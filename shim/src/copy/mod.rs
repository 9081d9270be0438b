//! `davit-shim copy`: reads and writes files of one container for the controller, and ends. It is the controller's
//! child, born with a socket for its order and two pipes for the archive, and never part of the container.
//!
//! ```text
//! controller                                  helper (one thread until it knows its place)
//!   ── Order + fds ─────────────────────────▶   live: looks into the container's mount namespace and comes back
//!                                               stopped: locks the bundle, mounts it in a namespace of its own
//!                                               layer: opens the bundle's layers as they lie on the disk
//!   ◀── Ready ───────────────────────────────
//!   ◀── Stat ────────────────────────────────   path resolved inside the root
//!   ◀══ archive (pipe) ══▶                      packed or extracted
//!   ◀── Done or Failed ──────────────────────
//! ```
//!
//! It ends at once when the controller's end of the socket closes, and when the process ends without which the
//! container's files may be mounted by somebody else.

mod attach;
mod changed;
mod detach;
mod failure;
mod path;
mod place;
mod populate;
mod users;

use std::io::{self, BufReader, BufWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use davit_archive::extract::Limits;
use davit_archive::write::Writer;
use davit_archive::{IdRange, Owners, Source, extract, pack};
use davit_proto::copy::{self, Action, Answer, CHANNEL, FailureKind, Order, PACKET, Stat};
use davit_sys::file::{self, FileType, OFlags};
use davit_sys::{fd, privilege};

use failure::Failure;
use path::Wanted;
use place::Place;

/// Bytes on their way between file and pipe.
const BUFFER: usize = 256 << 10;

/// Follows one order.
pub fn run() -> ExitCode {
    let Ok(socket) = fd::inherited(CHANNEL) else {
        eprintln!("davit-shim copy: started without a controller");
        return ExitCode::from(2);
    };
    let answer = match follow(&socket) {
        Ok(Some(answer)) => answer,
        // The controller wants no more.
        Ok(None) => return ExitCode::from(1),
        Err(failure) => failure.into_answer(),
    };
    match tell(&socket, &answer) {
        Ok(()) if matches!(answer, Answer::Done { .. } | Answer::Stat(_)) => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    }
}

fn follow(socket: &OwnedFd) -> Result<Option<Answer>, Failure> {
    privilege::set_dumpable(false).map_err(Failure::io("become undumpable"))?;
    privilege::set_umask(0);
    let mut packet = vec![0; PACKET];
    let mut fds = Vec::new();
    let received =
        fd::receive_packet(socket, &mut packet, &mut fds).map_err(Failure::io("hear the order"))?;
    let Some(length) = received else { return Ok(None) };
    let order: Order = serde_json::from_slice(packet.get(..length).unwrap_or_default())
        .map_err(|error| Failure::io("understand the order")(error.into()))?;
    if let copy::Place::Layer(bundle) = &order.place {
        place::watch_controller(socket)?;
        return changed::write(socket, &order, bundle).map(Some);
    }
    let place = Place::enter(&order, fds)?;
    place.watch(socket)?;
    tell(socket, &Answer::Ready).map_err(Failure::io("answer"))?;
    match &order.action {
        Action::Stat { follow } => {
            let found = Wanted::new(&order).find(&place.root, *follow)?;
            Ok(Some(Answer::Stat(described(&found)?)))
        }
        Action::Out { follow, name } => out(socket, &order, &place, *follow, name).map(Some),
        Action::Export => export(&order, place).map(Some),
        Action::Diff | Action::Layer { .. } => {
            Err(Failure::new(FailureKind::Internal, "the order names no layer"))
        }
        Action::In { keep_owners } => take(&order, &place, *keep_owners).map(Some),
        Action::Attach { mount } => attach::attach(&place, mount).map(Some),
        Action::Detach { target, others } => detach::detach(&place, target, others).map(Some),
        Action::Populate { volumes } => populate::populate(&place.root, volumes).map(Some),
    }
}

fn tell(socket: &OwnedFd, answer: &Answer) -> io::Result<()> {
    fd::send_packet(socket, &serde_json::to_vec(answer)?, &[])
}

fn out(socket: &OwnedFd, order: &Order, place: &Place, follow: bool, name: &[u8]) -> Result<Answer, Failure> {
    let wanted = Wanted::new(order);
    let handle = wanted.find(&place.root, follow)?;
    let stat = described(&handle)?;
    if FileType::from_raw_mode(stat.mode) == FileType::Socket {
        return Err(wanted.refused("is a socket, which cannot be copied"));
    }
    tell(socket, &Answer::Stat(stat)).map_err(Failure::io("answer"))?;
    let skipped_dev = place.own_dev();
    let name = if name.is_empty() { wanted.name() } else { name.to_vec() };
    let mut writer = Writer::new(pipe()?);
    let entries = pack(Source { handle, name, skipped_dev }, place.ids, &mut writer)
        .map_err(|error| Failure::of_pack(&error, order))?;
    writer.end().map_err(Failure::io("write the archive"))?;
    Ok(Answer::Done { entries, bytes: writer.written() })
}

/// The controller hears at its end whether the archive is whole.
fn export(order: &Order, place: Place) -> Result<Answer, Failure> {
    let Place { root, ids, .. } = &place;
    let handle = root.open_path(std::path::Path::new("/")).map_err(Failure::io("open the root"))?;
    let mut writer = Writer::new(pipe()?);
    let source = Source { handle, name: b"./".to_vec(), skipped_dev: None };
    let entries = pack(source, *ids, &mut writer).map_err(|error| Failure::of_whole(&error, order))?;
    writer.end().map_err(Failure::io("write the archive"))?;
    Ok(Answer::Done { entries, bytes: writer.written() })
}

/// Where what is written comes out.
fn pipe() -> Result<BufWriter<std::fs::File>, Failure> {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(Failure::io("open the pipe"))?;
    Ok(BufWriter::with_capacity(BUFFER, std::fs::File::from(stdout)))
}

fn take(order: &Order, place: &Place, keep_owners: bool) -> Result<Answer, Failure> {
    let wanted = Wanted::new(order);
    let folder = wanted.find_folder(&place.root)?;
    place.refuse_read_only(&folder)?;
    let owners = match (keep_owners, place.ids) {
        (true, ids) => Owners::Kept(ids),
        (false, None) => Owners::Fixed(0, 0),
        (false, Some(IdRange { uid, gid, .. })) => Owners::Fixed(uid, gid),
    };
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(Failure::io("open the pipe"))?;
    let input = BufReader::with_capacity(BUFFER, std::fs::File::from(stdin));
    let work = || Ok(extract(input, folder, owners, &Limits::default()));
    let extracted = match place.ids {
        // Files are made as one of the container's users, or its file system could not say whose they are.
        Some(ids) => privilege::with_file_identity(ids.uid, ids.gid, work),
        None => work(),
    };
    let extracted = extracted.map_err(Failure::io("become the container's root"))?;
    let extracted = extracted.map_err(|error| Failure::of_extract(&error, order))?;
    Ok(Answer::Done { entries: extracted.entries, bytes: extracted.bytes })
}

fn described(handle: &OwnedFd) -> Result<Stat, Failure> {
    let stat = file::stat(handle).map_err(Failure::io("look at the file"))?;
    let link = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let link = file::read_link(handle).map_err(Failure::io("read the link"))?;
            std::os::unix::ffi::OsStringExt::into_vec(link)
        }
        _ => Vec::new(),
    };
    Ok(Stat {
        mode: stat.st_mode,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        link,
    })
}

/// Flags of a handle that is only looked at.
const HANDLE: OFlags = OFlags::PATH;
