//! The log of changes as others see it: what an event says, and the feed that resumes by revision.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use davit_proto::container::Container;
use davit_proto::system::{Event, WatchRequest, WatchResponse};
use davit_proto::types::Filter;
use futures_util::stream::{self, Stream};
use tokio::sync::broadcast::error::RecvError;

use crate::engine::Engine;
use crate::error::Error;
use crate::store::{Draft, TooOld};

/// Bytes of labels that an event carries; more are left out, for an event is a fact and no copy of the record.
const LABELS: usize = 8 << 10;

/// An event of a container: its name, its image, its labels, and what is particular.
pub fn of_container<const N: usize>(
    container: &Container,
    action: &'static str,
    facts: [(&str, String); N],
) -> Draft {
    let mut attributes = HashMap::new();
    let size: usize = container.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size <= LABELS {
        attributes.extend(container.labels.clone());
    }
    attributes.insert("name".to_owned(), container.name.clone());
    let image = container.spec.as_ref().map(|spec| spec.image.clone()).unwrap_or_default();
    attributes.insert("image".to_owned(), image);
    attributes.extend(facts.into_iter().map(|(key, value)| (key.to_owned(), value)));
    Draft { kind: "container", action, id: container.id.clone(), attributes }
}

/// Every change after a revision, as they come. A watcher that falls too far behind is told so and begins again from
/// what it saw last.
///
/// # Errors
/// When the revision is too old, or a filter is not known.
pub fn watch(
    engine: &Arc<Engine>,
    request: WatchRequest,
) -> Result<impl Stream<Item = Result<WatchResponse, Error>> + Send + 'static, Error> {
    let filters = Filters::new(request.filters)?;
    // "From now on" is a revision too, so that falling behind right away loses nothing.
    let from = if request.from_revision == 0 { engine.store.revision() } else { request.from_revision };
    let (past, feed) = engine.store.events(from)?;
    let state = (VecDeque::from(past), feed, filters, engine.clone(), from, false);
    Ok(stream::unfold(state, |(mut past, mut feed, filters, engine, mut seen, over)| async move {
        if over {
            return None;
        }
        loop {
            let next = match past.pop_front() {
                Some(event) => Ok(event),
                None => feed.recv().await,
            };
            match next {
                Ok(event) => {
                    seen = event.revision;
                    if filters.admit(&event) {
                        let response = WatchResponse { event: Some(Event::clone(&event)) };
                        return Some((Ok(response), (past, feed, filters, engine, seen, false)));
                    }
                }
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => match engine.store.events(seen) {
                    Ok((missed, fresh)) => (past, feed) = (missed.into(), fresh),
                    Err(error) => {
                        let error: TooOld = error;
                        return Some((Err(error.into()), (past, feed, filters, engine, seen, true)));
                    }
                },
            }
        }
    }))
}

/// Conditions of a watch: of the same key one must hold, of each key.
#[derive(Debug)]
struct Filters(HashMap<String, Vec<String>>);

impl Filters {
    fn new(filters: Vec<Filter>) -> Result<Self, Error> {
        let mut by_key: HashMap<String, Vec<String>> = HashMap::new();
        for filter in filters {
            if !matches!(filter.key.as_str(), "type" | "container" | "event" | "label" | "image") {
                return Err(Error::Invalid {
                    what: "filter",
                    value: filter.key,
                    rule: "must be type, container, event, label or image".to_owned(),
                });
            }
            by_key.entry(filter.key).or_default().push(filter.value);
        }
        Ok(Self(by_key))
    }

    fn admit(&self, event: &Event) -> bool {
        self.0.iter().all(|(key, values)| values.iter().any(|value| holds(key, value, event)))
    }
}

fn holds(key: &str, value: &str, event: &Event) -> bool {
    let fact = |name: &str| event.attributes.get(name).map(String::as_str);
    match key {
        "type" => event.r#type == value,
        "event" => event.action == value,
        "container" => {
            event.r#type == "container" && (event.id.starts_with(value) || fact("name") == Some(value))
        }
        "image" => fact("image") == Some(value) || (event.r#type == "image" && event.id == value),
        "label" => match value.split_once('=') {
            Some((name, wanted)) => fact(name) == Some(wanted),
            None => fact(value).is_some(),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(key: &str, value: &str) -> Filter {
        Filter { key: key.into(), value: value.into() }
    }

    #[test]
    fn conditions_of_one_key_are_alternatives_and_all_keys_hold() {
        let event = Event {
            r#type: "container".into(),
            action: "die".into(),
            id: "ab".repeat(32),
            attributes: HashMap::from([("name".into(), "web".into()), ("tier".into(), "1".into())]),
            ..Event::default()
        };
        let admits = |filters: &[(&str, &str)]| {
            Filters::new(filters.iter().map(|(k, v)| filter(k, v)).collect()).unwrap().admit(&event)
        };
        assert!(admits(&[]));
        assert!(admits(&[("event", "start"), ("event", "die")]));
        assert!(!admits(&[("event", "start")]));
        assert!(admits(&[("container", "web"), ("label", "tier=1"), ("type", "container")]));
        assert!(admits(&[("container", "abab"), ("label", "tier")]));
        assert!(!admits(&[("container", "web"), ("label", "tier=2")]));
        assert!(Filters::new(vec![filter("colour", "red")]).is_err());
    }
}
