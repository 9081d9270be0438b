//! Requests on the wire: one client for each degree of trust, redirects followed by hand, credentials kept at home.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use davit_trust::{Own, tls};
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Response, Url};

use super::Patience;
use super::endpoint::{Endpoint, Map, Transport, host_of, is_loopback, same_origin};
use super::error::{Failure, printable};
use super::payload::Payload;

const REDIRECTS_MAX: usize = 8;
const USER_AGENT: &str = concat!("davit/", env!("CARGO_PKG_VERSION"));

/// A request before it has credentials and redirects behind it.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: Option<&'static str>,
    pub(super) authorization: Option<HeaderValue>,
    /// The first byte wanted.
    pub(super) offset: u64,
    /// A form to post.
    pub(super) form: Option<String>,
    /// Further headers.
    pub(super) headers: HeaderMap,
    /// What is sent along.
    pub(super) payload: Option<Payload>,
    /// Waited for an answer beyond the usual.
    pub(super) more_patience: Duration,
}

impl Outgoing {
    pub(super) fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            accept: None,
            authorization: None,
            offset: 0,
            form: None,
            headers: HeaderMap::new(),
            payload: None,
            more_patience: Duration::ZERO,
        }
    }
}

/// The answer, and whether it is the asked host's own.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) response: Response,
    pub(super) redirected: bool,
}

/// Everything that is shared by all requests of a service.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) map: Map,
    pub(super) patience: Patience,
    /// Folders with certificates of single registries.
    certificates: Vec<PathBuf>,
    clients: Mutex<HashMap<Trust, reqwest::Client>>,
    /// What was learned about hosts that may speak either.
    speaks_tls: Mutex<HashMap<String, bool>>,
}

/// What a client accepts at the other end. One client each, for a client keeps its connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Trust {
    /// Plain HTTP.
    Plain { loopback: bool },
    /// The system's authorities, and the host's own ones in the state they have.
    Verified { loopback: bool, own: Option<(String, u64)> },
    /// Any certificate.
    Anyone { loopback: bool },
}

impl Wire {
    pub(super) fn new(map: Map, patience: Patience, certificates: Vec<PathBuf>) -> Self {
        Self { map, patience, certificates, clients: Mutex::default(), speaks_tls: Mutex::default() }
    }

    /// The URL below which an endpoint answers, with the scheme that it speaks.
    pub(super) async fn base(&self, endpoint: &Endpoint) -> Result<Url, Failure> {
        if endpoint.transport != Transport::Probe {
            return Ok(endpoint.base.clone());
        }
        let known = lock(&self.speaks_tls).get(&endpoint.host).copied();
        let tls = match known {
            Some(tls) => tls,
            None => match self.probe(endpoint).await? {
                Some(tls) => {
                    lock(&self.speaks_tls).insert(endpoint.host.clone(), tls);
                    tls
                }
                None => false,
            },
        };
        let mut base = endpoint.base.clone();
        if !tls {
            let kept = base.set_scheme("http");
            kept.map_err(|()| Failure::protocol("the registry's address cannot be used with plain HTTP"))?;
        }
        Ok(base)
    }

    /// Forgets what was learned about a host that no longer answers.
    pub(super) fn forget(&self, endpoint: &Endpoint) {
        lock(&self.speaks_tls).remove(&endpoint.host);
    }

    /// Whether TLS is spoken there; `None` if nothing was said in time. A certificate that is refused is an error, never
    /// a reason to try plain HTTP.
    async fn probe(&self, endpoint: &Endpoint) -> Result<Option<bool>, Failure> {
        let mut url = endpoint.base.clone();
        url.set_path("/v2/");
        let request = self.client(&url)?.get(url).send();
        match tokio::time::timeout(self.patience.probe, request).await {
            Ok(Ok(_)) => Ok(Some(true)),
            Ok(Err(error)) if Failure::shows_tls(&error) => Err(Failure::from_http(error)),
            Ok(Err(_)) => Ok(Some(false)),
            Err(_) => Ok(None),
        }
    }

    /// Sends a request and follows redirects: the credentials go no further than the origin they were meant for, an
    /// encrypted request never continues in clear, and plain HTTP stays with hosts that may speak it.
    pub(super) async fn send(&self, outgoing: Outgoing) -> Result<Reply, Failure> {
        let home = outgoing.url.clone();
        let mut outgoing = outgoing;
        for hop in 0..=REDIRECTS_MAX {
            if outgoing.url.scheme() == "http" && !self.map.allows_plain(&outgoing.url) {
                let host = printable(host_of(&outgoing.url));
                return Err(Failure::protocol(format!(
                    "sent us to {host} by plain HTTP, which is not allowed"
                )));
            }
            let response = self.send_once(&outgoing).await?;
            let Some(next) = redirect(&response, &outgoing)? else {
                return Ok(Reply { response, redirected: hop > 0 && !same_origin(&home, &outgoing.url) });
            };
            if !same_origin(&next, &outgoing.url) {
                outgoing.authorization = None;
            }
            outgoing.url = next;
        }
        Err(Failure::protocol(format!("redirected more than {REDIRECTS_MAX} times")))
    }

    async fn send_once(&self, outgoing: &Outgoing) -> Result<Response, Failure> {
        let mut headers = outgoing.headers.clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(accept) = outgoing.accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some(authorization) = &outgoing.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if outgoing.offset > 0 {
            headers.insert(RANGE, number_header(&format!("bytes={}-", outgoing.offset))?);
        }
        let mut request = self
            .client(&outgoing.url)?
            .request(outgoing.method.clone(), outgoing.url.clone())
            .headers(headers);
        if let Some(form) = &outgoing.form {
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            request = request.header(CONTENT_TYPE, kind).body(form.clone());
        }
        if let Some(payload) = &outgoing.payload {
            // What the connection took may still be on its way when the last byte is gone from here.
            let answer = self.patience.progress.saturating_add(outgoing.more_patience);
            let send = request.body(payload.body()).send();
            return payload.watch(send, self.patience.idle, answer).await;
        }
        match tokio::time::timeout(self.patience.answer, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failure::from_http(error)),
            Err(_) => Err(Failure::TimedOut(self.patience.answer)),
        }
    }

    fn client(&self, url: &Url) -> Result<reqwest::Client, Failure> {
        let host = host_of(url);
        let loopback = is_loopback(host);
        let name = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut own = None;
        let trust = if url.scheme() == "http" {
            Trust::Plain { loopback }
        } else if self.map.is_insecure(url) {
            Trust::Anyone { loopback }
        } else {
            own = Own::of(&self.certificates, &name);
            Trust::Verified { loopback, own: own.as_ref().map(|own| (name.clone(), own.version)) }
        };
        if let Some(client) = lock(&self.clients).get(&trust) {
            return Ok(client.clone());
        }
        let client = self.build(&trust, own.as_ref())?;
        let mut clients = lock(&self.clients);
        // What the host's certificates were before is of no use to anybody.
        clients.retain(
            |known, _| !matches!(known, Trust::Verified { own: Some((host, _)), .. } if *host == name),
        );
        clients.insert(trust, client.clone());
        Ok(client)
    }

    fn build(&self, trust: &Trust, own: Option<&Own>) -> Result<reqwest::Client, Failure> {
        let (loopback, tls) = match trust {
            Trust::Plain { loopback } => (*loopback, tls::plain()),
            Trust::Verified { loopback, .. } => {
                (*loopback, tls::verified(own).map_err(|wrong| Failure::Tls(wrong.to_string()))?)
            }
            Trust::Anyone { loopback } => (*loopback, tls::anyone()),
        };
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(self.patience.connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .referer(false)
            // One connection a blob: a slow reader of one must not hold up another.
            .http1_only();
        // A proxy has another idea of what 127.0.0.1 is.
        let built = if loopback { builder.no_proxy().build() } else { builder.build() };
        built.map_err(Failure::from_http)
    }
}

/// Where a redirect leads, checked as a URL; `None` if the response is none.
fn redirect(response: &Response, outgoing: &Outgoing) -> Result<Option<Url>, Failure> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !is_redirect {
        return Ok(None);
    }
    if outgoing.form.is_some() {
        return Err(Failure::protocol("redirected a token request that carries credentials"));
    }
    let keeps_method =
        matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    if !matches!(outgoing.method, Method::GET | Method::HEAD) && !keeps_method {
        return Err(Failure::protocol(format!("redirected a {} request", outgoing.method)));
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| outgoing.url.join(location).ok());
    let next = next.ok_or_else(|| Failure::protocol("redirected without a valid address"))?;
    let encrypted = outgoing.url.scheme() == "https";
    match next.scheme() {
        "https" => {}
        "http" if !encrypted => {}
        "http" => return Err(Failure::protocol("redirected from HTTPS to plain HTTP")),
        scheme => return Err(Failure::protocol(format!("redirected to a {} address", printable(scheme)))),
    }
    if !next.username().is_empty() || next.password().is_some() {
        return Err(Failure::protocol("redirected to an address with credentials in it"));
    }
    Ok(Some(next))
}

pub(super) fn number_header(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|_| Failure::protocol("a header cannot be written"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The maps are whole between any two statements, so a panic elsewhere does not spoil them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
