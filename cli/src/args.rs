//! What a person can type after a verb: clap types only, without behaviour. The verbs themselves stand in
//! [`crate::verb`].

pub mod build;
pub mod build_limit;
pub mod container;
pub mod image;
pub mod limit;
pub mod manifest;
pub mod network;
pub mod run;
pub mod system;
pub mod volume;

/// Reads a switch as docker does: `--rm`, `--rm=false`.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false is wanted".into()),
    }
}
