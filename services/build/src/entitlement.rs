//! What a command is allowed beyond what every command is, only when whoever builds says so.

use davit_dockerfile::instruction::{Network, Run, Security};
use davit_proto::build::BuildOpen;

use crate::error::Error;

/// The host's network.
const NETWORK: &str = "network.host";
/// Everything that the host's root may.
const SECURITY: &str = "security.insecure";

/// Refuses words that are no entitlement.
///
/// # Errors
/// There is such a word.
pub fn check_words(options: &BuildOpen) -> Result<(), Error> {
    match options.allow.iter().find(|word| ![NETWORK, SECURITY].contains(&word.as_str())) {
        Some(word) => {
            let text = format!("--allow {word}: there is no such entitlement: {NETWORK} or {SECURITY}");
            Err(Error::Invalid(text))
        }
        None => Ok(()),
    }
}

/// Whether a command may have what it wants. Whoever gives all commands the host's network allows it to each.
///
/// # Errors
/// It may not.
pub fn check(run: &Run, options: &BuildOpen) -> Result<(), Error> {
    let allowed = |word: &str| options.allow.iter().any(|allowed| allowed == word);
    let refused = |flag: &str, word: &str| {
        Err(Error::Invalid(format!(
            "{flag} is not allowed: build with --allow {word} if you trust this file"
        )))
    };
    if run.network == Network::Host && options.network != "host" && !allowed(NETWORK) {
        return refused("RUN --network=host", NETWORK);
    }
    if run.security == Security::Insecure && !allowed(SECURITY) {
        return refused("RUN --security=insecure", SECURITY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use davit_dockerfile::Dockerfile;
    use davit_dockerfile::instruction::Kind;

    use super::*;

    fn checked(line: &str, allow: &[&str], network: &str) -> bool {
        let file = Dockerfile::parse(&format!("FROM a\n{line}\n")).unwrap();
        let Kind::Run(run) = &file.stages[0].instructions[0].kind else { panic!("{line}") };
        let allow = allow.iter().map(|word| (*word).to_owned()).collect();
        check(run, &BuildOpen { allow, network: network.to_owned(), ..BuildOpen::default() }).is_ok()
    }

    #[test]
    fn what_is_more_than_usual_must_be_allowed() {
        assert!(checked("RUN a", &[], "default"));
        assert!(checked("RUN --network=none a", &[], "host"));
        assert!(!checked("RUN --network=host a", &["security.insecure"], "default"));
        assert!(checked("RUN --network=host a", &["network.host"], "default"));
        assert!(checked("RUN --network=host a", &[], "host"));
        assert!(!checked("RUN --security=insecure a", &["network.host"], "host"));
        assert!(checked("RUN --security=insecure a", &["security.insecure"], ""));
        let odd = BuildOpen { allow: vec!["all".to_owned()], ..BuildOpen::default() };
        assert!(check_words(&odd).is_err() && check_words(&BuildOpen::default()).is_ok());
    }
}
