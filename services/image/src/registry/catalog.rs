//! Lists of a registry, page by page: tags of a repository, repositories, and what its search finds.

use bytes::Bytes;
use http::header::LINK;
use http::{HeaderMap, Method};
use reqwest::Url;
use serde::Deserialize;

use super::error::{Failure, RegistryError, printable};
use super::repository::{Place, Repository, Request, header};
use super::{Client, body};
use crate::reference::{DEFAULT_DOMAIN, ImageRef};

/// Most entries of one list.
const ENTRIES_MAX: usize = 20_000;
/// Most pages of one list.
const PAGES_MAX: usize = 400;
/// Most bytes of one page.
const PAGE_MAX: usize = 4 << 20;
/// Entries that are asked for at once.
const PAGE: usize = 1000;

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Repository.
    pub name: String,
    /// In its makers' words.
    pub description: String,
    /// How many people marked it.
    #[serde(rename = "star_count")]
    pub stars: u32,
    /// The registry's keepers vouch for it.
    #[serde(rename = "is_official")]
    pub official: bool,
    /// Built by the registry.
    #[serde(rename = "is_automated")]
    pub automated: bool,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Repositories {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    results: Vec<Found>,
}

impl Repository {
    /// All tags of the repository, as the registry itself lists them.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let path = format!("tags/list?n={PAGE}");
        let pages = self.pages("list of tags", Place::Below(&path), |page| {
            Ok(parse::<Tags>(page)?.tags.unwrap_or_default())
        });
        pages.await
    }

    /// All repositories of the registry that this handle is of.
    async fn repositories(&self) -> Result<Vec<String>, RegistryError> {
        let path = format!("v2/_catalog?n={PAGE}");
        let pages = self.pages("list of repositories", Place::Root(&path), |page| {
            Ok(parse::<Repositories>(page)?.repositories.unwrap_or_default())
        });
        pages.await
    }

    async fn pages(
        &self,
        subject: &str,
        first: Place<'_>,
        read: impl Fn(&[u8]) -> Result<Vec<String>, Failure>,
    ) -> Result<Vec<String>, RegistryError> {
        let mut entries = Vec::new();
        let mut place = first;
        for _ in 0..PAGES_MAX {
            let (page, next) = self.insist(subject, || self.page(place.clone())).await?;
            let page = read(&page).map_err(|failure| self.error(self.home(), subject, failure))?;
            let known = entries.len();
            entries.extend(page);
            match next {
                Some(url) if entries.len() > known && entries.len() <= ENTRIES_MAX => place = Place::At(url),
                Some(_) if entries.len() > ENTRIES_MAX => break,
                _ => return Ok(entries),
            }
        }
        let limit = ENTRIES_MAX.min(entries.len());
        let failure = Failure::protocol(format!("the list does not end after {limit} entries"));
        Err(self.error(self.home(), subject, failure))
    }

    async fn page(&self, place: Place<'_>) -> Result<(Bytes, Option<Url>), Failure> {
        let response = self.request(self.home(), Request::of(Method::GET, place)).await?;
        let next = next_page(response.headers(), response.url());
        let bytes = body::read(response, PAGE_MAX, self.patience().idle).await?;
        Ok((bytes, next))
    }
}

impl Client {
    /// Looks for images at a registry: by its search where it has one, else among its repositories. What is found is in
    /// the registry's order.
    pub async fn search(
        &self,
        registry: &ImageRef,
        term: &str,
        credential: Option<super::Credential>,
    ) -> Result<Vec<Found>, RegistryError> {
        let searched = self.searcher(registry, credential.clone());
        let path = search_path(term);
        let subject = "search";
        match searched.insist(subject, || searched.page(Place::Root(&path))).await {
            Ok((page, _)) => parse::<Results>(&page)
                .map(|answer| answer.results)
                .map_err(|failure| searched.error(searched.home(), subject, failure)),
            Err(error) if registry.domain() != DEFAULT_DOMAIN && has_no_search(&error.failure) => {
                let repositories = self.repository_at(registry, credential).repositories().await;
                let repositories = repositories.map_err(|mut error| {
                    error.subject =
                        "search (it has none, and its list of repositories is not given out)".into();
                    error
                })?;
                let term = term.to_lowercase();
                let fits = |name: &String| name.to_lowercase().contains(&term);
                let found = |name| Found { name, ..Found::default() };
                Ok(repositories.into_iter().filter(fits).map(found).collect())
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a registry answers as one does that has never heard of searching.
fn has_no_search(failure: &Failure) -> bool {
    match failure {
        Failure::NotFound(_) | Failure::Unauthorized(_) | Failure::Denied(_) | Failure::Protocol(_) => true,
        Failure::Server { status, .. } => matches!(status, 400 | 405 | 410 | 501),
        _ => false,
    }
}

fn search_path(term: &str) -> String {
    let mut query = Url::parse("http://x/v1/search").expect("the address is a constant");
    query.query_pairs_mut().append_pair("q", term).append_pair("n", "100");
    format!("v1/search?{}", query.query().unwrap_or_default())
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::protocol(format!("its list is no JSON: {}", printable(&error.to_string()))))
}

/// The address of the next page: `Link: </v2/_catalog?last=x&n=5>; rel="next"`.
pub(super) fn next_page(headers: &HeaderMap, from: &Url) -> Option<Url> {
    let link = header(headers, LINK.as_str())?;
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = rest.split(';').any(|part| matches!(part.trim(), "rel=\"next\"" | "rel=next"));
    is_next.then(|| from.join(address).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_where_the_registry_says() {
        let from = Url::parse("https://r.example/v2/a/tags/list?n=2").unwrap();
        let next = |text: &str| {
            next_page(&HeaderMap::from_iter([(LINK, text.parse().unwrap())]), &from)
                .map(|url| url.to_string())
        };
        let wanted = Some("https://r.example/v2/a/tags/list?last=b&n=2".to_owned());
        assert_eq!(next("</v2/a/tags/list?last=b&n=2>; rel=\"next\""), wanted);
        assert_eq!(next("<https://r.example/v2/a/tags/list?last=b&n=2>; rel=next"), wanted);
        assert_eq!(next("</x>; rel=\"prev\""), None);
        assert_eq!(next("nonsense"), None);
    }

    #[test]
    fn a_term_is_one_value_whatever_it_has_in_it() {
        assert_eq!(search_path("a&n=9 b"), "v1/search?q=a%26n%3D9+b&n=100");
    }
}
