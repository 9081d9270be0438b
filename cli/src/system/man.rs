//! `davit man`: manual pages of all verbs, of the same words as their help. For who packages davit; no person types it.

mod page;

use std::fs;
use std::path::Path;

use clap::Command;

use crate::args::system::ManArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, verb};

/// Writes a page for each verb and group into a folder, which is made.
pub async fn run(_engine: Engine, args: ManArgs) -> Result<u8, Error> {
    let folder = Path::new(&args.folder);
    let failed = |error| Error::io(format!("write manual pages into {}", folder.display()), error);
    fs::create_dir_all(folder).map_err(failed)?;
    for (name, text) in pages(verb::command()) {
        fs::write(folder.join(name), text).map_err(failed)?;
    }
    Ok(exit::SUCCESS)
}

/// Every page by the name of its file. A verb that is the same one in its group has its page there by reference.
fn pages(mut command: Command) -> Vec<(String, String)> {
    command.build();
    let mut found = vec![("davit.1".to_owned(), page::render("davit", &command))];
    for outer in shown(&command) {
        let name = format!("davit-{}", outer.get_name());
        found.push((format!("{name}.1"), page::render(&name, outer)));
        for inner in shown(outer) {
            let name = format!("{name}-{}", inner.get_name());
            let same = shown(&command)
                .find(|alone| alone.get_name() == inner.get_name() && about(alone) == about(inner));
            let text = match same {
                Some(alone) => format!(".so man1/davit-{}.1\n", alone.get_name()),
                None => page::render(&name, inner),
            };
            found.push((format!("{name}.1"), text));
        }
    }
    found
}

/// The verbs of a command that its help shows.
fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_has_a_page_with_each_of_its_flags() {
        let pages = pages(verb::command());
        let page = |name: &str| &pages.iter().find(|(file, _)| file == name).expect(name).1;
        let run = page("davit-run.1");
        for word in [
            "davit-run \\- Make and run a container from an image",
            "davit run [OPTIONS] IMAGE [COMMAND] [ARG...]",
            "\\fB\\-d\\fR, \\fB\\-\\-detach\\fR\n",
            "\\fB\\-\\-network\\fR \\fINETWORK\\fR\n",
            ".SS Limits\n",
            "ctrl\\-p ctrl\\-q",
        ] {
            assert!(run.contains(word), "{word} in {run}");
        }
        assert!(page("davit.1").contains("\\fBdavit\\-run\\fR(1)"), "{}", page("davit.1"));
        assert_eq!(page("davit-container-run.1"), ".so man1/davit-run.1\n");
        assert!(page("davit-image-rm.1").contains("Remove images"), "not that of containers");
        assert!(
            !pages.iter().any(|(name, _)| name.starts_with("davit-man")
                && name != "davit-manifest.1"
                && !name.starts_with("davit-manifest-")),
            "nobody types it"
        );
        assert!(pages.len() > 80, "{}", pages.len());
    }
}
