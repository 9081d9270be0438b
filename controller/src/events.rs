//! The log of changes as others see it: what an event says, and the feed that resumes by revision.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use davit_proto::container::{Container, NetworkStatus};
use davit_proto::system::{Event, WatchRequest, WatchResponse};
use davit_proto::time::system_time;
use futures_util::stream::{self, Stream};
use tokio::sync::broadcast::error::RecvError;

use crate::engine::Engine;
use crate::error::Error;
use crate::filter::Filters;
use crate::store::{Draft, Feed, TooOld};

/// Bytes of labels that an event carries; more are left out, for an event is a fact and no copy of the record.
const LABELS: usize = 8 << 10;

/// An event of a container: its name, its image, its labels, and what is particular.
pub fn of_container<const N: usize>(
    container: &Container,
    action: impl Into<String>,
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
    Draft { kind: "container", action: action.into(), id: container.id.clone(), attributes }
}

/// An event of a network that a container joins or leaves.
pub fn of_network(action: &str, network: &NetworkStatus, container_id: &str) -> Draft {
    let facts = [("name", network.network.as_str()), ("type", "bridge"), ("container", container_id)];
    let attributes = facts.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Draft { kind: "network", action: action.to_owned(), id: network.network_id.clone(), attributes }
}

/// Every change after a revision, or since a moment, as they come, and only what survives the death of this process. A
/// watcher that falls too far behind is caught up from the log, or told that it begins too far back.
///
/// # Errors
/// When the revision is too old, or a filter is not known.
pub async fn watch(
    engine: &Arc<Engine>,
    request: WatchRequest,
) -> Result<impl Stream<Item = Result<WatchResponse, Error>> + Send + 'static, Error> {
    let filters = Filters::new(&request.filters, &CONDITIONS)?;
    let moment = |at: Option<prost_types::Timestamp>| at.as_ref().map(system_time);
    let (since, until) = (moment(request.since), moment(request.until));
    let from = match (request.from_revision, since) {
        (0, Some(_)) => engine.store.oldest(),
        // "From now on" is a revision too, so that falling behind right away loses nothing.
        (0, None) if until.is_some_and(|until| until <= SystemTime::now()) => engine.store.oldest(),
        (0, None) => engine.store.revision(),
        (revision, _) => revision,
    };
    let (past, feed) = engine.store.events(from)?;
    // Where the watch begins is told too, and must not be forgotten either.
    engine.store.written(from).await;
    let watcher = Watcher {
        engine: engine.clone(),
        filters,
        since,
        until,
        past: past.into(),
        feed,
        seen: from,
        told: None,
        over: false,
    };
    Ok(stream::unfold(watcher, |mut watcher| async move {
        let next = watcher.next().await?;
        Some((next, watcher))
    }))
}

/// Changes that filters may keep back before the watcher is told how far it has come.
const SILENCE: u64 = 500;

/// One watch.
struct Watcher {
    engine: Arc<Engine>,
    filters: Filters,
    since: Option<SystemTime>,
    until: Option<SystemTime>,
    /// What is told before the feed.
    past: VecDeque<Arc<Event>>,
    feed: Feed,
    /// The last revision that was looked at.
    seen: u64,
    /// The last revision that the client was told.
    told: Option<u64>,
    over: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<WatchResponse, Error>> {
        if self.told.is_none() {
            return Some(Ok(self.say(None)));
        }
        while !self.over {
            let event = match self.take().await {
                Ok(event) => event?,
                Err(error) => {
                    self.over = true;
                    return Some(Err(error.into()));
                }
            };
            self.engine.store.written(event.revision).await;
            self.seen = event.revision;
            let at = event.at.as_ref().map_or(SystemTime::UNIX_EPOCH, system_time);
            let in_time =
                self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until);
            if in_time && admits(&self.filters, &event) {
                return Some(Ok(self.say(Some(Event::clone(&event)))));
            }
            if self.told.is_some_and(|told| event.revision - told >= SILENCE) {
                return Some(Ok(self.say(None)));
            }
        }
        None
    }

    fn say(&mut self, event: Option<Event>) -> WatchResponse {
        self.told = Some(self.seen);
        WatchResponse { event, revision: self.seen }
    }

    /// The next change; none when the watch is over.
    async fn take(&mut self) -> Result<Option<Arc<Event>>, TooOld> {
        loop {
            if let Some(event) = self.past.pop_front() {
                return Ok(Some(event));
            }
            let left = self.until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
            let next = match left {
                None => self.feed.recv().await,
                Some(left) => match tokio::time::timeout(left, self.feed.recv()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(None),
                },
            };
            match next {
                Ok(event) => return Ok(Some(event)),
                Err(RecvError::Closed) => return Ok(None),
                Err(RecvError::Lagged(_)) => {
                    let (missed, fresh) = self.engine.store.events(self.seen)?;
                    (self.past, self.feed) = (missed.into(), fresh);
                }
            }
        }
    }
}

/// Conditions of a watch.
const CONDITIONS: [&str; 7] = ["type", "container", "event", "label", "image", "network", "volume"];

fn admits(filters: &Filters, event: &Event) -> bool {
    let fact = |name: &str| event.attributes.get(name).map(String::as_str);
    let of_kind = |kind: &str, text: &str| {
        event.r#type == kind && (event.id.starts_with(text) || fact("name") == Some(text))
    };
    let is_image = |text: &str| {
        let image = if event.r#type == "image" { Some(event.id.as_str()) } else { fact("image") };
        image.is_some_and(|image| image == text || without_tag(image) == text) || of_kind("image", text)
    };
    filters.any("type", |text| event.r#type == text)
        && filters.any("event", |text| event.action == text || is_general(text, &event.action))
        && filters.any("container", |text| of_kind("container", text))
        && filters.any("network", |text| of_kind("network", text))
        && filters.any("volume", |text| of_kind("volume", text))
        && filters.any("image", is_image)
        && filters.labels(&event.attributes)
}

/// `exec_start` also stands for `exec_start: ls -l`, and so on.
fn is_general(text: &str, action: &str) -> bool {
    matches!(text, "exec_create" | "exec_start" | "health_status")
        && action.strip_prefix(text).is_some_and(|rest| rest.starts_with(':'))
}

/// A reference without its tag: a colon before a slash belongs to a port.
fn without_tag(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    }
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

    #[test]
    fn a_general_word_stands_for_its_kinds_and_an_image_for_its_tags() {
        let told = |kind: &str, action: &str, image: &str| Event {
            r#type: kind.into(),
            action: action.into(),
            id: "ab".repeat(32),
            attributes: HashMap::from([("image".into(), image.into()), ("name".into(), "web".into())]),
            ..Event::default()
        };
        let admitted = |key: &str, value: &str, event: &Event| {
            let filter = Filter { key: key.into(), value: value.into() };
            admits(&Filters::new(&[filter], &CONDITIONS).unwrap(), event)
        };
        let exec = told("container", "exec_start: ls -l", "host:5000/tool:1");
        assert!(admitted("event", "exec_start", &exec) && admitted("event", "exec_start: ls -l", &exec));
        assert!(!admitted("event", "exec", &exec) && !admitted("event", "exec_create", &exec));
        assert!(admitted("image", "host:5000/tool", &exec) && admitted("image", "host:5000/tool:1", &exec));
        assert!(!admitted("image", "host", &exec));
        assert!(admitted("volume", "web", &told("volume", "create", "")));
        assert!(!admitted("network", "web", &told("volume", "create", "")));
    }
}
