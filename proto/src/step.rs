//! The names by which builds find again what a step made: images like any other, called by a digest of all that went
//! into the step. People are shown them only when they ask for everything.

/// Where such images are named. No registry has this name: `.invalid` is nobody's.
pub const REPOSITORY: &str = "build.invalid/step";

/// Whether a reference is such a name.
#[must_use]
pub fn is_step(reference: &str) -> bool {
    reference.strip_prefix(REPOSITORY).is_some_and(|rest| rest.starts_with(':'))
}

/// Where an index that is a cache says which step a manifest is of.
pub const ANNOTATION: &str = "davit.step";

/// The name of the cache that lies beside an image: in its repository, by the digest of its manifest in hex digits.
#[must_use]
pub fn beside(repository: &str, digest: &str) -> String {
    format!("{repository}:sha256-{digest}.steps")
}
