//! Gives memory back while there is nothing to do. A start, a pull or a crowd of containers takes a lot for a moment, and
//! neither the allocator nor the kernel would ever take it back by itself: an engine at rest shall cost little.

use std::io;
use std::time::Duration;

use davit_sys::resident;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// The part of that time in which an engine at rest may have worked.
const CALM: u32 = 20;
/// What may come back into memory before it is given back once more.
const SLACK: u64 = 4 << 20;

/// Looks on for as long as the engine lives.
pub async fn rest() {
    let (mut worked, mut kept) = (resident::worked(), None);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = resident::worked();
        let calm = now.saturating_sub(worked) < LOOK / CALM;
        worked = now;
        if !calm {
            continue;
        }
        // Beside the work: the allocator's locks are held for it.
        let given = tokio::task::spawn_blocking(move || give_back(kept)).await;
        match given.map_err(io::Error::other).flatten() {
            Ok(left) => kept = Some(left),
            Err(error) => {
                tracing::warn!(%error, "memory that is free cannot be given back");
                return;
            }
        }
    }
}

/// Answers with what is in memory after it, or was after the last time.
fn give_back(kept: Option<u64>) -> io::Result<u64> {
    match kept {
        Some(kept) if resident::bytes()? < kept.saturating_add(SLACK) => return Ok(kept),
        Some(_) => {}
        // Only once: what the calls since then have brought back is what the next ones run.
        None => resident::give_back_program()?,
    }
    resident::give_back_free();
    resident::bytes()
}
