//! `davit logout`.

use crate::args::system::LogoutArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{credential, exit, output};

/// Forgets name and password for a registry.
pub async fn run(_engine: Engine, args: LogoutArgs) -> Result<u8, Error> {
    let registry = credential::registry(args.server.as_deref().unwrap_or_default());
    if credential::forget(&registry)? {
        output::line(&format!("Removing login credentials for {registry}"))?;
    } else {
        output::line(&format!("Not logged in to {registry}"))?;
    }
    Ok(exit::SUCCESS)
}
