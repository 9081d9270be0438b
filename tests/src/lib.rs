//! What the end-to-end tests stand on: real binaries, each engine in namespaces of its own.
//!
//! - [`host`]: a host of a test's own: mount, network and process namespaces that end with the test
//! - [`engine`]: `davitd` with its own root, run directory, socket and cgroup, and the `davit` that talks to it
//! - [`cgroup`]: a container's limits and counters as the host's files show them, v1 or v2
//! - [`left`]: what containers and networks leave when they are gone
//! - [`chance`]: numbers that follow from a seed
//! - [`chaos`]: clients that ask at random while everything is killed, and a verdict after it
//! - [`sweep`]: operations whose n-th system call fails, or is their engine's last
//! - [`context`]: a folder that is built
//! - [`recipe`]: a command that is run again and again, also while the engine is killed
//! - [`disk`]: a disk of a test's own, which can be small, and whose power can be cut
//! - [`tree`]: what a file tree holds, to the last attribute
//! - [`store`]: whether what an engine keeps of its images is whole, judged by the files
//! - [`place`]: a network namespace: who asks and who answers there
//! - [`rich`]: an image with all that a file tree can have
//! - [`judge`]: other people's tools, which judge what we write
//! - [`buildah`]: the judge of our builds
//! - [`case`]: Dockerfiles, and what must come of them
//! - [`registry`]: Debian's `docker-registry`, filled by `skopeo`
//! - [`image`]: images made for the purpose
//! - [`scene`]: a canary and a secret beside an engine, for what is hostile
//! - [`terminal`]: a real terminal, by tmux
//! - [`person`]: somebody at such a terminal
//! - [`wiring`]: who is on which network, told by everybody who keeps it
//! - [`wait`]: waiting on a condition with a deadline, never on the clock

pub mod buildah;
pub mod case;
pub mod cgroup;
pub mod chance;
pub mod chaos;
pub mod context;
pub mod disk;
pub mod engine;
pub mod events;
pub mod host;
pub mod image;
pub mod judge;
pub mod left;
pub mod person;
pub mod place;
pub mod recipe;
pub mod registry;
pub mod rich;
pub mod scene;
pub mod store;
pub mod sweep;
pub mod terminal;
pub mod tree;
pub mod wait;
pub mod wiring;
