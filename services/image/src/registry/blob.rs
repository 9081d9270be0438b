//! A blob as a stream that survives broken connections: it goes on at the byte reached and ends exactly at its size.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_RANGE};
use http::{Method, StatusCode};
use reqwest::Response;

use super::error::{Failure, RegistryError};
use super::repository::{Place, Repository, Request};
use super::retry::Budget;
use crate::reference::Digest;

/// How often a blob may be read again from its start because the server cannot resume.
const RESTARTS_MAX: u32 = 5;
/// Connections that a blob may take besides one for each [`BYTES_A_CONNECTION`] of it.
const CONNECTIONS_MIN: u64 = 100;
const BYTES_A_CONNECTION: u64 = 1 << 20;

/// The bytes of a blob, from an offset to its end.
#[derive(Debug)]
pub struct BlobStream {
    repository: Repository,
    digest: Digest,
    size: u64,
    position: u64,
    /// The endpoint asked, and how many were before it.
    endpoint: usize,
    abandoned: usize,
    budget: Budget,
    /// Bytes since the last that counted as progress.
    unmarked: u64,
    body: Option<Body>,
    /// The server answered a range wrongly: ask for the whole and drop what we have.
    ranges_broken: bool,
    restarts: u32,
    connections: u64,
}

#[derive(Debug)]
struct Body {
    response: Response,
    /// Where in the blob its next byte belongs.
    position: u64,
}

impl BlobStream {
    pub(super) fn new(repository: Repository, digest: Digest, size: u64, offset: u64) -> Self {
        Self {
            endpoint: repository.current(),
            budget: repository.budget(repository.current()),
            repository,
            digest,
            size,
            position: offset,
            abandoned: 0,
            unmarked: 0,
            body: None,
            ranges_broken: false,
            restarts: 0,
            connections: 0,
        }
    }

    /// Where in the blob the next byte belongs.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next piece; `None` when the blob is complete. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while self.position < self.size {
            match self.step().await {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {}
                Err(failure) => self.recover(failure).await?,
            }
        }
        match self.body.take() {
            Some(body) => self.finish(body).await.map(|()| None),
            None => Ok(None),
        }
    }

    /// Connects, or reads one piece. `None` if there is nothing to hand on yet.
    async fn step(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(body) = self.body.as_mut() else {
            self.body = Some(self.open().await?);
            return Ok(None);
        };
        let patience = self.repository.patience();
        let chunk = self.budget.spend(read_piece(&mut body.response, patience.idle)).await?;
        let Some(mut chunk) = chunk else {
            return Err(Failure::Truncated { received: body.position, expected: self.size });
        };
        let length = chunk.len() as u64;
        if length > self.size - body.position {
            return Err(Failure::WrongSize {
                expected: self.size,
                found: body.position.saturating_add(length),
            });
        }
        self.unmarked += length;
        if self.unmarked >= patience.progress_bytes {
            self.unmarked = 0;
            self.budget.reset();
        }
        let known = (self.position - body.position).min(length);
        body.position += length;
        self.position += length - known;
        // A length within the chunk, so it fits a `usize`.
        bytes::Buf::advance(&mut chunk, known as usize);
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    async fn open(&mut self) -> Result<Body, Failure> {
        self.connections += 1;
        if self.connections > CONNECTIONS_MIN + self.size / BYTES_A_CONNECTION {
            return Err(Failure::protocol(format!("broke the connection {} times", self.connections)));
        }
        let offset = if self.ranges_broken { 0 } else { self.position };
        let path = format!("blobs/{}", self.digest);
        let request = Request { offset, ..Request::of(Method::GET, Place::Below(&path)) };
        let response = self.budget.spend(self.repository.request(self.endpoint, request)).await?;
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING).filter(|value| *value != "identity")
        {
            let encoding = super::error::printable(&String::from_utf8_lossy(encoding.as_bytes()));
            return Err(Failure::protocol(format!("sent the blob encoded as {encoding}")));
        }
        let position = self.check_range(&response, offset)?;
        let announced = response.content_length();
        if let Some(length) = announced.filter(|length| *length != self.size - position) {
            return Err(Failure::WrongSize { expected: self.size, found: position.saturating_add(length) });
        }
        if position < self.position {
            self.restarts += 1;
            if self.restarts > RESTARTS_MAX {
                return Err(Failure::protocol(format!("cannot resume and broke off {RESTARTS_MAX} times")));
            }
        }
        self.repository.prefer(self.endpoint);
        Ok(Body { response, position })
    }

    /// Where the body begins.
    fn check_range(&mut self, response: &Response, offset: u64) -> Result<u64, Failure> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(0);
        }
        let header = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        match header.and_then(parse_range) {
            Some((start, size)) if start == offset && size.is_none_or(|size| size == self.size) => Ok(offset),
            _ => {
                self.ranges_broken = true;
                // Passing, because the next attempt asks for no range.
                Err(Failure::Truncated { received: self.position, expected: self.size })
            }
        }
    }

    /// After the last byte nothing may come. A server that only fails to say so costs nothing: the digest decides.
    async fn finish(&mut self, mut body: Body) -> Result<(), RegistryError> {
        match tokio::time::timeout(Duration::from_secs(1), body.response.chunk()).await {
            Ok(Ok(Some(extra))) if !extra.is_empty() => {
                let found = self.size.saturating_add(extra.len() as u64);
                Err(self.error(Failure::WrongSize { expected: self.size, found }))
            }
            _ => Ok(()),
        }
    }

    /// Waits, or turns to the next host, or gives up.
    async fn recover(&mut self, failure: Failure) -> Result<(), RegistryError> {
        self.body = None;
        if is_bad_range(&failure) && self.position > 0 && !self.ranges_broken {
            self.ranges_broken = true;
            return Ok(());
        }
        tracing::debug!(digest = %self.digest, position = self.position, %failure, "reading a blob");
        if let Some(delay) = self.budget.next_delay(&failure) {
            self.budget.rest(delay).await;
            return Ok(());
        }
        self.abandoned += 1;
        if self.abandoned >= self.repository.endpoints() {
            return Err(self.error(failure));
        }
        self.endpoint = (self.endpoint + 1) % self.repository.endpoints();
        self.ranges_broken = false;
        self.restarts = 0;
        self.budget = self.repository.budget(self.endpoint);
        Ok(())
    }

    fn error(&self, failure: Failure) -> RegistryError {
        self.repository.error(self.endpoint, &format!("blob {}", self.digest), failure)
    }
}

async fn read_piece(response: &mut Response, idle: Duration) -> Result<Option<Bytes>, Failure> {
    match tokio::time::timeout(idle, response.chunk()).await {
        Ok(piece) => piece.map_err(Failure::from_http),
        Err(_) => Err(Failure::TimedOut(idle)),
    }
}

fn is_bad_range(failure: &Failure) -> bool {
    matches!(failure, Failure::Server { status: 416, .. })
}

/// `bytes 5-9/10` or `bytes 5-9/*`: the first byte, and the whole size if it is said.
pub(super) fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let size = match size.trim() {
        "*" => None,
        size => Some(size.parse::<u64>().ok()?),
    };
    (start <= end && size.is_none_or(|size| end < size)).then_some((start, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_range("bytes 0-0/*"), Some((0, None)));
        for bad in [
            "",
            "bytes",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "items 5-9/10",
            "bytes 5-9/x",
            "bytes -9/10",
        ] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
