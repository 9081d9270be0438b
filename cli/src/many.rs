//! One verb on many objects: each is tried, whatever became of the others.

use futures_util::StreamExt as _;

use crate::error::Error;
use crate::{exit, output};

/// How many at the same time.
const WIDTH: usize = 50;

/// Does something with each target, prints what it answers in the order of the targets, and complains of
/// each that failed.
async fn each(
    targets: Vec<String>,
    width: usize,
    act: impl AsyncFn(String) -> Result<String, Error>,
) -> Result<u8, Error> {
    let mut code = exit::SUCCESS;
    let answers = targets.into_iter().map(|target| act(target));
    let mut answers = std::pin::pin!(futures_util::stream::iter(answers).buffered(width));
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(text) if text.is_empty() => {}
            Ok(text) => output::line(&text)?,
            // The others would only say the same.
            Err(error @ (Error::Unreachable(_) | Error::Pipe)) => return Err(error),
            Err(error) => {
                output::error(&error);
                code = exit::FAILURE;
            }
        }
    }
    Ok(code)
}

/// All at the same time: for what takes long and disturbs nobody.
pub async fn together(
    targets: Vec<String>,
    act: impl AsyncFn(String) -> Result<String, Error>,
) -> Result<u8, Error> {
    each(targets, WIDTH, act).await
}

/// One after the other: where the order matters.
pub async fn in_turn(
    targets: Vec<String>,
    act: impl AsyncFn(String) -> Result<String, Error>,
) -> Result<u8, Error> {
    each(targets, 1, act).await
}
