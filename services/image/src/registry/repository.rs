//! One repository for the length of one pull: its hosts in order, its credentials, its manifests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Response, Url};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use super::auth::Subject;
use super::blob::BlobStream;
use super::credential::{self, Credential};
use super::endpoint::{Endpoint, same_origin};
use super::error::{Failure, Message, RegistryError};
use super::manifest::{self, Manifest};
use super::payload::Payload;
use super::retry::{Budget, Patience};
use super::transport::Outgoing;
use super::{Shared, body, challenge};
use crate::document::MANIFEST_BYTES;
use crate::reference::{Digest, ImageRef};

pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

/// The handle of one repository. Clones share what was learned.
#[derive(Debug, Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    reference: ImageRef,
    endpoints: Vec<Endpoint>,
    /// The endpoint that answered last.
    current: AtomicUsize,
    /// Credentials that came with the request: for the registry itself, not for its mirrors.
    given: Option<Credential>,
    /// What is to be done there.
    access: Access,
    /// Credentials looked up, one for each endpoint, when they were asked for.
    found: Vec<OnceCell<Result<Option<Credential>, String>>>,
}

/// What is to be done in a repository: tokens are given out for one or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Access {
    /// Reading.
    Pull,
    /// Writing, and reading what is there.
    Push,
    /// Asking the registry itself, at the host where it is searched.
    Search,
    /// Asking the registry itself.
    Catalog,
}

/// What a registry says about a manifest without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its digest.
    pub digest: Option<Digest>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its media type.
    pub media_type: Option<String>,
}

/// A document on its way.
struct Ask {
    method: Method,
    /// Tag or digest.
    name: String,
    expected: Option<Digest>,
}

struct Document {
    headers: HeaderMap,
    bytes: Bytes,
    digest: Option<Digest>,
    length: Option<u64>,
}

impl Repository {
    pub(super) fn new(
        shared: Arc<Shared>,
        reference: ImageRef,
        given: Option<Credential>,
        access: Access,
    ) -> Self {
        let map = &shared.wire.map;
        let mut endpoints = match access {
            Access::Search => map.search(reference.domain()).into_iter().collect(),
            _ => map.endpoints(&reference).unwrap_or_default(),
        };
        if access != Access::Pull {
            // Mirrors are read from.
            endpoints.retain(|endpoint| !endpoint.is_mirror);
        }
        let found = endpoints.iter().map(|_| OnceCell::new()).collect();
        let current = AtomicUsize::new(0);
        let inner = Inner { shared, reference, endpoints, current, given, access, found };
        Self { inner: Arc::new(inner) }
    }

    /// The manifest or index that the reference names: by digest if it has one, else by tag.
    pub async fn manifest(&self) -> Result<Manifest, RegistryError> {
        match self.inner.reference.digest() {
            Some(digest) => self.manifest_by_digest(digest).await,
            None => self.document(Ask { method: Method::GET, name: self.tag(), expected: None }).await,
        }
    }

    /// A manifest or index of this repository by its digest.
    pub async fn manifest_by_digest(&self, digest: &Digest) -> Result<Manifest, RegistryError> {
        let ask = Ask { method: Method::GET, name: digest.to_string(), expected: Some(digest.clone()) };
        self.document(ask).await
    }

    /// What the registry says about the manifest that the reference names. Nothing of it is verified.
    pub async fn head(&self) -> Result<Head, RegistryError> {
        let name = self.inner.reference.digest().map_or_else(|| self.tag(), Digest::to_string);
        let document = self.fetch(&Ask { method: Method::HEAD, name, expected: None }).await?;
        Ok(Head {
            digest: header(&document.headers, CONTENT_DIGEST).and_then(|text| text.parse().ok()),
            size: document.length,
            media_type: header(&document.headers, CONTENT_TYPE.as_str()).map(str::to_owned),
        })
    }

    /// The digest that a tag names at the registry itself, as far as it tells.
    pub async fn tagged(&self, tag: &str) -> Result<Option<Digest>, RegistryError> {
        let path = format!("manifests/{tag}");
        let request =
            || Request { accept: Some(manifest::ACCEPT), ..Request::of(Method::HEAD, Place::Below(&path)) };
        let ask = || async {
            match self.request(self.home(), request()).await {
                Ok(response) => {
                    Ok(header(response.headers(), CONTENT_DIGEST).and_then(|digest| digest.parse().ok()))
                }
                Err(Failure::NotFound(_)) => Ok(None),
                Err(failure) => Err(failure),
            }
        };
        self.insist(&format!("manifest {tag}"), ask).await
    }

    /// Sends a manifest and names it, by tag or digest. The registry must come to the same digest.
    pub async fn send_manifest(&self, manifest: &Manifest, name: &str) -> Result<(), RegistryError> {
        let subject = format!("manifest {name}");
        let path = format!("manifests/{name}");
        let media_type = HeaderValue::from_str(&manifest.media_type).map_err(|_| {
            self.error(self.home(), &subject, Failure::protocol("a media type fits no header"))
        })?;
        let request = || Request {
            headers: HeaderMap::from_iter([(CONTENT_TYPE, media_type.clone())]),
            payload: Some(Payload::memory(manifest.bytes.clone())),
            ..Request::of(Method::PUT, Place::Below(&path))
        };
        let response = self.insist(&subject, || self.request(self.home(), request())).await?;
        let named = header(response.headers(), CONTENT_DIGEST).filter(|named| named.starts_with("sha256:"));
        match named.filter(|named| *named != manifest.digest.as_str()) {
            Some(named) => {
                let found = super::error::printable(named);
                let failure = Failure::Corrupt { expected: manifest.digest.to_string(), found };
                Err(self.error(self.home(), &subject, failure))
            }
            None => Ok(()),
        }
    }

    /// A blob from a byte on. Nothing is asked before the stream is read. The stream does not hash: whoever stores the
    /// bytes has the ones before `offset` too, and verifies the whole.
    pub fn blob(&self, digest: &Digest, size: u64, offset: u64) -> BlobStream {
        BlobStream::new(self.clone(), digest.clone(), size, offset)
    }

    /// The host that answered last: the registry or one of its mirrors.
    pub fn host(&self) -> &str {
        self.endpoint(self.current()).map_or(self.inner.reference.domain(), |endpoint| &endpoint.host)
    }

    fn tag(&self) -> String {
        self.inner.reference.tag().unwrap_or(crate::reference::DEFAULT_TAG).to_owned()
    }

    async fn document(&self, ask: Ask) -> Result<Manifest, RegistryError> {
        let document = self.fetch(&ask).await?;
        let announced = header(&document.headers, CONTENT_TYPE.as_str());
        let wrong = |failure| self.error(self.current(), &subject(&ask), failure);
        let (kind, media_type) = manifest::classify(&document.bytes, announced)
            .map_err(|error| wrong(Failure::Protocol(error.to_string())))?;
        let digest = document.digest.ok_or_else(|| wrong(Failure::protocol("sent no manifest")))?;
        Ok(Manifest { bytes: document.bytes, media_type, kind, digest })
    }

    /// Asks each host until one answers. The error is the registry's own, whatever its mirrors said.
    async fn fetch(&self, ask: &Ask) -> Result<Document, RegistryError> {
        let first = self.current();
        let mut last: Option<(usize, Failure)> = None;
        for index in (first..self.endpoints()).chain(0..first) {
            match self.fetch_from(index, ask).await {
                Ok(document) => {
                    self.prefer(index);
                    return Ok(document);
                }
                Err(failure) => {
                    tracing::debug!(host = self.name_of(index), %failure, "asking for a manifest");
                    if last.is_none() || !self.is_mirror(index) {
                        last = Some((index, failure));
                    }
                }
            }
        }
        let (index, failure) = last.unwrap_or((0, no_address()));
        Err(self.error(index, &subject(ask), failure))
    }

    async fn fetch_from(&self, index: usize, ask: &Ask) -> Result<Document, Failure> {
        let mut budget = self.budget(index);
        loop {
            let failure = match budget.spend(self.fetch_once(index, ask)).await {
                Ok(document) => return Ok(document),
                Err(failure) => failure,
            };
            match budget.next_delay(&failure) {
                Some(delay) => budget.rest(delay).await,
                None => return Err(failure),
            }
        }
    }

    async fn fetch_once(&self, index: usize, ask: &Ask) -> Result<Document, Failure> {
        let path = format!("manifests/{}", ask.name);
        let request = Request {
            accept: Some(manifest::ACCEPT),
            ..Request::of(ask.method.clone(), Place::Below(&path))
        };
        let response = self.request(index, request).await?;
        let headers = response.headers().clone();
        let announced = header(&headers, CONTENT_DIGEST).map(str::to_owned);
        if ask.method == Method::HEAD {
            // The client takes the body's length, which is none; the header is what was asked for.
            let length = header(&headers, "content-length").and_then(|text| text.parse().ok());
            return Ok(Document { headers, bytes: Bytes::new(), digest: None, length });
        }
        let bytes = body::read(response, MANIFEST_BYTES, self.inner.shared.wire.patience.idle).await?;
        let digest = Digest::from_sha256(&Sha256::digest(&bytes).into());
        // A registry may name its content by another algorithm beside ours, which cannot be compared.
        let announced = announced.filter(|text| text.starts_with("sha256:"));
        for expected in ask.expected.iter().map(Digest::to_string).chain(announced) {
            if expected != digest.as_str() {
                let expected = super::error::printable(&expected);
                return Err(Failure::Corrupt { expected, found: digest.to_string() });
            }
        }
        let length = Some(bytes.len() as u64);
        Ok(Document { headers, bytes, digest: Some(digest), length })
    }

    /// One request with whatever way in is known, answering one challenge.
    pub(super) async fn request(&self, index: usize, request: Request<'_>) -> Result<Response, Failure> {
        let endpoint = self.endpoint(index).ok_or_else(no_address)?;
        let shared = &self.inner.shared;
        let base = shared.wire.base(endpoint).await?;
        let url = self.address(&base, &request.place)?;
        // What we know belongs to the registry, wherever it sends us on.
        let is_home = same_origin(&base, &url);
        let mut subject = Subject {
            registry: base,
            scopes: self.scopes(request.from),
            credential: self.known_credential(index),
        };
        let mut authorization = shared.grants.known(&subject).await.filter(|_| is_home);
        let mut challenged = false;
        loop {
            let outgoing = Outgoing {
                method: request.method.clone(),
                accept: request.accept,
                offset: request.offset,
                authorization: authorization.clone(),
                headers: request.headers.clone(),
                payload: request.payload.clone(),
                more_patience: request.more_patience,
                ..Outgoing::get(url.clone())
            };
            let reply = shared.wire.send(outgoing).await.inspect_err(|failure| {
                if matches!(failure, Failure::Unreachable(_) | Failure::Tls(_)) {
                    shared.wire.forget(endpoint);
                }
            })?;
            let status = reply.response.status();
            if status == StatusCode::BAD_REQUEST {
                // So answers a TLS server that is spoken to in clear.
                shared.wire.forget(endpoint);
            }
            if status.is_success() {
                return Ok(reply.response);
            }
            // Another host's challenge is not ours to answer: what we know belongs to the registry.
            if status != StatusCode::UNAUTHORIZED || reply.redirected || challenged || !is_home {
                return Err(self.refusal(index, reply.response).await);
            }
            challenged = true;
            let Some(challenge) = best_challenge(reply.response.headers()) else {
                return Err(self.refusal(index, reply.response).await);
            };
            // Read to its end, so that the connection can be used again.
            body::explain(reply.response, shared.wire.patience.idle).await;
            subject.credential = self.credential(index).await;
            let answer =
                shared.grants.answer(&shared.wire, &subject, challenge, authorization.as_ref()).await;
            authorization = Some(answer.map_err(|failure| self.with_credential_trouble(index, failure))?);
        }
    }

    fn address(&self, base: &Url, place: &Place<'_>) -> Result<Url, Failure> {
        match place {
            Place::Below(path) => {
                let path = format!("v2/{}/{path}", self.inner.reference.repository());
                base.join(&path).map_err(|_| Failure::protocol("the repository's name makes no address"))
            }
            Place::Root(path) => {
                base.join(path).map_err(|_| Failure::protocol("the registry's name makes no address"))
            }
            Place::At(url) if base.scheme() == "https" && url.scheme() != "https" => {
                Err(Failure::protocol("sent us from HTTPS to plain HTTP"))
            }
            Place::At(url) => Ok(url.clone()),
        }
    }

    /// What a token must allow; empty where the registry says that itself.
    fn scopes(&self, from: Option<&str>) -> Vec<String> {
        let own = self.inner.reference.repository();
        let mut scopes = match self.inner.access {
            Access::Pull => vec![format!("repository:{own}:pull")],
            Access::Push => vec![format!("repository:{own}:pull,push")],
            Access::Search | Access::Catalog => vec!["registry:catalog:*".to_owned()],
        };
        scopes.extend(from.map(|from| format!("repository:{from}:pull")));
        scopes
    }

    /// Does something at the registry itself, again and again within its patience.
    pub(super) async fn insist<T, F>(&self, subject: &str, step: impl Fn() -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut budget = self.budget(self.home());
        loop {
            let failure = match budget.spend(step()).await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            match budget.next_delay(&failure) {
                Some(delay) => budget.rest(delay).await,
                None => return Err(self.error(self.home(), subject, failure)),
            }
        }
    }

    async fn refusal(&self, index: usize, response: Response) -> Failure {
        let failure = body::explain(response, self.inner.shared.wire.patience.idle).await;
        self.with_credential_trouble(index, failure)
    }

    /// If stored credentials could not be read, that is the better explanation of a refusal.
    fn with_credential_trouble(&self, index: usize, failure: Failure) -> Failure {
        let trouble =
            self.inner.found.get(index).and_then(OnceCell::get).and_then(|found| found.as_ref().err());
        match (failure, trouble) {
            (Failure::Unauthorized(_), Some(trouble)) => {
                Failure::Unauthorized(Message::new(&format!("stored credentials cannot be read: {trouble}")))
            }
            (failure, _) => failure,
        }
    }

    fn known_credential(&self, index: usize) -> Option<Credential> {
        let found = || {
            self.inner.found.get(index).and_then(OnceCell::get).and_then(|found| found.clone().ok().flatten())
        };
        self.given_credential(index).or_else(found)
    }

    async fn credential(&self, index: usize) -> Option<Credential> {
        if let Some(given) = self.given_credential(index) {
            return Some(given);
        }
        let folder = self.inner.shared.docker_config.clone()?;
        let domain = &self.endpoint(index)?.domain;
        let found = self.inner.found.get(index)?.get_or_init(|| credential::look_up(folder, domain)).await;
        found.clone().ok().flatten()
    }

    fn given_credential(&self, index: usize) -> Option<Credential> {
        self.inner.given.clone().filter(|_| !self.is_mirror(index))
    }

    fn is_mirror(&self, index: usize) -> bool {
        self.endpoint(index).is_some_and(|endpoint| endpoint.is_mirror)
    }

    pub(super) fn patience(&self) -> Patience {
        self.inner.shared.wire.patience
    }

    /// A mirror gets less patience than the registry, which is asked after it.
    pub(super) fn budget(&self, index: usize) -> Budget {
        let patience = self.patience();
        Budget::new(if self.is_mirror(index) { patience.for_mirror() } else { patience })
    }

    pub(super) fn endpoint(&self, index: usize) -> Option<&Endpoint> {
        self.inner.endpoints.get(index)
    }

    /// The endpoint to begin with.
    pub(super) fn current(&self) -> usize {
        self.inner.current.load(Ordering::Relaxed)
    }

    pub(super) fn prefer(&self, index: usize) {
        self.inner.current.store(index, Ordering::Relaxed);
    }

    /// The registry itself, which comes after its mirrors.
    pub(super) fn home(&self) -> usize {
        self.inner.endpoints.len().saturating_sub(1)
    }

    pub(super) fn endpoints(&self) -> usize {
        self.inner.endpoints.len()
    }

    fn name_of(&self, index: usize) -> &str {
        self.endpoint(index).map_or(self.inner.reference.domain(), |endpoint| &endpoint.host)
    }

    pub(super) fn error(&self, index: usize, subject: &str, failure: Failure) -> RegistryError {
        RegistryError {
            registry: self.name_of(index).into(),
            repository: self.inner.reference.repository().into(),
            subject: subject.into(),
            failure,
        }
    }
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) enum Place<'a> {
    /// Below the repository: `blobs/sha256:…`.
    Below(&'a str),
    /// Below the registry itself: `v2/_catalog`.
    Root(&'a str),
    /// Where the registry said.
    At(Url),
}

/// One request within a repository.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) place: Place<'a>,
    pub(super) accept: Option<&'static str>,
    pub(super) offset: u64,
    /// Another repository that is read from too.
    pub(super) from: Option<&'a str>,
    pub(super) headers: HeaderMap,
    pub(super) payload: Option<Payload>,
    /// Waited for an answer beyond the usual.
    pub(super) more_patience: Duration,
}

impl<'a> Request<'a> {
    /// A request with nothing to it.
    pub(super) fn of(method: Method, place: Place<'a>) -> Self {
        Self {
            method,
            place,
            accept: None,
            offset: 0,
            from: None,
            headers: HeaderMap::new(),
            payload: None,
            more_patience: Duration::ZERO,
        }
    }
}

fn no_address() -> Failure {
    Failure::protocol("the registry's name is no address")
}

fn subject(ask: &Ask) -> String {
    format!("manifest {}", ask.name)
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

pub(super) fn best_challenge(headers: &HeaderMap) -> Option<challenge::Challenge> {
    challenge::best(
        headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value: &HeaderValue| value.to_str().ok()),
    )
}
