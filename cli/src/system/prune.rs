//! `davit system prune`: containers, networks, volumes where asked for, images, in this order: what one leaves behind
//! the next may take.

use crate::args::system::PruneArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::spec::Invalid;
use crate::{confirm, exit, filter, output, prune};

/// Removes all that nothing uses.
pub async fn run(engine: Engine, args: PruneArgs) -> Result<u8, Error> {
    let filters = filter::parse(&args.filter)?;
    if args.volumes && filters.iter().any(|filter| filter.key == "until") {
        let until = args.filter.iter().find(|text| text.to_ascii_lowercase().trim().starts_with("until"));
        let rule = "the \"until\" filter is not supported with \"--volumes\"";
        return Err(Invalid::new("--filter", until.map_or("until", String::as_str), rule).into());
    }
    if !args.force && !confirm::ask(&warning(&args))? {
        return Ok(exit::SUCCESS);
    }
    let mut bytes = 0_u64;
    let mut take = |pruned: prune::Pruned| {
        bytes = bytes.saturating_add(pruned.bytes);
        output::print(&pruned.text)
    };
    take(prune::containers(&engine, filters.clone()).await?)?;
    take(prune::networks(&engine, filters.clone()).await?)?;
    if args.volumes {
        take(prune::volumes(&engine, filters.clone(), false).await?)?;
    }
    take(prune::images(&engine, filters, args.all).await?)?;
    if takes_builds(&args) {
        take(prune::builds(&engine, args.filter.clone(), args.all).await?)?;
    }
    output::print(&prune::total(bytes))?;
    Ok(exit::SUCCESS)
}

/// Whether what builds keep goes too. It has no labels: what is to be chosen by them leaves it alone.
fn takes_builds(args: &PruneArgs) -> bool {
    !args.filter.iter().any(|filter| filter.trim().to_ascii_lowercase().starts_with("label"))
}

/// Docker's list of what goes.
fn warning(args: &PruneArgs) -> String {
    let mut going = vec!["all stopped containers", "all networks not used by at least one container"];
    if args.volumes {
        going.push("all anonymous volumes not used by at least one container");
    }
    going.push(if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    if takes_builds(args) {
        going.push(if args.all { "all build cache" } else { "unused build cache" });
    }
    let mut text = String::from("This will remove:\n");
    going.iter().for_each(|what| text.push_str(&format!("  - {what}\n")));
    if !args.filter.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        args.filter.iter().for_each(|filter| text.push_str(&format!("  - {}\n", output::visible(filter))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_is_dockers() {
        let args = PruneArgs { all: false, force: false, volumes: false, filter: Vec::new() };
        assert_eq!(
            warning(&args),
            "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  \
             - all dangling images\n  - unused build cache\n"
        );
        let all = PruneArgs { all: true, volumes: true, filter: vec!["label=a".into()], ..args };
        let text = warning(&all);
        assert!(
            text.contains("  - all anonymous volumes not used by at least one container\n  - all images ")
        );
        assert!(text.ends_with("\n\n  Items to be pruned will be filtered with:\n  - label=a\n"), "{text}");
    }
}
