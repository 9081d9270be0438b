//! Whether a registry knows somebody: one question without, and one with what its challenge asks for.

use http::{HeaderValue, StatusCode};

use super::auth::{self, Subject};
use super::credential::{Credential, Secret};
use super::endpoint::Endpoint;
use super::error::{Failure, Message, RegistryError};
use super::repository::best_challenge;
use super::retry::Budget;
use super::transport::{Outgoing, Reply};
use super::{Client, body};
use crate::reference::ImageRef;

impl Client {
    /// Tries a credential at a registry. Answers with what its token service gave in place of the password, if
    /// anything. Nothing is remembered of it.
    pub async fn login(
        &self,
        registry: &ImageRef,
        credential: Credential,
    ) -> Result<Option<Secret>, RegistryError> {
        let error = |failure| RegistryError {
            registry: registry.domain().into(),
            repository: "".into(),
            subject: "login".into(),
            failure,
        };
        let own = self.inner.wire.map.endpoints(registry).and_then(|mut endpoints| endpoints.pop());
        let endpoint = own.ok_or_else(|| error(Failure::protocol("the registry's name is no address")))?;
        let mut budget = Budget::new(self.inner.wire.patience);
        loop {
            let failure = match budget.spend(self.try_in(&endpoint, &credential)).await {
                Ok(token) => return Ok(token),
                Err(failure) => failure,
            };
            match budget.next_delay(&failure) {
                Some(delay) => budget.rest(delay).await,
                None => return Err(error(failure)),
            }
        }
    }

    async fn try_in(&self, endpoint: &Endpoint, credential: &Credential) -> Result<Option<Secret>, Failure> {
        let wire = &self.inner.wire;
        let base = wire.base(endpoint).await?;
        let url = base.join("v2/").map_err(|_| Failure::protocol("the registry's name makes no address"))?;
        let ask = async |authorization: Option<HeaderValue>| -> Result<Reply, Failure> {
            let outgoing = Outgoing { authorization, ..Outgoing::get(url.clone()) };
            wire.send(outgoing).await.inspect_err(|failure| {
                if matches!(failure, Failure::Unreachable(_) | Failure::Tls(_)) {
                    wire.forget(endpoint);
                }
            })
        };
        let first = ask(None).await?;
        let status = first.response.status();
        if status.is_success() {
            // It asks nobody who they are.
            return Ok(None);
        }
        let challenge = best_challenge(first.response.headers());
        let idle = wire.patience.idle;
        let refusal = body::explain(first.response, idle).await;
        let Some(challenge) = challenge.filter(|_| status == StatusCode::UNAUTHORIZED && !first.redirected)
        else {
            return Err(refusal);
        };
        let subject = Subject { registry: base, scopes: Vec::new(), credential: Some(credential.clone()) };
        let entry = auth::enter(wire, &subject, challenge).await.map_err(wrong)?;
        let second = ask(Some(entry.header)).await?;
        if second.response.status().is_success() {
            return Ok(entry.identity_token);
        }
        Err(wrong(body::explain(second.response, idle).await))
    }
}

/// Who shows a name and a password and is refused has the wrong ones.
fn wrong(failure: Failure) -> Failure {
    match failure {
        Failure::Unauthorized(message) => Failure::Credentials(message),
        Failure::Denied(_) => Failure::Credentials(Message::default()),
        other => other,
    }
}
