//! `grpc.health.v1`: a shim that answers is healthy. Without a reporter, which would take memory all the time.

use futures_util::{StreamExt as _, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use super::{Answer, BoxStream};

/// Full name of the service.
pub const NAME: &str = health_server::SERVICE_NAME;

/// The service as something that answers HTTP requests.
pub type HealthServer = health_server::HealthServer<Health>;

/// The service.
#[derive(Debug, Clone)]
pub struct Health {
    /// Turns true when the shim ends.
    pub closing: tokio::sync::watch::Receiver<bool>,
}

/// Whether a name is one of ours, or the empty one that stands for all.
fn is_served(service: &str) -> bool {
    matches!(service, "" | super::NAME | NAME)
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Answer<HealthCheckResponse> {
        let service = request.into_inner().service;
        if !is_served(&service) {
            return Err(Status::not_found(format!("service {service:?} is not served here")));
        }
        Ok(Response::new(response(ServingStatus::Serving)))
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Answer<Self::WatchStream> {
        let served = is_served(&request.into_inner().service);
        let now = if served { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
        let mut closing = self.closing.clone();
        let end = async move {
            // A shim that drops the sender has ended as well.
            let _ = closing.wait_for(|closing| *closing).await;
            Ok(response(if served { ServingStatus::NotServing } else { ServingStatus::ServiceUnknown }))
        };
        Ok(Response::new(Box::pin(stream::iter([Ok(response(now))]).chain(stream::once(end)))))
    }
}
