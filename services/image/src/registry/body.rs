//! Small bodies: documents and the words of a registry about its errors, read within limits.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::Response;
use serde::Deserialize;

use super::error::{Failure, Message};

/// Longest explanation of an error that is read.
const EXPLANATION_MAX: usize = 16 * 1024;

/// Reads a whole body of at most `limit` bytes; `idle` is how long one piece of it may take.
pub(super) async fn read(mut response: Response, limit: usize, idle: Duration) -> Result<Bytes, Failure> {
    let too_large = || Failure::TooLarge { limit: limit as u64 };
    let announced = response.content_length();
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    loop {
        match tokio::time::timeout(idle, response.chunk()).await {
            Err(_) => return Err(Failure::TimedOut(idle)),
            Ok(Ok(Some(chunk))) if body.len() + chunk.len() > limit => return Err(too_large()),
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            Ok(Ok(None)) => return Ok(body.freeze()),
            Ok(Err(error)) => {
                let received = body.len() as u64;
                return Err(match announced {
                    Some(expected) if expected > received => Failure::Truncated { received, expected },
                    _ => Failure::from_http(error),
                });
            }
        }
    }
}

/// What an answer other than success means, with the registry's words if it gives any.
pub(super) async fn explain(response: Response, idle: Duration) -> Failure {
    let status = response.status();
    let headers = response.headers().clone();
    let body = read(response, EXPLANATION_MAX, idle).await.unwrap_or_default();
    failure(status, Some(&headers), &body)
}

/// The failure that a status, its headers and its body stand for.
pub(super) fn failure(status: StatusCode, headers: Option<&HeaderMap>, body: &[u8]) -> Failure {
    let message = Message::new(&words(body));
    match status {
        StatusCode::NOT_FOUND => Failure::NotFound(message),
        StatusCode::UNAUTHORIZED => Failure::Unauthorized(message),
        StatusCode::FORBIDDEN => Failure::Denied(message),
        StatusCode::TOO_MANY_REQUESTS => {
            Failure::RateLimited { retry_after: headers.and_then(retry_after), message }
        }
        _ => Failure::Server { status: status.as_u16(), message },
    }
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(Timestamp::now())).unwrap_or_default())
}

#[derive(Deserialize)]
struct Explanation {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The first reason of the registry's JSON, or nothing: HTML pages of proxies help nobody.
fn words(body: &[u8]) -> String {
    let explanation: Option<Explanation> = serde_json::from_slice(body).ok();
    match explanation.and_then(|explanation| explanation.errors.into_iter().next()) {
        Some(Reason { code, message }) if message.is_empty() => code,
        Some(Reason { message, .. }) => message,
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())])
    }

    #[test]
    fn a_status_and_its_words_become_a_failure() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        let failure = |status: u16| failure(StatusCode::from_u16(status).unwrap(), None, body);
        assert_eq!(failure(404).to_string(), "not found: manifest unknown");
        assert!(matches!(failure(401), Failure::Unauthorized(_)));
        assert!(matches!(failure(403), Failure::Denied(_)));
        assert!(matches!(failure(429), Failure::RateLimited { .. }));
        assert_eq!(failure(502).to_string(), "answered 502: manifest unknown");
        assert_eq!(words(b"<html>oops</html>"), "");
        assert_eq!(words(br#"{"errors":[{"code":"DENIED"}]}"#), "DENIED");
        assert_eq!(words(br#"{"errors":[]}"#), "");
    }

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        assert_eq!(retry_after(&header("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&header("Wed, 21 Oct 2015 07:28:00 GMT")), Some(Duration::ZERO));
        assert!(retry_after(&header("Fri, 01 Jan 2100 00:00:00 GMT")) > Some(Duration::from_secs(86400)));
        assert_eq!(retry_after(&header("soon")), None);
    }
}
