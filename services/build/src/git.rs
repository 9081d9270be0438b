//! Repositories, read with the host's own `git`, which nobody's settings and no repository's can lead astray.
//!
//! A child process in a group of its own: killed with all its helpers when the build ends early. It asks nobody
//! anything, runs no hook, reads no settings of a user or the host, and speaks no protocol but those that the addresses
//! of repositories have. The folder that it works in lies below the service's own, and is removed with the value that
//! stands for it; one that a dead service left is removed at the next start.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use davit_dockerfile::Repository;
use davit_dockerfile::remote::{is_commit, without_credentials};
use davit_sys::process::signal_pid;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::context::Store;
use crate::error::Error;
use crate::unpack::{Nodes, Watch};
use crate::walk::walk;

/// Bytes of an answer of git, and of its complaint.
const ANSWER: u64 = 1 << 20;
const COMPLAINT: u64 = 64 << 10;
/// Lines of its complaint that are passed on.
const LINES: usize = 5;
const KILL: i32 = 9;
/// A transfer that is slower than this many bytes a second for so many seconds has ended.
const SLOW: [(&str, &str); 2] = [("http.lowSpeedLimit", "1"), ("http.lowSpeedTime", "120")];
/// What no repository may decide.
const SETTINGS: [(&str, &str); 9] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.symlinks", "true"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("credential.helper", ""),
    ("protocol.ext.allow", "never"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
];
/// Nobody is asked, nothing is believed that is not known, and no key of the engine's own user is shown.
const SSH: &str = "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oIdentityFile=none -oIdentityAgent=none -oIdentitiesOnly=yes \
    -oPermitLocalCommand=no -oClearAllForwardings=yes";
/// Variables of the service that git needs to reach anything.
const KEPT: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// What of a repository is meant, once it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The repository.
    pub repository: Repository,
    /// The commit.
    pub commit: String,
    /// The full name of the reference that it was found by; empty where the commit itself was named.
    reference: String,
}

/// Finds the commit that is meant. `wanted` is what `--checksum` says: the beginning of its digest, or all of it.
///
/// # Errors
/// The repository cannot be asked, has no such reference, or it is another commit than is wanted.
pub async fn find(store: &Store, repository: &Repository, wanted: Option<&str>) -> Result<Commit, Error> {
    let repository = repository.clone();
    if let Some(wanted) = wanted {
        let fine =
            wanted.len() >= 7 && wanted.len() <= 64 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !fine {
            let text = format!(
                "invalid --checksum {wanted:?}: must be the digest of a commit, or at least 7 digits of it"
            );
            return Err(Error::Invalid(text));
        }
    }
    let found = match repository.commit() {
        Some(commit) => Commit { commit: commit.to_owned(), reference: String::new(), repository },
        None => ask(store, repository).await?,
    };
    match wanted {
        Some(wanted) if !found.commit.starts_with(&wanted.to_ascii_lowercase()) => Err(Error::Checksum {
            address: without_credentials(&found.repository.address),
            wanted: wanted.to_owned(),
            found: found.commit,
        }),
        _ => Ok(found),
    }
}

/// Asks a repository what a reference of it stands for: a branch before a tag.
async fn ask(store: &Store, repository: Repository) -> Result<Commit, Error> {
    let scratch = Scratch::new(store)?;
    let reference = if repository.reference.is_empty() { "HEAD" } else { &repository.reference };
    let peeled = format!("{reference}^{{}}");
    let words = ["ls-remote", "--quiet", "--", &repository.address, reference, &peeled];
    let answer = scratch.git(&repository.address, &words).await?;
    let lines: Vec<(&str, &str)> = answer.lines().filter_map(|line| line.split_once('\t')).collect();
    let named = |name: &str| lines.iter().find(|(_, found)| *found == name);
    let [branch, tag] = ["heads", "tags"].map(|kind| format!("refs/{kind}/{reference}"));
    // What a tag that has a text of its own stands for comes with a mark behind it.
    let found = [reference.to_owned(), branch, format!("{tag}^{{}}"), tag];
    let found = found.iter().find_map(|name| named(name)).filter(|(commit, _)| is_commit(commit));
    let Some((commit, name)) = found else {
        return Err(Error::Fetch {
            address: without_credentials(&repository.address),
            why: format!("there is no branch or tag {reference:?}"),
        });
    };
    let reference = name.trim_end_matches("^{}").to_owned();
    Ok(Commit { commit: (*commit).to_owned(), reference, repository })
}

/// Reads the files of a commit into the store. With `keep`, the repository's own folder is among them.
///
/// # Errors
/// It cannot be fetched, or the disk fails.
pub async fn checkout(store: &Store, wanted: &Commit, keep: bool) -> Result<Nodes, Error> {
    let scratch = Scratch::new(store)?;
    let address = wanted.repository.address.as_str();
    scratch.git(address, &["init", "--quiet", "--template=", "."]).await?;
    let origin = without_credentials(address);
    scratch.git(address, &["remote", "add", "--", "origin", &origin]).await?;
    scratch.fetch(wanted).await?;
    scratch.git(address, &["checkout", "--quiet", "--force", "--detach", &wanted.commit, "--"]).await?;
    if scratch.path().join(".gitmodules").is_file() {
        scratch.submodules(address).await?;
    }
    let time = scratch.git(address, &["show", "--no-patch", "--format=%ct", &wanted.commit, "--"]).await?;
    let time = time.lines().next().and_then(|time| time.trim().parse().ok()).unwrap_or(0);
    let (store, watch) = (store.clone(), Watch::default());
    let watched = watch.watched();
    let folder = wanted.repository.folder.clone();
    let read = crate::stage::blocking(move || {
        let top = scratch.path().to_owned();
        let leave_out = |path: &Path| !keep && path.file_name() == Some(OsStr::new(".git"));
        let nodes = walk(&top, &store, &watched, (time, 0), &leave_out)?;
        below(nodes, &folder)
    });
    let nodes = read.await;
    drop(watch);
    nodes
}

/// What is in a folder of a tree.
fn below(nodes: Nodes, folder: &str) -> Result<Nodes, Error> {
    if folder.is_empty() {
        return Ok(nodes);
    }
    let top = crate::tree::clean(folder);
    if !nodes.get(&top).is_some_and(crate::tree::Node::is_dir) {
        return Err(Error::NotFound(format!("{folder} in the repository")));
    }
    let inner = nodes.into_iter().filter_map(|(path, node)| {
        let inner = path.strip_prefix(&top).ok()?.to_owned();
        (!inner.as_os_str().is_empty()).then_some((inner, node))
    });
    Ok(inner.collect())
}

/// A folder that git works in.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new(store: &Store) -> Result<Self, Error> {
        let folder = store.scratch();
        let made = tempfile::Builder::new().prefix("git-").tempdir_in(&folder);
        made.map(Self).map_err(Error::io(format!("make a folder in {}", folder.display())))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fetches a commit alone; where a server does not give single commits, its reference, and where it does not give
    /// the newest alone, all that is before it.
    async fn fetch(&self, wanted: &Commit) -> Result<(), Error> {
        let address = wanted.repository.address.as_str();
        let shallow = ["fetch", "--quiet", "--no-tags", "--depth=1", "--", address, &wanted.commit];
        if self.git(address, &shallow).await.is_ok() {
            return Ok(());
        }
        let reference = format!("+{}:refs/davit", wanted.reference);
        let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        let what = if wanted.reference.is_empty() { &all[..] } else { &[reference.as_str()][..] };
        let words: Vec<&str> = ["fetch", "--quiet", "--no-tags", "--", address]
            .into_iter()
            .chain(what.iter().copied())
            .collect();
        self.git(address, &words).await.map(drop)
    }

    async fn submodules(&self, address: &str) -> Result<(), Error> {
        let words = ["submodule", "--quiet", "update", "--init", "--recursive"];
        let shallow: Vec<&str> = words.into_iter().chain(["--depth=1"]).collect();
        if self.git(address, &shallow).await.is_ok() {
            return Ok(());
        }
        self.git(address, &words).await.map(drop)
    }

    /// Runs git in the folder, and answers with what it printed.
    async fn git(&self, address: &str, words: &[&str]) -> Result<String, Error> {
        let failed = |why: String| Error::Fetch { address: without_credentials(address), why };
        let mut child = match self.command(words).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(failed(
                    "there is no git on the engine's host: install it to build from repositories".to_owned(),
                ));
            }
            Err(error) => return Err(failed(format!("run git: {error}"))),
        };
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
        let (mut answer, mut complaint) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read = async {
            let answered = async {
                match stdout {
                    Some(stdout) => stdout.take(ANSWER).read_to_end(&mut answer).await.map(drop),
                    None => Ok(()),
                }
            };
            let complained = async {
                match stderr {
                    Some(stderr) => stderr.take(COMPLAINT).read_to_end(&mut complaint).await.map(drop),
                    None => Ok(()),
                }
            };
            let (answered, complained) = tokio::join!(answered, complained);
            answered.and(complained)
        };
        let read = read.await;
        let ended = child.wait().await;
        group.let_go();
        let status = read.and(ended).map_err(|error| failed(format!("run git: {error}")))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        Err(failed(complained(&complaint, address)))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("git");
        let settings = SETTINGS.iter().chain(&SLOW);
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command
            .args(words)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path().join(".git"))
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("SSH_ASKPASS", "true")
            .env("GIT_SSH_COMMAND", SSH)
            .env("GIT_ALLOW_PROTOCOL", "http:https:git:ssh")
            .env("GIT_CEILING_DIRECTORIES", self.path().parent().unwrap_or(self.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for name in KEPT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }
}

/// A process and its helpers, which end with the value that stands for them.
struct Group(Option<i32>);

impl Group {
    /// It has ended by itself.
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0
            && let Err(error) = signal_pid(-leader, KILL)
        {
            tracing::warn!(%error, "a git that nobody waits for could not be ended");
        }
    }
}

/// The last lines that git said of a failure, without who logs in.
fn complained(complaint: &[u8], address: &str) -> String {
    let text = String::from_utf8_lossy(complaint).replace(address, &without_credentials(address));
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(LINES);
    let said: String = lines.get(from..).unwrap_or_default().join("; ");
    let plain: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect();
    if plain.is_empty() { "git failed and did not say why".to_owned() } else { plain }
}

impl Store {
    /// The folder for what is needed for a moment only.
    pub fn scratch(&self) -> PathBuf {
        self.folder().join("scratch")
    }
}
