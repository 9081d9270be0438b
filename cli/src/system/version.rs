//! `davit version`.

use davit_proto::status::RemoteError;
use davit_proto::system::{VersionRequest, VersionResponse};

use crate::args::system::FormatArgs;
use crate::client::Engine;
use crate::document::{Document, map};
use crate::error::Error;
use crate::{exit, format, output};

/// The command line's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Shows versions of both sides; of this side also when no engine answers.
pub async fn run(engine: Engine, args: FormatArgs) -> Result<u8, Error> {
    let answer = ask(&engine).await;
    if let Some(template) = args.format.as_deref().filter(|template| !template.is_empty()) {
        let server = answer.as_ref().map_or(Document::Null, server);
        output::print(&format::one(&map([("Client", client()), ("Server", server)]), template)?)?;
    } else {
        let server = answer.as_ref().map(|server| block("Server: davit", &self::server(server)));
        output::print(
            &(block("Client: davit", &client())
                + &server.map(|text| format!("\n{text}")).unwrap_or_default()),
        )?;
    }
    answer.map(|_| exit::SUCCESS)
}

async fn ask(engine: &Engine) -> Result<VersionResponse, Error> {
    let answer = engine.system().await?.version(VersionRequest {}).await.map_err(RemoteError::from)?;
    Ok(answer.into_inner())
}

fn client() -> Document {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    map([
        ("Version", VERSION.into()),
        ("ApiVersion", "v1".into()),
        ("Os", std::env::consts::OS.into()),
        ("Arch", architecture.into()),
    ])
}

fn server(answer: &VersionResponse) -> Document {
    map([
        ("Version", answer.version.as_str().into()),
        ("ApiVersion", answer.api_version.as_str().into()),
        ("GitCommit", answer.commit.as_str().into()),
        ("RustVersion", answer.rust_version.as_str().into()),
        ("Os", answer.os.as_str().into()),
        ("Arch", answer.architecture.as_str().into()),
        ("KernelVersion", answer.kernel_version.as_str().into()),
    ])
}

/// Names as people read them.
fn block(head: &str, document: &Document) -> String {
    let text = |name: &str| match document.field(name) {
        Some(Document::Text(text)) => output::visible(text).into_owned(),
        _ => String::new(),
    };
    let platform = format!("{}/{}", text("Os"), text("Arch"));
    let lines = [
        ("Version", text("Version")),
        ("API version", text("ApiVersion")),
        ("Rust version", text("RustVersion")),
        ("Git commit", text("GitCommit")),
        ("OS/Arch", platform),
        ("Kernel version", text("KernelVersion")),
    ];
    let lines = lines.into_iter().filter(|(_, value)| !value.is_empty());
    std::iter::once(format!("{head}\n"))
        .chain(lines.map(|(name, value)| format!(" {:<17} {value}\n", format!("{name}:"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block() {
        let answer = VersionResponse {
            version: "1.2".into(),
            os: "linux".into(),
            architecture: "amd64".into(),
            ..VersionResponse::default()
        };
        assert_eq!(
            block("Server: davit", &server(&answer)),
            "Server: davit\n Version:          1.2\n OS/Arch:          linux/amd64\n"
        );
    }
}
