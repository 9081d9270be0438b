//! What the fuzz targets reach of the build service: what is read of a wish before anything is done.

use davit_proto::build::{BuildOpen, PruneRequest};

use crate::build::Plan;
use crate::cache::Conditions;

/// The opening of a build, its Dockerfile in it.
pub fn open(open: BuildOpen) {
    let _ = Plan::read(open);
}

/// A wish to forget.
pub fn prune(request: PruneRequest) {
    let _ = Conditions::read(request.filters);
}
