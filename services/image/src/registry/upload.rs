//! A blob on its way into a registry: only if it is not there, taken over from a neighbour where that goes, else in
//! chunks, going on after a broken connection where the registry says that it stands.
//!
//! ```text
//! HEAD blob ─ there ─▶ done
//!     └─ POST uploads/?mount=&from= ─ 201 ─▶ done        neighbours of the same registry, one after the other
//!     └─ POST uploads/ ─▶ Send ─ PATCH chunk ─▶ Send …   ─▶ PUT ?digest= ─▶ done
//!                          ▲  └ broken ─▶ Ask ─ GET ─┘ the place reached; a session that is lost begins anew
//! ```

use std::fs::File;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Response, Url};

use super::error::{Failure, RegistryError};
use super::payload::{Meter, Payload};
use super::repository::{Place, Repository, Request, header};
use super::retry::Budget;
use super::transport::number_header;
use crate::reference::Digest;

/// Most bytes of one request: what is lost at most where a registry forgets what came of a broken one.
const CHUNK: u64 = 32 << 20;
/// How often a blob may be begun anew because its session was lost.
const RESTARTS_MAX: u32 = 4;
/// Connections that a blob may take besides one for each [`BYTES_A_CONNECTION`] of it.
const CONNECTIONS_MIN: u64 = 64;
const BYTES_A_CONNECTION: u64 = 1 << 20;
/// Bytes a second that a registry must be able to read again when it checks a whole blob.
const CHECKED_A_SECOND: u64 = 8 << 20;

/// A blob to be sent.
#[derive(Clone)]
pub struct Outbound {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its bytes.
    pub file: Arc<File>,
    /// Told how far it got.
    pub meter: Meter,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outbound").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// Where an upload stands.
#[derive(Debug)]
enum Stage {
    Begin,
    Send { session: Url, offset: u64 },
    Ask { session: Url },
    Done,
}

/// One upload under way.
struct Upload<'a> {
    repository: &'a Repository,
    blob: &'a Outbound,
    stage: Stage,
    budget: Budget,
    chunk: u64,
    /// The furthest that the registry confirmed.
    confirmed: u64,
    restarts: u32,
    connections: u64,
}

impl Repository {
    /// Whether the registry has a blob, in this repository.
    pub async fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, RegistryError> {
        self.insist(&format!("blob {digest}"), || self.look_for(digest, size)).await
    }

    /// Has the registry take a blob over from another repository of its own. False where it does not: it may not have
    /// it there, may not let us, or may not know how.
    pub async fn mount_blob(&self, digest: &Digest, from: &str) -> Result<bool, RegistryError> {
        let subject = format!("blob {digest} from {from}");
        let path = format!("blobs/uploads/?mount={digest}&from={from}");
        let request = || Request { from: Some(from), ..Request::of(Method::POST, Place::Below(&path)) };
        let answer = self.insist(&subject, || self.request(self.home(), request())).await;
        let response = match answer {
            Ok(response) => response,
            Err(error) if !error.failure.is_transient() => return Ok(false),
            Err(error) => return Err(error),
        };
        if response.status() == StatusCode::CREATED {
            return Ok(true);
        }
        // A session was begun instead, which nobody will use. That it stays is the registry's own business.
        if let Ok(session) = session(&response) {
            let _ = self.request(self.home(), Request::of(Method::DELETE, Place::At(session))).await;
        }
        Ok(false)
    }

    /// Sends a blob.
    pub async fn send_blob(&self, blob: &Outbound) -> Result<(), RegistryError> {
        let upload = Upload {
            repository: self,
            blob,
            stage: Stage::Begin,
            budget: self.budget(self.home()),
            chunk: CHUNK,
            confirmed: 0,
            restarts: 0,
            connections: 0,
        };
        upload
            .run()
            .await
            .map_err(|failure| self.error(self.home(), &format!("blob {}", blob.digest), failure))
    }

    async fn look_for(&self, digest: &Digest, size: u64) -> Result<bool, Failure> {
        let path = format!("blobs/{digest}");
        match self.request(self.home(), Request::of(Method::HEAD, Place::Below(&path))).await {
            Ok(response) => {
                let length = header(response.headers(), CONTENT_LENGTH.as_str());
                // One of another size cannot have the digest: it is broken there, and sent anew.
                Ok(length.is_none_or(|length| length.parse() == Ok(size)))
            }
            Err(Failure::NotFound(_)) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

impl Upload<'_> {
    async fn run(mut self) -> Result<(), Failure> {
        loop {
            let next = match &self.stage {
                Stage::Begin => self.begin().await,
                Stage::Send { session, offset } => self.send(session.clone(), *offset).await,
                Stage::Ask { session } => self.ask(session.clone()).await,
                Stage::Done => return Ok(()),
            };
            match next {
                Ok(stage) => self.reach(stage)?,
                Err(failure) => self.recover(failure).await?,
            }
        }
    }

    /// Notes how far it got. Bytes that the registry confirms are progress, and only they.
    fn reach(&mut self, stage: Stage) -> Result<(), Failure> {
        if let Stage::Send { offset, .. } = &stage {
            if *offset > self.blob.size {
                return Err(Failure::protocol(format!(
                    "says that it has {offset} bytes of a blob of {}",
                    self.blob.size
                )));
            }
            let step = self.repository.patience().progress_bytes;
            if *offset == self.blob.size || *offset >= self.confirmed.saturating_add(step) {
                self.budget.reset();
            }
            self.confirmed = self.confirmed.max(*offset);
        }
        self.stage = stage;
        Ok(())
    }

    /// Decides how it goes on after a failure: from where the registry says that it stands, or anew.
    async fn recover(&mut self, failure: Failure) -> Result<(), Failure> {
        tracing::debug!(digest = %self.blob.digest, stage = ?self.stage, %failure, "sending a blob");
        let lost = self.is_lost(&failure);
        self.stage = match std::mem::replace(&mut self.stage, Stage::Begin) {
            Stage::Ask { .. } if lost => self.restart(),
            Stage::Send { session, .. } | Stage::Ask { session } => Stage::Ask { session },
            Stage::Begin | Stage::Done => Stage::Begin,
        };
        if lost && self.restarts <= RESTARTS_MAX {
            return Ok(());
        }
        if let Failure::TimedOut(waited) = &failure {
            self.budget.charge(*waited);
        }
        let delay = self.budget.next_delay(&failure).ok_or(failure)?;
        self.budget.rest(delay).await;
        Ok(())
    }

    /// Whether the session is no longer there, or stands elsewhere than we think. A whole blob that is refused is
    /// refused.
    fn is_lost(&self, failure: &Failure) -> bool {
        let whole = match &self.stage {
            Stage::Send { offset, .. } => *offset == self.blob.size,
            Stage::Ask { .. } => false,
            Stage::Begin | Stage::Done => return false,
        };
        match failure {
            Failure::NotFound(_) => true,
            Failure::Server { status: 400, .. } => !whole,
            Failure::Server { status, .. } => matches!(status, 409 | 410 | 416),
            _ => false,
        }
    }

    fn restart(&mut self) -> Stage {
        self.restarts += 1;
        self.confirmed = 0;
        Stage::Begin
    }

    async fn begin(&mut self) -> Result<Stage, Failure> {
        self.connect()?;
        // The answer to the last request may be all that was lost.
        if self.restarts > 0 && self.repository.look_for(&self.blob.digest, self.blob.size).await? {
            return Ok(Stage::Done);
        }
        let request = Request::of(Method::POST, Place::Below("blobs/uploads/"));
        let response = self.budget.spend(self.repository.request(self.repository.home(), request)).await?;
        if let Some(least) = number(response.headers(), "oci-chunk-min-length") {
            self.chunk = self.chunk.max(least);
        }
        Ok(Stage::Send { session: session(&response)?, offset: 0 })
    }

    async fn send(&mut self, session: Url, offset: u64) -> Result<Stage, Failure> {
        self.connect()?;
        let size = self.blob.size;
        if offset == size {
            return self.finish(session).await;
        }
        let length = self.chunk.min(size - offset);
        let payload =
            Payload::file(Arc::clone(&self.blob.file), offset, length, Arc::clone(&self.blob.meter));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if length < size {
            headers.insert(CONTENT_RANGE, number_header(&format!("{offset}-{}", offset + length - 1))?);
        }
        let request = Request {
            headers,
            payload: Some(payload),
            ..Request::of(Method::PATCH, Place::At(session.clone()))
        };
        let response = self.repository.request(self.repository.home(), request).await?;
        let offset = match range_end(response.headers()) {
            // Nothing and one byte look the same; of many it is nothing.
            Some(0) if length > 1 => offset,
            Some(end) => end.saturating_add(1),
            None => offset + length,
        };
        Ok(Stage::Send { session: self::session(&response).unwrap_or(session), offset })
    }

    async fn finish(&mut self, mut session: Url) -> Result<Stage, Failure> {
        session.query_pairs_mut().append_pair("digest", self.blob.digest.as_str());
        let checking = std::time::Duration::from_secs(self.blob.size / CHECKED_A_SECOND);
        let request = Request {
            payload: Some(Payload::memory(bytes::Bytes::new())),
            more_patience: checking,
            ..Request::of(Method::PUT, Place::At(session))
        };
        let response = self.repository.request(self.repository.home(), request).await?;
        let named = header(response.headers(), super::repository::CONTENT_DIGEST);
        match named.filter(|named| named.starts_with("sha256:") && *named != self.blob.digest.as_str()) {
            Some(named) => Err(Failure::Corrupt {
                expected: self.blob.digest.to_string(),
                found: super::error::printable(named),
            }),
            None => Ok(Stage::Done),
        }
    }

    async fn ask(&mut self, session: Url) -> Result<Stage, Failure> {
        self.connect()?;
        let request = Request::of(Method::GET, Place::At(session.clone()));
        let response = self.budget.spend(self.repository.request(self.repository.home(), request)).await?;
        let offset = match range_end(response.headers()) {
            // "0-0" is what a registry says that has nothing yet.
            None | Some(0) => 0,
            Some(end) => end.saturating_add(1),
        };
        Ok(Stage::Send { session: self::session(&response).unwrap_or(session), offset })
    }

    fn connect(&mut self) -> Result<(), Failure> {
        self.connections += 1;
        if self.connections > CONNECTIONS_MIN + self.blob.size / BYTES_A_CONNECTION {
            return Err(Failure::protocol(format!("broke the upload off {} times", self.connections)));
        }
        Ok(())
    }
}

/// Where to go on, as the answer says: an absolute address, or one relative to the asked one.
fn session(response: &Response) -> Result<Url, Failure> {
    let location = header(response.headers(), LOCATION.as_str());
    let url = location.and_then(|location| response.url().join(location).ok());
    let url = url.filter(|url| url.has_host() && url.username().is_empty() && url.password().is_none());
    url.ok_or_else(|| Failure::protocol("began an upload without saying where"))
}

/// The last byte that a registry has: `0-1023`, or `bytes=0-1023`.
fn range_end(headers: &HeaderMap) -> Option<u64> {
    let text = header(headers, RANGE.as_str())?;
    text.trim().trim_start_matches("bytes").trim_start_matches('=').split_once('-')?.1.trim().parse().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    header(headers, name)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_registries_write_them() {
        let end = |text: &str| range_end(&HeaderMap::from_iter([(RANGE, text.parse().unwrap())]));
        assert_eq!(end("0-1023"), Some(1023));
        assert_eq!(end("bytes=0-9"), Some(9));
        assert_eq!(end("0-0"), Some(0));
        for bad in ["", "x", "0-", "0--1", "5"] {
            assert_eq!(end(bad), None, "{bad}");
        }
    }
}
