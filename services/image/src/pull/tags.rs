//! Pull of a whole repository: every tag that the registry lists, one after the other.

use std::sync::Arc;

use super::{Board, Progress, PullError, Request, pull};
use crate::registry;
use crate::store::Store;

/// Fetches every tag of a repository. What is something else than an image for containers, such as a signature, is
/// passed over and told.
pub async fn pull_all(
    store: &Store,
    client: &registry::Client,
    request: Request,
    board: Arc<Board>,
) -> Result<(), PullError> {
    let name = request.reference.familiar();
    if request.reference.tag().is_some() || request.reference.digest().is_some() {
        return Err(PullError::OneTag(name));
    }
    let repository = client.repository(&request.reference, request.credential.clone());
    let tags = repository.tags().await?;
    if tags.is_empty() {
        return Err(PullError::NoTags(name));
    }
    for tag in tags {
        let reference = request.reference.with_tag(&tag).map_err(|error| PullError::Store(error.into()))?;
        let told = reference.to_string();
        let request = Request { reference, ..request.clone() };
        match pull(store, client, request, Arc::clone(&board)).await {
            Ok(pulled) => board.tell(Progress::Pulled(pulled)),
            Err(error @ PullError::NotAnImage { .. }) => {
                board.tell(Progress::PassedOver { reference: told, reason: error.to_string() });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
