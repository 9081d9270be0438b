//! The log of changes as others see it: what an event says, and the feed that resumes by revision.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use davit_proto::container::Container;
use davit_proto::system::{Event, WatchRequest, WatchResponse};
use futures_util::stream::{self, Stream};
use tokio::sync::broadcast::error::RecvError;

use crate::engine::Engine;
use crate::error::Error;
use crate::filter::Filters;
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
    let filters = Filters::new(&request.filters, &CONDITIONS)?;
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
                    if admits(&filters, &event) {
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

/// Conditions of a watch.
const CONDITIONS: [&str; 5] = ["type", "container", "event", "label", "image"];

fn admits(filters: &Filters, event: &Event) -> bool {
    let fact = |name: &str| event.attributes.get(name).map(String::as_str);
    let is_container = |text: &str| {
        event.r#type == "container" && (event.id.starts_with(text) || fact("name") == Some(text))
    };
    let is_image = |text: &str| fact("image") == Some(text) || (event.r#type == "image" && event.id == text);
    filters.any("type", |text| event.r#type == text)
        && filters.any("event", |text| event.action == text)
        && filters.any("container", is_container)
        && filters.any("image", is_image)
        && filters.labels(&event.attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::types::Filter;

    #[test]
    fn conditions_of_one_key_are_alternatives_and_all_keys_hold() {
        let event = Event {
            r#type: "container".into(),
            action: "die".into(),
            id: "ab".repeat(32),
            attributes: HashMap::from([("name".into(), "web".into()), ("tier".into(), "1".into())]),
            ..Event::default()
        };
        let filters = |pairs: &[(&str, &str)]| {
            let filter = |(key, value): &(&str, &str)| Filter { key: (*key).into(), value: (*value).into() };
            Filters::new(&pairs.iter().map(filter).collect::<Vec<_>>(), &CONDITIONS)
        };
        let admitted = |pairs: &[(&str, &str)]| admits(&filters(pairs).unwrap(), &event);
        assert!(admitted(&[]));
        assert!(admitted(&[("event", "start"), ("event", "die")]));
        assert!(!admitted(&[("event", "start")]));
        assert!(admitted(&[("container", "web"), ("label", "tier=1"), ("type", "container")]));
        assert!(admitted(&[("container", "abab"), ("label", "tier")]));
        assert!(!admitted(&[("container", "web"), ("label", "tier=2")]));
        assert!(filters(&[("colour", "red")]).is_err());
    }
}
