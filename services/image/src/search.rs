//! Search: what a registry finds, as far as the conditions hold.

use crate::error::Error;
use crate::filter::Condition;
use crate::reference::ImageRef;
use crate::registry::{Client, Credential, Found};
use crate::store::StoreError;

/// Results when nobody says how many.
const USUAL: usize = 25;
/// Most results.
const MOST: usize = 100;

/// What to look for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The registry's name: `docker.io`.
    pub registry: String,
    /// What names or descriptions shall have in them.
    pub term: String,
    /// Most results; 0 for the usual number.
    pub limit: usize,
    /// `is-official`, `is-automated`, `stars`.
    pub conditions: Vec<Condition>,
    /// The credential that came with the request.
    pub credential: Option<Credential>,
}

/// The conditions of a search.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    official: Option<bool>,
    automated: Option<bool>,
    stars: u32,
}

/// Looks for images. Names have their registry before them unless it is Docker Hub.
pub async fn search(client: &Client, request: Request) -> Result<Vec<Found>, Error> {
    let limit = match request.limit {
        0 => USUAL,
        limit if limit <= MOST => limit,
        _ => return Err(Error::Invalid { field: "limit", rule: "must be 1 to 100" }),
    };
    if request.term.is_empty() {
        return Err(Error::Invalid { field: "term", rule: "must not be empty" });
    }
    let wanted = Wanted::parse(&request.conditions)?;
    let registry = ImageRef::of_registry(&request.registry)?;
    let mut found = client.search(&registry, &request.term, request.credential).await?;
    found.retain(|image| wanted.holds(image));
    found.truncate(limit);
    if registry.domain() != crate::reference::DEFAULT_DOMAIN {
        for image in &mut found {
            image.name = format!("{}/{}", registry.domain(), image.name);
        }
    }
    Ok(found)
}

impl Wanted {
    fn parse(conditions: &[Condition]) -> Result<Self, StoreError> {
        let mut wanted = Self::default();
        for (key, value) in conditions {
            let invalid = |rule| StoreError::Filter { key: key.clone(), value: value.clone(), rule };
            let truth = || match value.as_str() {
                "" | "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(invalid("true or false is wanted")),
            };
            match key.as_str() {
                "is-official" => wanted.official = Some(truth()?),
                "is-automated" => wanted.automated = Some(truth()?),
                "stars" => wanted.stars = value.parse().map_err(|_| invalid("a number is wanted"))?,
                _ => return Err(invalid("is-official, is-automated and stars are known")),
            }
        }
        Ok(wanted)
    }

    fn holds(&self, image: &Found) -> bool {
        self.official.is_none_or(|wanted| image.official == wanted)
            && self.automated.is_none_or(|wanted| image.automated == wanted)
            && image.stars >= self.stars
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::config;
    use crate::registry::tests::server::{Server, answer};

    fn request(server: &Server, conditions: &[(&str, &str)], limit: usize) -> Request {
        let conditions = conditions.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Request {
            registry: server.address.to_string(),
            term: "bus y".into(),
            limit,
            conditions: conditions.collect(),
            credential: None,
        }
    }

    async fn names(server: &Server, conditions: &[(&str, &str)], limit: usize) -> Vec<String> {
        let client = Client::new(config()).unwrap();
        let found = search(&client, request(server, conditions, limit)).await.unwrap();
        let prefix = format!("{}/", server.address);
        found.into_iter().map(|image| image.name.strip_prefix(&prefix).unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_registry_that_searches_is_asked() {
        let server = Server::start(|_, _| {
            let body = br#"{"num_results":3,"results":[
                {"name":"busybox","description":"Busybox base image.","star_count":9,"is_official":true},
                {"name":"me/busybox","star_count":3,"is_automated":true},{"name":"you/busybox"}]}"#;
            answer(200, &[("Content-Type", "application/json")], body)
        })
        .await;
        assert_eq!(names(&server, &[], 0).await, ["busybox", "me/busybox", "you/busybox"]);
        assert_eq!(server.seen()[0].path, "/v1/search?q=bus+y&n=100");
        assert_eq!(names(&server, &[], 2).await, ["busybox", "me/busybox"]);
        assert_eq!(names(&server, &[("is-official", "true")], 0).await, ["busybox"]);
        assert_eq!(names(&server, &[("stars", "3"), ("is-official", "false")], 0).await, ["me/busybox"]);
        assert_eq!(names(&server, &[("is-automated", "true")], 0).await, ["me/busybox"]);
        let client = Client::new(config()).unwrap();
        for wrong in [("stars", "many"), ("color", "red"), ("is-official", "perhaps")] {
            assert!(search(&client, request(&server, &[wrong], 0)).await.is_err(), "{wrong:?}");
        }
        assert!(search(&client, request(&server, &[], 101)).await.is_err());
    }

    #[tokio::test]
    async fn one_that_does_not_is_asked_for_its_list() {
        let server = Server::start(|request, _| match request.path.as_str() {
            "/v2/_catalog?n=1000" => answer(
                200,
                &[("Link", "</v2/_catalog?last=x&n=1000>; rel=\"next\"")],
                br#"{"repositories":["alpine","my-BUS Yard"]}"#,
            ),
            "/v2/_catalog?last=x&n=1000" => answer(200, &[], br#"{"repositories":["x/bus yes"]}"#),
            _ => answer(404, &[], b"404 page not found"),
        })
        .await;
        assert_eq!(names(&server, &[], 0).await, ["my-BUS Yard", "x/bus yes"]);
    }

    #[tokio::test]
    async fn one_that_gives_nothing_out_is_named() {
        let server = Server::start(|_, _| answer(404, &[], b"")).await;
        let client = Client::new(config()).unwrap();
        let error = search(&client, request(&server, &[], 0)).await.unwrap_err().to_string();
        assert!(error.contains(&server.address.to_string()) && error.contains("it has none"), "{error}");
        let endless = Server::start(|_, number| {
            let link = format!("</v2/_catalog?last={number}>; rel=\"next\"");
            answer(if number == 0 { 404 } else { 200 }, &[("Link", &link)], br#"{"repositories":["a"]}"#)
        })
        .await;
        let error = search(&client, request(&endless, &[], 0)).await.unwrap_err().to_string();
        assert!(error.contains("does not end"), "{error}");
    }
}
