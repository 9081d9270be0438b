//! What a resolver is told, off the wire.

use std::net::SocketAddr;
use std::path::PathBuf;

use davit_proto::task::Names;

use crate::names::{Config, parse_server};
use crate::task::TaskError;

/// Servers that one container may name.
const MAX_SERVERS: usize = 8;

/// The resolver that a request describes.
pub fn decode(names: Names) -> Result<Config, TaskError> {
    let view = PathBuf::from(&names.view);
    if !view.is_absolute() {
        let rule = "must be an absolute path";
        return Err(TaskError::Invalid { name: "names.view", value: names.view, rule });
    }
    if names.servers.len() > MAX_SERVERS {
        let rule = "at most 8 can be named";
        return Err(TaskError::Invalid {
            name: "names.servers",
            value: names.servers.len().to_string(),
            rule,
        });
    }
    let server = |text: String| -> Result<SocketAddr, TaskError> {
        let rule = "must be an address, with a port or without";
        parse_server(&text).ok_or(TaskError::Invalid { name: "names.servers", value: text, rule })
    };
    let servers = names.servers.into_iter().map(server).collect::<Result<_, _>>()?;
    Ok(Config { view, servers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_servers_are_checked() {
        let names = |view: &str, servers: &[&str]| {
            decode(Names { view: view.into(), servers: servers.iter().map(|s| (*s).to_owned()).collect() })
        };
        let config = names("/run/x.view", &["10.0.0.1", "[::1]:5353"]).unwrap();
        assert_eq!(config.servers, ["10.0.0.1:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
        assert!(names("x.view", &[]).is_err() && names("", &[]).is_err());
        assert!(names("/x", &["dns.example"]).is_err() && names("/x", &["1.1.1.1"; 9]).is_err());
    }
}
