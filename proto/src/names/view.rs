//! What one container sees.

use std::fmt::Write as _;

use super::{NamesError, ZoneId};
use crate::id::{ContainerId, Name};

const MARK: &str = "davit-view 1";
/// Bytes of the longest view.
const MAX_VIEW: usize = 256 << 10;

/// What one container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whether names that nobody here has are asked for outside.
    pub forward: bool,
    /// Its networks, the first one first.
    pub zones: Vec<ZoneId>,
    /// Names that only this container knows.
    pub links: Vec<Link>,
}

/// A name that only one container knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The name, in small letters.
    pub name: Name,
    /// The container that it stands for.
    pub container: ContainerId,
}

/// Name of a container's view.
#[must_use]
pub fn view_file(container: &ContainerId) -> String {
    format!("{container}.view")
}

impl View {
    /// Bytes of the longest one.
    pub const MAX: usize = MAX_VIEW;

    /// As a file.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!("{MARK}\nforward {}\n", if self.forward { "yes" } else { "no" });
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            writeln!(text, "{key} {value}").expect("writing to a string cannot fail");
        };
        self.zones.iter().for_each(|zone| line("zone", zone));
        for Link { name, container } in &self.links {
            line("link", &format_args!("{} {container}", name.as_str().to_ascii_lowercase()));
        }
        text
    }

    /// From a file.
    ///
    /// # Errors
    /// When it is no view of this version.
    pub fn parse(text: &str) -> Result<Self, NamesError> {
        if text.len() > MAX_VIEW {
            return Err(NamesError::line(text.as_bytes(), "begins a view that is too long"));
        }
        let mut lines = text.lines();
        if lines.next() != Some(MARK) {
            return Err(NamesError::Mark("view"));
        }
        let mut view = Self { forward: false, zones: Vec::new(), links: Vec::new() };
        for line in lines {
            let bad = |rule| NamesError::line(line.as_bytes(), rule);
            match line.split_once(' ') {
                Some(("forward", "yes")) => view.forward = true,
                Some(("forward", "no")) => view.forward = false,
                Some(("zone", id)) => {
                    view.zones.push(id.parse().map_err(|_| bad("must name a network"))?);
                }
                Some(("link", rest)) => {
                    let rule = "must be a name and a container";
                    let (name, container) = rest.split_once(' ').ok_or_else(|| bad(rule))?;
                    let name: Name =
                        name.to_ascii_lowercase().parse().map_err(|_| bad("must begin with a name"))?;
                    let container = container.parse().map_err(|_| bad("must end with a container"))?;
                    view.links.push(Link { name, container });
                }
                _ => return Err(bad("is not known")),
            }
        }
        Ok(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(digit: &str) -> String {
        digit.repeat(64)
    }

    #[test]
    fn the_text_is_a_promise() {
        let view = View {
            forward: true,
            zones: vec![id("a").parse().unwrap(), id("b").parse().unwrap()],
            links: vec![Link { name: "db".parse().unwrap(), container: id("c").parse().unwrap() }],
        };
        let text =
            format!("davit-view 1\nforward yes\nzone {}\nzone {}\nlink db {}\n", id("a"), id("b"), id("c"));
        assert_eq!(view.render(), text);
        assert_eq!(View::parse(&text).unwrap(), view);
    }

    #[test]
    fn what_is_no_view_is_refused() {
        let good = "davit-view 1\nforward no\n";
        assert!(View::parse(good).is_ok_and(|view| !view.forward && view.zones.is_empty()));
        for bad in ["", "davit-view 2\n", "forward yes\n"] {
            assert!(matches!(View::parse(bad), Err(NamesError::Mark(_))), "{bad:?}");
        }
        for line in ["forward maybe", "zone ../x", "zone", "link db", "link a/b cc", "", "x y"] {
            let text = format!("{good}{line}\n");
            assert!(matches!(View::parse(&text), Err(NamesError::Line { .. })), "{line:?}");
        }
        assert!(View::parse(&" ".repeat(MAX_VIEW + 1)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_parsed(forward: bool, zones in prop::collection::vec("[0-9a-f]{64}", 0..4),
                                      links in prop::collection::vec(("[a-z0-9][a-z0-9_.-]{0,40}", "[0-9a-f]{64}"), 0..6)) {
            let links = links.into_iter().map(|(name, container)| Link {
                name: name.parse().unwrap(),
                container: container.parse().unwrap(),
            });
            let zones = zones.iter().map(|zone| zone.parse().unwrap()).collect();
            let view = View { forward, zones, links: links.collect() };
            prop_assert_eq!(View::parse(&view.render()).unwrap(), view);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(davit-view 1\n)?(.|\n){0,300}") {
            let _ = View::parse(&text);
        }
    }
}
