//! Flags of the verbs that look at manifests.

use clap::Args;

/// `davit manifest inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Also each manifest of an index, with its platform
    #[arg(short, long)]
    pub verbose: bool,
    /// Image.
    #[arg(required = true, value_name = "MANIFEST")]
    pub image: String,
}
