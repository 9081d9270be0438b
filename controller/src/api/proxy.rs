//! What the services' public faces share: calls are passed on as they are, internal ones are not, and what
//! changed is entered into the log of changes.

use std::collections::HashMap;
use std::pin::Pin;

use davit_proto::status::{Classify, ErrorKind, status};
use futures_util::stream::Stream;
use tonic::{Request, Status};

use crate::engine::Engine;
use crate::store::Draft;

/// A stream of answers.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

#[derive(Debug, thiserror::Error)]
#[error("{0} is for the engine itself: it keeps track of what containers use")]
struct Internal(&'static str);

impl Classify for Internal {
    fn kind(&self) -> ErrorKind {
        ErrorKind::PermissionDenied
    }
    fn reason(&self) -> &str {
        "INTERNAL_CALL"
    }
    fn values(&self) -> Vec<(&'static str, String)> {
        vec![("call", self.0.to_owned())]
    }
}

/// The answer to a call that only the engine makes.
pub(super) fn internal(call: &'static str) -> Status {
    status(&Internal(call))
}

/// A request for a service: the message alone, without what the transport of this side added.
pub(super) fn passed<T>(request: Request<T>) -> Request<T> {
    Request::new(request.into_inner())
}

/// Enters a fact of another object than a container.
pub(super) fn note(engine: &Engine, kind: &'static str, action: &'static str, id: &str, name: &str) {
    let attributes = HashMap::from([("name".to_owned(), name.to_owned())]);
    engine.store.note(Draft { kind, action: action.to_owned(), id: id.to_owned(), attributes });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_calls_are_denied_by_name() {
        let denied = internal("Images.Prepare");
        assert_eq!(denied.code(), tonic::Code::PermissionDenied);
        assert!(denied.message().starts_with("Images.Prepare "), "{}", denied.message());
    }
}
