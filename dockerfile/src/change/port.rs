//! EXPOSE's ports: `80`, `80/udp`, `8000-8010/tcp`.

use crate::limit;

/// What can be carried.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// The ports that a word names, as an image's config names them. What stands before a colon is the host's side,
/// which an image cannot know: it is left out, as it always was.
pub(super) fn ports(word: &str) -> Result<Vec<String>, &'static str> {
    let (range, protocol) = word.rsplit_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !PROTOCOLS.contains(&protocol.as_str()) {
        return Err("the protocol can be tcp, udp or sctp");
    }
    let range = range.rsplit_once(':').map_or(range, |(_, container)| container);
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    if first > last {
        return Err("the range ends before it begins");
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn number(text: &str) -> Result<u16, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && *number > 0);
    number.ok_or("a port is a number from 1 to 65535")
}

/// The ports of several words, of which there may be [`limit::PORTS`].
pub(super) fn all(words: &[String]) -> Result<Vec<String>, (String, &'static str)> {
    let mut found = Vec::new();
    for word in words {
        found.extend(ports(word).map_err(|reason| (word.clone(), reason))?);
        if found.len() > limit::PORTS {
            return Err((word.clone(), "there are more ports than can be"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_counted_out() {
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(ports("8000-8002/sctp").unwrap(), ["8000/sctp", "8001/sctp", "8002/sctp"]);
        assert_eq!(ports("127.0.0.1:8080:80").unwrap(), ["80/tcp"]);
        for wrong in ["", "0", "65536", "80/x", "a", "+80", "90-80", "80-", "-80", "80/", "80//tcp"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
        assert!(all(&["1-65535".into(), "1-65535/udp".into()]).is_err());
    }
}
