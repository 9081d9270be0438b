//! `davit login`.

use std::io::{BufRead as _, Read as _};

use davit_proto::image::{Credential, LoginRequest};
use davit_proto::status::RemoteError;

use crate::args::system::LoginArgs;
use crate::client::Engine;
use crate::credential::{self, Kept};
use crate::error::Error;
use crate::{exit, output, terminal};

/// Longest name or password.
const LIMIT: u64 = 64 << 10;

/// Tries name and password at a registry, and keeps them when they are right.
pub async fn run(engine: Engine, args: LoginArgs) -> Result<u8, Error> {
    let registry = credential::registry(args.server.as_deref().unwrap_or_default());
    let username = args.username.clone().unwrap_or_default();
    let password = password(&args)?;
    // Without a word about who it is, those who are known already are tried first.
    if username.is_empty()
        && password.is_empty()
        && let Some(known) = credential::find(&registry)?
    {
        output::line("Authenticating with existing credentials...")?;
        match check(&engine, &registry, known.clone()).await {
            Ok(token) => return keep(&registry, known, token),
            Err(error) => output::complain(&format!("Login did not succeed, error: {error}")),
        }
    }
    let given = ask(&registry, username, password)?;
    let token = check(&engine, &registry, given.clone()).await?;
    keep(&registry, given, token)
}

/// The password that flags or standard input give; empty when none does.
fn password(args: &LoginArgs) -> Result<String, Error> {
    if let Some(password) = &args.password {
        output::complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if args.password_stdin {
            return Err(Error::Usage("--password and --password-stdin are mutually exclusive".into()));
        }
        return Ok(password.clone());
    }
    if !args.password_stdin {
        return Ok(String::new());
    }
    if args.username.as_deref().unwrap_or_default().is_empty() {
        return Err(Error::Usage("Must provide --username with --password-stdin".into()));
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().take(LIMIT).read_to_string(&mut text);
    read.map_err(|error| Error::io("read the password", error))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Asks the person for what is missing.
fn ask(registry: &str, mut username: String, mut password: String) -> Result<Credential, Error> {
    let check = || {
        terminal::at_stdin()
            .then_some(())
            .ok_or_else(|| Error::Usage("Cannot perform an interactive login from a non TTY device".into()))
    };
    if username.is_empty() {
        check()?;
        output::line(&format!("Log in to {registry} with a user name and a password or token."))?;
        output::print("Username: ")?;
        let mut line = String::new();
        let read = std::io::stdin().lock().take(LIMIT).read_line(&mut line);
        read.map_err(|error| Error::io("read the user name", error))?;
        username = line.trim().to_owned();
        if username.is_empty() {
            return Err(Error::Usage("username is required".into()));
        }
    }
    if password.is_empty() {
        check()?;
        output::print("Password: ")?;
        password = terminal::secret()?;
        if password.is_empty() {
            return Err(Error::Usage("password is required".into()));
        }
    }
    Ok(Credential { username, password, ..Credential::default() })
}

/// Has the registry say whether it knows us. Answers with the token that it gives in place of the password.
async fn check(engine: &Engine, registry: &str, credential: Credential) -> Result<String, Error> {
    let request = LoginRequest { registry: registry.to_owned(), credential: Some(credential) };
    let answer = engine.images().await?.login(request).await.map_err(RemoteError::from)?;
    Ok(answer.into_inner().identity_token)
}

fn keep(registry: &str, mut credential: Credential, token: String) -> Result<u8, Error> {
    if !token.is_empty() {
        credential.password.clear();
        credential.identity_token = token;
    }
    if let Kept::File(path) = credential::keep(registry, &credential)? {
        output::complain(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.\n",
            path.display()
        ));
    }
    output::line("Login Succeeded")?;
    Ok(exit::SUCCESS)
}
