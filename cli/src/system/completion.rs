//! `davit completion`.

use clap_complete::Shell;

use crate::args::system::{self, CompletionArgs};
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, output, verb};

/// Prints the completions of a shell.
pub async fn run(_engine: Engine, args: CompletionArgs) -> Result<u8, Error> {
    let shell = match args.shell {
        system::Shell::Bash => Shell::Bash,
        system::Shell::Zsh => Shell::Zsh,
        system::Shell::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut verb::command(), "davit", &mut text);
    output::print(&String::from_utf8_lossy(&text))?;
    Ok(exit::SUCCESS)
}
