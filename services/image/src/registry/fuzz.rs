//! What the fuzz targets reach of the registry client: readers of what servers say.

use http::header::{LINK, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::Url;

use super::{auth, blob, body, catalog, challenge};

/// One answer of a server: its header, as the value of each of those that are read, and its body.
pub fn answer(header: &[u8], content: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(header) {
        let headers = HeaderMap::from_iter([(LINK, value.clone()), (RETRY_AFTER, value)]);
        let from = Url::parse("https://registry.example/v2/a/tags/list?n=2").expect("a constant");
        let _ = catalog::next_page(&headers, &from);
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED, StatusCode::BAD_GATEWAY] {
            let said = body::failure(status, Some(&headers), content).to_string();
            assert!(!said.chars().any(char::is_control), "a server's words reach a terminal as they are");
        }
    }
    if let Ok(header) = std::str::from_utf8(header) {
        let _ = challenge::best([header]);
        if let Some((start, Some(size))) = blob::parse_range(header) {
            assert!(start < size);
        }
    }
    let _ = auth::is_grant(content);
}
