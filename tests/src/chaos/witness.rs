//! What containers themselves say of their lives, in a folder of the host that they have in common with the test.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::Host;

/// The program of each container. It writes down each of its lives, notices when there is another one beside it, counts
/// in its log, and says where it was when it is asked to end.
pub const PROGRAM: &str = r#"
me=$(cat /proc/sys/kernel/random/uuid)
echo "$me" >> /witness/lives
echo "$me" > /witness/current
n=0
trap 'echo "last $n"; exit 42' TERM
echo "life $(date +%s)"
while :; do
    n=$((n + 1))
    echo "line $n"
    read -r other < /witness/current
    [ "$other" = "$me" ] || echo "$me beside $other" >> /witness/twice
    sleep 0.7
done
"#;

/// The folder with one folder for each container.
#[derive(Debug, Clone)]
pub struct Witness(PathBuf);

impl Witness {
    /// On the host's own disk, which is never full.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(host: &Host) -> Result<Self> {
        let folder = host.folder().join("witness");
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// The folder of one container, empty.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn fresh(&self, name: &str, generation: u64) -> PathBuf {
        let folder = self.of(name, generation);
        fs::create_dir_all(&folder).expect("make a witness's folder");
        folder
    }

    /// The folder of one container.
    #[must_use]
    pub fn of(&self, name: &str, generation: u64) -> PathBuf {
        self.0.join(format!("{name}-{generation}"))
    }
}

/// How many lives a container says that it had.
#[must_use]
pub fn lives(folder: &Path) -> usize {
    fs::read_to_string(folder.join("lives")).unwrap_or_default().lines().count()
}

/// What it said of others beside it.
#[must_use]
pub fn twice(folder: &Path) -> Option<String> {
    fs::read_to_string(folder.join("twice")).ok()
}
