//! `stats`: what containers use, round by round. The counters are the shims'; nothing is kept here.

use std::sync::Arc;
use std::time::Duration;

use davit_proto::container::{Container, StatsRequest, StatsResponse};
use davit_proto::id::ContainerId;
use davit_proto::task;
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::live::{is_live, status_of};
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

/// From one round to the next.
const ROUND: Duration = Duration::from_secs(1);
/// Shims that are asked at once.
const AT_ONCE: usize = 16;

/// Streams counters: a frame a container, then one that ends the round.
///
/// # Errors
/// When a container that was named is not there.
pub fn stats(
    engine: &Arc<Engine>,
    request: &StatsRequest,
) -> Result<impl Stream<Item = Result<StatsResponse, Error>> + Send + 'static + use<>, Error> {
    let chosen = request.containers.iter().map(|name| engine.find(name)).collect::<Result<Vec<_>, _>>()?;
    let mut clock = interval(ROUND);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let rounds = Rounds { engine: engine.clone(), chosen, all: request.all, clock };
    let rounds = stream::unfold(Some(rounds), next);
    let rounds = rounds.take(if request.once { 1 } else { usize::MAX });
    Ok(rounds.flat_map(|round| stream::iter(round.into_iter().map(Ok))))
}

struct Rounds {
    engine: Arc<Engine>,
    /// None for all.
    chosen: Vec<ContainerId>,
    all: bool,
    clock: Interval,
}

/// One round; none when all that were chosen are gone.
async fn next(rounds: Option<Rounds>) -> Option<(Vec<StatsResponse>, Option<Rounds>)> {
    let mut rounds = rounds?;
    rounds.clock.tick().await;
    let containers = rounds.containers();
    if containers.is_empty() && !rounds.chosen.is_empty() {
        return None;
    }
    let asked = containers.into_iter().map(|container| of_container(rounds.engine.clone(), container));
    let mut round: Vec<StatsResponse> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    round.push(StatsResponse { round_end: true, ..StatsResponse::default() });
    Some((round, Some(rounds)))
}

impl Rounds {
    fn containers(&self) -> Vec<Container> {
        if !self.chosen.is_empty() {
            return self.chosen.iter().filter_map(|id| self.engine.container(id).ok()).collect();
        }
        let (mut containers, _) = self.engine.containers();
        containers.retain(|container| self.all || is_live(status_of(container).phase()));
        containers
    }
}

/// The counters of one container. Of one that cannot be asked there are none, and others do not wait for it.
async fn of_container(engine: Arc<Engine>, container: Container) -> StatsResponse {
    let mut answer = StatsResponse {
        container_id: container.id.clone(),
        name: container.name,
        ..StatsResponse::default()
    };
    let Ok(id) = container.id.parse::<ContainerId>() else { return answer };
    let Ok(shim) = engine.shim_heard(&id).await else { return answer };
    match within(SHORT, "read the counters", shim.tasks().stats(task::StatsRequest {})).await {
        Ok(counters) => fill(&mut answer, &counters, engine.facts.host.memory),
        Err(error) => {
            let error = davit_proto::status::chain(&error);
            tracing::debug!(container_id = %id, %error, "no counters");
        }
    }
    answer
}

fn fill(answer: &mut StatsResponse, counters: &task::StatsResponse, memory: u64) {
    answer.at = counters.at;
    answer.cpu_nanoseconds = counters.cpu_nanoseconds;
    answer.memory_bytes = counters.memory_bytes;
    answer.memory_limit_bytes = match counters.memory_limit_bytes {
        0 => memory,
        limit => limit.min(memory),
    };
    answer.pids = counters.pids;
    answer.network_received_bytes = counters.network_received_bytes;
    answer.network_sent_bytes = counters.network_sent_bytes;
    answer.block_read_bytes = counters.block_read_bytes;
    answer.block_write_bytes = counters.block_write_bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_last_limit() {
        for (limit, wanted) in [(0, 1000), (600, 600), (5000, 1000)] {
            let mut answer = StatsResponse::default();
            let counters = task::StatsResponse { memory_limit_bytes: limit, ..Default::default() };
            fill(&mut answer, &counters, 1000);
            assert_eq!(answer.memory_limit_bytes, wanted);
        }
    }
}
