//! Ways in: tokens from a registry's token service, or name and password, kept per host and repository.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use reqwest::Url;
use serde::Deserialize;

use super::challenge::Challenge;
use super::credential::{Credential, Secret};
use super::endpoint::same_site;
use super::error::{Failure, Message, printable};
use super::transport::{Outgoing, Wire};

/// Longest answer of a token service; tokens of large organisations reach tens of KiB.
const TOKEN_ANSWER_MAX: usize = 1 << 20;
const LIFETIME_DEFAULT: Duration = Duration::from_secs(60);
const LIFETIME_MAX: Duration = Duration::from_secs(3600);
/// A token is let go this long before its end, so that it does not end on its way.
const LIFETIME_MARGIN: Duration = Duration::from_secs(5);
/// Who we are to token services.
const CLIENT: &str = "davit";
const ENTRIES_MAX: usize = 1024;

/// Who asks for what, where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    /// Origin of the registry.
    pub(super) registry: Url,
    /// What a token must allow: `repository:library/busybox:pull`.
    pub(super) scopes: Vec<String>,
    pub(super) credential: Option<Credential>,
}

#[derive(Debug, Clone)]
struct Grant {
    header: HeaderValue,
    until: Option<Instant>,
}

impl Grant {
    fn is_good(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// One slot for each subject: whoever holds its lock asks the token service, the others wait for that answer.
type Slot = Arc<tokio::sync::Mutex<Option<Grant>>>;

/// The `Authorization` headers that registries gave us.
#[derive(Debug, Default)]
pub(super) struct Grants {
    slots: Mutex<HashMap<Subject, Slot>>,
}

impl Grants {
    /// The header to send at once, if an earlier request earned one.
    pub(super) async fn known(&self, subject: &Subject) -> Option<HeaderValue> {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(subject).cloned()?;
        let grant = slot.lock().await;
        grant.as_ref().filter(|grant| grant.is_good()).map(|grant| grant.header.clone())
    }

    /// Answers a challenge. `refused` is the header that was sent: if another request has a newer one meanwhile, that
    /// one is given.
    pub(super) async fn answer(
        &self,
        wire: &Wire,
        subject: &Subject,
        challenge: Challenge,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Failure> {
        let slot = self.slot(subject);
        let mut grant = slot.lock().await;
        if let Some(newer) = grant.as_ref().filter(|grant| grant.is_good() && Some(&grant.header) != refused)
        {
            return Ok(newer.header.clone());
        }
        *grant = None;
        let new = match challenge {
            Challenge::Basic => basic_grant(subject)?,
            Challenge::Bearer { realm, service, scope } => {
                let scopes = scopes(&subject.scopes, scope.as_deref());
                token_grant(wire, subject, &Ask { realm, service, scopes, lasting: false }).await?
            }
        };
        let header = new.header.clone();
        *grant = Some(new);
        Ok(header)
    }

    fn slot(&self, subject: &Subject) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= ENTRIES_MAX {
            // Slots in use are kept alive by their users; losing a token costs one question more.
            slots.clear();
        }
        Arc::clone(slots.entry(subject.clone()).or_default())
    }
}

struct Ask {
    realm: String,
    service: Option<String>,
    scopes: Vec<String>,
    /// A token in place of the password is wanted too.
    lasting: bool,
}

/// What a token is asked for: what we need, unless the registry calls it otherwise and that is all there is. A token
/// for reading only would be refused at the first write.
fn scopes(needed: &[String], named: Option<&str>) -> Vec<String> {
    match (needed, named) {
        ([only], Some(named)) if !only.ends_with(",push") => named.split(' ').map(str::to_owned).collect(),
        _ => needed.to_vec(),
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

/// A way in that was just earned, and what the token service gave in place of the password.
pub(super) struct Entry {
    pub(super) header: HeaderValue,
    pub(super) identity_token: Option<Secret>,
}

/// Answers a challenge for the registry as a whole, to find out whether a credential is right. Nothing is remembered.
pub(super) async fn enter(wire: &Wire, subject: &Subject, challenge: Challenge) -> Result<Entry, Failure> {
    match challenge {
        Challenge::Basic => Ok(Entry { header: basic_grant(subject)?.header, identity_token: None }),
        Challenge::Bearer { realm, service, scope: _ } => {
            let ask = Ask { realm, service, scopes: Vec::new(), lasting: true };
            let body = ask_for_token(wire, subject, &ask).await?;
            let grant = grant_of(&body)?;
            let answer: Answer = serde_json::from_slice(&body)
                .map_err(|_| Failure::protocol("its token service answered no JSON"))?;
            let identity_token = answer.refresh_token.filter(|token| !token.is_empty()).map(Secret::new);
            Ok(Entry { header: grant.header, identity_token })
        }
    }
}

fn basic_grant(subject: &Subject) -> Result<Grant, Failure> {
    match &subject.credential {
        Some(Credential::Password { username, password }) => {
            Ok(Grant { header: basic(username, password.reveal())?, until: None })
        }
        Some(Credential::IdentityToken(_)) => Err(Failure::Unauthorized(Message::new(
            "it wants a name and a password, and an identity token is stored",
        ))),
        None => Err(Failure::Unauthorized(Message::new("it wants a name and a password"))),
    }
}

/// Asks the token service. Credentials are shown only to a service of the registry's own site; another one is asked
/// without, which is enough for public images.
async fn token_grant(wire: &Wire, subject: &Subject, ask: &Ask) -> Result<Grant, Failure> {
    grant_of(&ask_for_token(wire, subject, ask).await?)
}

async fn ask_for_token(wire: &Wire, subject: &Subject, ask: &Ask) -> Result<Bytes, Failure> {
    let realm = Url::parse(&ask.realm)
        .ok()
        .filter(|realm| realm.has_host() && realm.username().is_empty() && realm.password().is_none())
        .ok_or_else(|| {
            Failure::protocol(format!("names {:?} as its token service", printable(&ask.realm)))
        })?;
    if realm.scheme() != "https" && realm.scheme() != subject.registry.scheme() {
        return Err(Failure::protocol("names a token service without TLS"));
    }
    let trusted = same_site(&subject.registry, &realm);
    let outgoing = match subject.credential.as_ref().filter(|_| trusted) {
        Some(Credential::IdentityToken(token)) => refresh(realm, ask, token.reveal()),
        Some(Credential::Password { username, password }) => {
            let mut outgoing = Outgoing::get(query(realm, ask, Some(username)));
            outgoing.authorization = Some(basic(username, password.reveal())?);
            outgoing
        }
        None => Outgoing::get(query(realm, ask, None)),
    };
    let reply = wire.send(outgoing).await?;
    let status = reply.response.status();
    let body = super::body::read(reply.response, TOKEN_ANSWER_MAX, wire.patience.idle).await?;
    match status {
        status if status.is_success() => Ok(body),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
            let withheld = if subject.credential.is_some() && !trusted {
                "its token service is on another site, so the credentials were not sent"
            } else {
                "its token service gave no token"
            };
            Err(Failure::Unauthorized(Message::new(withheld)))
        }
        status => Err(super::body::failure(status, None, &body)),
    }
}

fn query(mut realm: Url, ask: &Ask, account: Option<&str>) -> Url {
    {
        let mut pairs = realm.query_pairs_mut();
        if let Some(service) = &ask.service {
            pairs.append_pair("service", service);
        }
        for scope in &ask.scopes {
            pairs.append_pair("scope", scope);
        }
        if ask.lasting {
            pairs.append_pair("offline_token", "true").append_pair("client_id", CLIENT);
        }
        if let Some(account) = account {
            pairs.append_pair("account", account);
        }
    }
    realm
}

fn refresh(realm: Url, ask: &Ask, token: &str) -> Outgoing {
    // `Url` knows how to write a form; the host is never looked at.
    let mut form = realm.clone();
    form.set_query(None);
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", ask.service.as_deref().unwrap_or_default())
        .append_pair("client_id", CLIENT)
        .append_pair("scope", &ask.scopes.join(" "))
        .append_pair("refresh_token", token);
    let form = form.query().map(str::to_owned);
    Outgoing { method: Method::POST, form, ..Outgoing::get(realm) }
}

/// Whether a token service's answer has a token.
#[cfg(fuzzing)]
pub(super) fn is_grant(body: &[u8]) -> bool {
    grant_of(body).is_ok()
}

fn grant_of(body: &[u8]) -> Result<Grant, Failure> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| Failure::protocol("its token service answered no JSON"))?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    let token = token
        .filter(|token| !token.is_empty())
        .ok_or_else(|| Failure::protocol("its token service answered without a token"))?;
    let lifetime = answer.expires_in.map_or(LIFETIME_DEFAULT, Duration::from_secs).min(LIFETIME_MAX);
    let until = Instant::now() + lifetime.saturating_sub(LIFETIME_MARGIN);
    Ok(Grant { header: sensitive(&format!("Bearer {token}"))?, until: Some(until) })
}

fn basic(username: &str, password: &str) -> Result<HeaderValue, Failure> {
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn sensitive(text: &str) -> Result<HeaderValue, Failure> {
    let mut header =
        HeaderValue::from_str(text).map_err(|_| Failure::protocol("a token or password fits no header"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> Ask {
        Ask {
            realm: "https://auth.example/token?a=b".into(),
            service: Some("reg & co".into()),
            scopes: vec!["repository:x/y:pull".into(), "repository:z:pull".into()],
            lasting: false,
        }
    }

    #[test]
    fn a_token_request_names_service_and_every_scope() {
        let url = query(Url::parse(&ask().realm).unwrap(), &ask(), Some("me"));
        assert_eq!(
            url.as_str(),
            "https://auth.example/token?a=b&service=reg+%26+co&scope=repository%3Ax%2Fy%3Apull\
             &scope=repository%3Az%3Apull&account=me"
        );
    }

    #[test]
    fn who_writes_asks_for_no_less() {
        let needed = |scope: &str| vec![scope.to_owned()];
        let (read, write) = (needed("repository:a:pull"), needed("repository:a:pull,push"));
        assert_eq!(scopes(&read, Some("repository:b:pull x:y:z")), ["repository:b:pull", "x:y:z"]);
        assert_eq!(scopes(&read, None), read);
        assert_eq!(scopes(&write, Some("repository:a:pull")), write);
    }

    #[test]
    fn an_identity_token_is_posted_never_put_into_the_address() {
        let outgoing = refresh(Url::parse(&ask().realm).unwrap(), &ask(), "s3cret&");
        assert_eq!(
            (outgoing.method, outgoing.url.as_str()),
            (Method::POST, "https://auth.example/token?a=b")
        );
        assert!(outgoing.form.unwrap().ends_with("refresh_token=s3cret%26"));
    }

    #[test]
    fn answers_of_token_services() {
        assert_eq!(grant_of(br#"{"token":"t"}"#).unwrap().header, "Bearer t");
        assert_eq!(
            grant_of(br#"{"token":"","access_token":"a","expires_in":300}"#).unwrap().header,
            "Bearer a"
        );
        for bad in [&b"{}"[..], b"<html>", br#"{"token":""}"#, br#"{"token":"a\nb"}"#] {
            assert!(matches!(grant_of(bad), Err(Failure::Protocol(_))));
        }
        assert!(!grant_of(br#"{"token":"t","expires_in":0}"#).unwrap().is_good());
    }
}
