//! One request to a web server: redirects followed by hand, credentials kept where they belong, and everything bounded
//! in time without progress.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use davit_dockerfile::remote::without_credentials;
use davit_trust::{Own, tls};
use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_DISPOSITION, ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    LOCATION,
};
use reqwest::{Client, Response, Url};

use super::Fetched;
use crate::error::Error;

const REDIRECTS: usize = 10;
const CONNECT: Duration = Duration::from_secs(30);
/// Until the answer begins, and between two pieces of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Characters of what a server says that are kept.
const SAID: usize = 1024;
const USER_AGENT: &str = concat!("davit/", env!("CARGO_PKG_VERSION"));

/// What a server answered.
pub enum Answer {
    /// It has nothing newer.
    Unchanged,
    /// A file.
    New(Box<File>),
}

/// A file that is coming.
pub struct File {
    pub response: Response,
    pub name: String,
    pub last_modified: String,
    pub etag: String,
}

/// Asks for a file; with what is known of it, only for a newer one.
pub async fn get(address: &str, known: Option<&Fetched>) -> Result<Answer, Error> {
    let failed = |why: String| Error::Fetch { address: without_credentials(address), why };
    let mut url = Url::parse(address).map_err(|error| failed(error.to_string()))?;
    for _ in 0..=REDIRECTS {
        let mut request = client(&url).map_err(failed)?.get(url.clone());
        request = request.header(ACCEPT_ENCODING, "identity");
        if let Some(known) = known {
            // An etag says more than a date, and some servers believe the date when they are told both.
            if !known.etag.is_empty() {
                request = request.header(IF_NONE_MATCH, &known.etag);
            } else if !known.last_modified.is_empty() {
                request = request.header(IF_MODIFIED_SINCE, &known.last_modified);
            }
        }
        let response = match tokio::time::timeout(PATIENCE, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failed(reasons(&error))),
            Err(_) => return Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        match response.status() {
            StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Answer::Unchanged),
            StatusCode::OK => return Ok(Answer::New(Box::new(file(&url, response)))),
            status if status.is_redirection() => url = next(&url, &response).map_err(failed)?,
            status => return Err(failed(format!("the server answered {status}"))),
        }
    }
    Err(failed(format!("redirected more than {REDIRECTS} times")))
}

/// Some more of a file.
pub async fn piece(response: &mut Response, address: &str) -> Result<Option<Bytes>, Error> {
    let failed = |why: String| Error::Fetch { address: without_credentials(address), why };
    match tokio::time::timeout(PATIENCE, response.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(failed(reasons(&error))),
        Err(_) => Err(failed(format!("nothing came for {} s", PATIENCE.as_secs()))),
    }
}

fn file(url: &Url, response: Response) -> File {
    let said = |name| {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if value.len() > SAID { String::new() } else { value.to_owned() }
    };
    let (last_modified, etag) = (said(LAST_MODIFIED), said(ETAG));
    let name = name(url).or_else(|| disposition(response.headers())).unwrap_or_default();
    File { name, last_modified, etag, response }
}

/// The name that an address gives a file.
fn name(url: &Url) -> Option<String> {
    usable(&unescaped(url.path_segments()?.next_back()?)?)
}

/// The name that a server gives a file.
fn disposition(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_DISPOSITION)?.to_str().ok()?;
    let mut plain = None;
    for part in text.split(';').map(str::trim) {
        let Some((key, value)) = part.split_once('=') else { continue };
        match key.trim().to_ascii_lowercase().as_str() {
            "filename*" => {
                let escaped = value.trim().split_once("''").map(|(_, escaped)| escaped);
                if let Some(name) = escaped.and_then(unescaped).and_then(|name| usable(&name)) {
                    return Some(name);
                }
            }
            "filename" => plain = usable(value.trim().trim_matches('"')),
            _ => {}
        }
    }
    plain
}

/// A single name that can be one of a file.
fn usable(name: &str) -> Option<String> {
    let name = name.rsplit('/').next().unwrap_or_default();
    let fine = !name.is_empty() && name.len() <= 255 && !matches!(name, "." | "..");
    (fine && !name.chars().any(char::is_control)).then(|| name.to_owned())
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let digits = more.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = more.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// Where a redirect leads. What was encrypted does not go on in clear.
fn next(from: &Url, response: &Response) -> Result<Url, String> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| from.join(location).ok());
    let mut next = next.ok_or_else(|| "redirected without a valid address".to_owned())?;
    match (from.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => {}
        (_, "http") => return Err("redirected from HTTPS to plain HTTP".to_owned()),
        (_, scheme) => return Err(format!("redirected to a {scheme:?} address")),
    }
    // Who logs in at one server has no business at another.
    if from.origin() != next.origin() && (!next.username().is_empty() || next.password().is_some()) {
        return Err("redirected to an address with credentials in it".to_owned());
    }
    if from.origin() == next.origin() && next.username().is_empty() {
        let kept = next.set_username(from.username()).and_then(|()| next.set_password(from.password()));
        kept.map_err(|()| "redirected to an address that takes no credentials".to_owned())?;
    }
    Ok(next)
}

/// A client that believes in a host what pulls believe in it.
fn client(url: &Url) -> Result<Client, String> {
    let host = url.host_str().unwrap_or_default();
    let name = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let trusted = if url.scheme() == "http" {
        tls::plain()
    } else {
        let own = Own::of(&davit_trust::FOLDERS.map(PathBuf::from), &name);
        tls::verified(own.as_ref()).map_err(|error| error.to_string())?
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost"
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    let builder = Client::builder()
        .user_agent(USER_AGENT)
        .tls_backend_preconfigured(trusted)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT)
        .referer(false)
        .http1_only();
    // A proxy has another idea of what 127.0.0.1 is.
    let built = if loopback { builder.no_proxy().build() } else { builder.build() };
    built.map_err(|error| reasons(&error))
}

/// An error with what is behind it, for none of them says much alone.
fn reasons(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    if parts.is_empty() { "the request failed".to_owned() } else { parts.join(": ") }
}

/// Seconds since 1970 of a date as servers write it.
pub fn date(text: &str) -> Option<i64> {
    Some(rfc2822::parse(text).ok()?.timestamp().as_second()).filter(|seconds| *seconds >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_address_and_else_from_the_server() {
        let of = |text: &str| name(&Url::parse(text).unwrap());
        assert_eq!(of("https://h/a/b.tar.gz?x=/y").as_deref(), Some("b.tar.gz"));
        assert_eq!(of("https://h/a%20b%2e").as_deref(), Some("a b."));
        assert_eq!(of("https://h/a%2fb").as_deref(), Some("b"));
        for none in ["https://h/", "https://h", "https://h/a/", "https://h/%00", "https://h/%2e%2e"] {
            assert_eq!(of(none), None, "{none}");
        }
        let said =
            |text: &str| disposition(&HeaderMap::from_iter([(CONTENT_DISPOSITION, text.parse().unwrap())]));
        assert_eq!(said("attachment; filename=\"x y.txt\"").as_deref(), Some("x y.txt"));
        assert_eq!(said("attachment; filename=a; filename*=UTF-8''%c3%a4").as_deref(), Some("ä"));
        assert_eq!(said("attachment; filename=\"../../etc/passwd\"").as_deref(), Some("passwd"));
        assert_eq!(said("attachment; filename=\"..\""), None);
        assert_eq!(said("inline"), None);
    }
}
